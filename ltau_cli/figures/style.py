"""One look for all figures: one column wide, color-blind safe, the same bytes each time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COLUMN_INCHES = 3.4
# Okabe and Ito's colors, safe for the color blind (https://jfly.uni-koeln.de/color/).
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#777777"

_RC = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "savefig.dpi": 200,
    "svg.hashsalt": "ltau",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


@contextlib.contextmanager
def new_figure() -> Iterator[tuple[Any, Any]]:
    """Yield a figure and its axes in the house style; no display is needed."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(_RC):  # type: ignore[arg-type]
        figure = Figure(figsize=(COLUMN_INCHES, 0.85 * COLUMN_INCHES), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, figure.add_subplot()


def save_figure(figure: Any, path: Path, file_format: str) -> None:
    """Write a figure without the time of day, so that equal figures are equal files."""
    import matplotlib as mpl

    metadata: dict[str, Any] = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
        "svg": {"Date": None, "Creator": None},
    }[file_format]
    with mpl.rc_context(_RC):  # type: ignore[arg-type]
        figure.savefig(path, format=file_format, metadata=metadata)


def with_units(label: str, units: str) -> str:
    """``error (eV/Å)``, or ``error`` where the units are not known."""
    return f"{label} ({units})" if units else label
