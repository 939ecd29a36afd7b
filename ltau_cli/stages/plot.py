"""Artifacts to a figure."""

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Array
from ltau_cli.artifacts.model import ModelFile
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.views import VIEWS
from ltau_cli.errors import UsageError
from ltau_cli.figures.style import Data, Panel, draw_page, draw_png, looks, read_style, save_figure
from ltau_cli.output import check_target, open_results
from ltau_cli.progress import Progress, silent
from ltau_cli.readers.place import check_file
from ltau_cli.results import Result
from ltau_cli.settings import PlotSettings, documented
from ltau_cli.stages.panels import accuracy, scored, training
from ltau_cli.stages.panels.sources import NotGivenError, Sources
from ltau_cli.writers.tables import write_table

FORMATS = ("png", "pdf", "svg")
OVERVIEW = "overview"


@dataclass(frozen=True)
class Figure:
    """A kind of figure: what prepares its panels, the artifacts it takes, options, and how many."""

    panels: Callable[[Sources], list[Panel]]
    artifacts: tuple[str, ...]
    options: tuple[str, ...] = ()
    at_most: int | None = 1


_JUDGED = ("calibration", "scores")
FIGURES: dict[str, Figure] = {
    "reliability": Figure(accuracy.reliability_panels, _JUDGED, ("--true", "--group")),
    "parity": Figure(accuracy.parity_panels, _JUDGED, ("--true",)),
    "cdf": Figure(training.cdf_panels, ("model", "scores"), ("--rows",), at_most=2),
    "trajectories": Figure(training.trajectories_panels, ("errors",), ("--rows",)),
    "map": Figure(training.map_panels, ("errors",)),
    "ood": Figure(scored.ood_panels, ("model", "scores"), ("--ood-labels",), at_most=None),
    "sparsification": Figure(accuracy.sparsification_panels, _JUDGED, ("--true",)),
    "trace": Figure(scored.trace_panels, ("scores",), at_most=None),
    "coverage": Figure(accuracy.coverage_panels, _JUDGED, ("--true", "--group")),
}
KINDS = (*FIGURES, OVERVIEW)
_FITTING = {"errors": "trajectories", "model": "cdf", "calibration": "reliability"}


@dataclass(frozen=True, repr=False, kw_only=True)
class PlotResult(Result):
    """What was drawn, and the finding of each panel; ``figure`` is matplotlib's."""

    output: Path | None
    kind: str
    titles: list[str]
    figure: Any = field(repr=False)

    def _repr_png_(self) -> bytes:
        """Show the figure in a notebook."""
        return draw_png(self.figure)


@documented
def run(
    artifacts: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str] | None = None,
    *,
    kind: str | None = None,
    truth: str | os.PathLike[str] | None = None,
    settings: PlotSettings | None = None,
    force: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> PlotResult:
    """Draw one figure.

    Parameters
    ----------
    artifacts : path or sequence of paths
        What to draw from.
    output : path, optional
        Figure file; its ending sets the format. None only returns the figure.
    kind : str, optional
        One of :data:`KINDS`; None takes what fits the artifacts.
    truth : path, optional
        True errors of the rows of the scores artifact.

    Raises
    ------
    UsageError
        If the ending is unknown, or the figure cannot be drawn from what is given.
    InputError
        If true errors, labels or the style cannot be used.
    OutputError
        If a file may not or cannot be written.
    """
    several = [artifacts] if isinstance(artifacts, str | os.PathLike) else artifacts
    settings = PlotSettings.of(settings, options)
    data = settings.data
    if settings.style is not None:
        check_file(settings.style)
    inputs = [*several, truth, settings.group, settings.ood_labels, settings.style]
    target = None if output is None else Path(output)
    for path in (target, data):
        if path is not None:
            check_target(path, force=force, inputs=inputs)
    file_format = "" if target is None else _find_format(target)
    looked = {} if settings.style is None else read_style(settings.style)
    with contextlib.ExitStack() as stack:
        sources = Sources(
            [stack.enter_context(open_artifact(Path(path), *VIEWS)) for path in several],
            truth,
            settings,
            stack.enter_context(Hasher()),
            progress,
        )
        chosen = kind or _fitting_kind(sources)
        _check_options(chosen, sources)
        panels = _overview(sources) if chosen == OVERVIEW else _panels(chosen, sources)
        with looks(looked):
            page = draw_page(panels, columns=min(3, len(panels)) if chosen == OVERVIEW else 1)
            with open_results(force=force) as results:
                if target is not None:
                    save_figure(page.figure, results.binary(target), file_format)
                if data is not None:
                    write_table(results.text(data), *_fill_in(page.data))
    return PlotResult(output=target, kind=chosen, titles=page.titles, figure=page.figure)


