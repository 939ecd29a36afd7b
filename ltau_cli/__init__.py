"""Error bars from training logs (LTAU, doi 10.1088/2632-2153/adb4b9).

Every name below is loaded when it is first used: ``import ltau_cli as ltau`` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ltau_cli.artifacts.model import load_model as load_model
    from ltau_cli.artifacts.views import open_artifact as open_artifact
    from ltau_cli.core.scoring import Scorer as Scorer
    from ltau_cli.live import Live as Live
    from ltau_cli.packages.recorder import Recorder as Recorder
    from ltau_cli.settings import BarsSettings as BarsSettings
    from ltau_cli.settings import CalibrateSettings as CalibrateSettings
    from ltau_cli.settings import DescribeSettings as DescribeSettings
    from ltau_cli.settings import ExportSettings as ExportSettings
    from ltau_cli.settings import FitSettings as FitSettings
    from ltau_cli.settings import IngestSettings as IngestSettings
    from ltau_cli.settings import PlotSettings as PlotSettings
    from ltau_cli.settings import ScoreSettings as ScoreSettings
    from ltau_cli.settings import SelectSettings as SelectSettings
    from ltau_cli.settings import WeightSettings as WeightSettings
    from ltau_cli.stages.bars import run as bars
    from ltau_cli.stages.calibrate import run as calibrate
    from ltau_cli.stages.describe import run as describe
    from ltau_cli.stages.evaluate import run as evaluate
    from ltau_cli.stages.export import run as export
    from ltau_cli.stages.fit import run as fit
    from ltau_cli.stages.info import run as info
    from ltau_cli.stages.ingest import run as ingest
    from ltau_cli.stages.plot import run as plot
    from ltau_cli.stages.score import run as score
    from ltau_cli.stages.select import run as select
    from ltau_cli.stages.weights import run as weights
    from ltau_cli.watch import Watch as Watch

# Without Live and Watch, which need ASE: "import *" works wherever ltau does.
__all__ = [
    "BarsSettings", "CalibrateSettings", "DescribeSettings", "ExportSettings", "FitSettings",
    "IngestSettings", "PlotSettings", "Recorder", "ScoreSettings", "Scorer",
    "SelectSettings", "WeightSettings",
    "bars", "calibrate", "describe", "evaluate", "export", "fit", "info", "ingest", "load_model",
    "open_artifact", "plot", "score", "select", "weights",
]  # fmt: skip
_HOME = {
    "Live": "live",
    "Recorder": "packages.recorder",
    "Scorer": "core.scoring",
    "Watch": "watch",
    "load_model": "artifacts.model",
    "open_artifact": "artifacts.views",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name not in __all__ and name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _HOME:
        value = getattr(importlib.import_module(f"ltau_cli.{_HOME[name]}"), name)
    elif name.endswith("Settings"):
        value = getattr(importlib.import_module("ltau_cli.settings"), name)
    else:
        value = importlib.import_module(f"ltau_cli.stages.{name}").run
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__, *_HOME]