def _find_format(path: Path) -> str:
    file_format = path.suffix.lower().lstrip(".")
    if file_format not in FORMATS:
        raise UsageError(
            f"cannot tell the format of {path}", hint="end it in " + ", ".join(FORMATS)
        )
    return file_format


def _fitting_kind(sources: Sources) -> str:
    """Return the kind that fits the artifacts."""
    kinds = {artifact.kind for artifact in sources.artifacts}
    if len(sources.artifacts) == 1 and kinds != {"scores"}:
        return _FITTING[kinds.pop()]
    if kinds == {"model", "scores"}:
        return "ood"
    if kinds == {"scores"}:
        return "trace" if sources.truth is None else "parity"
    return OVERVIEW


def _panels(name: str, sources: Sources) -> list[Panel]:
    kind = FIGURES[name]
    for artifact in sources.artifacts:
        if artifact.kind not in kind.artifacts:
            raise UsageError(
                f"no {name} can be drawn from {artifact.path}, which is of kind {artifact.kind}",
                hint="give an artifact of kind " + " or ".join(kind.artifacts),
            )
    if kind.at_most == 1 and len(sources.artifacts) > 1:
        raise UsageError(f"{name} is drawn from one artifact, not {len(sources.artifacts)}")
    _check_single(name, sources, "model", *(("scores",) if kind.at_most is not None else ()))
    return kind.panels(sources)


def _overview(sources: Sources) -> list[Panel]:
    """Return the panels of every kind that the artifacts allow."""
    _check_single(OVERVIEW, sources, "errors", "model", "calibration")
    panels = []
    for name, kind in FIGURES.items():
        if {artifact.kind for artifact in sources.artifacts}.isdisjoint(kind.artifacts):
            continue
        with contextlib.suppress(NotGivenError):
            panels += kind.panels(_for_overview(name, sources))
    return panels


def _for_overview(name: str, sources: Sources) -> Sources:
    """Let the CDFs be those of the training set, or of the first scores where it is not given."""
    if name != "cdf":
        return sources
    return replace(sources, artifacts=sources.of(ModelFile) or sources.scores[:1])


def _check_single(name: str, sources: Sources, *kinds: str) -> None:
    for kind in kinds:
        found = [artifact for artifact in sources.artifacts if artifact.kind == kind]
        if len(found) > 1:
            raise UsageError(
                f"{name} takes one artifact of kind {kind}, not both {found[0].path} and "
                f"{found[1].path}"
            )


def _check_options(name: str, sources: Sources) -> None:
    """Refuse options that mean nothing here."""
    named = {
        "--true": sources.truth is not None,
        "--group": sources.settings.group is not None,
        "--ood-labels": sources.settings.ood_labels is not None,
        "--rows": bool(sources.settings.rows),
    }
    for option in (option for option, there in named.items() if there):
        takers = [kind for kind, spec in FIGURES.items() if option in spec.options]
        if name not in takers and (name != OVERVIEW or option == "--rows"):
            raise UsageError(f"{option} belongs to {' and '.join(takers)}, not to {name}")
        if option != "--rows" and len(sources.scores) != 1:
            n = len(sources.scores)
            raise UsageError(
                f"{option} is about the rows of one scores artifact, and {n or 'none'} "
                f"{'were' if n > 1 else 'was'} given"
            )
    if sources.settings.group is not None and sources.truth is None:
        raise UsageError("--group needs the true errors too", hint="give them with --true FILE")


def _fill_in(data: Data) -> tuple[list[str], Data]:
    """Give all blocks the same columns, empty where a block has none."""
    names = list(dict.fromkeys(name for block in data for name in block))

    def empty(block: dict[str, Array]) -> npt.NDArray[np.str_]:
        return np.full(len(block["series"]), "")

    return names, [{name: block.get(name, empty(block)) for name in names} for block in data]
