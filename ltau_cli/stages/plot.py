"""Artifacts to a figure."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.errors import UsageError
from ltau_cli.figures.style import Data, Panel, draw_page, looks, read_style, save_figure
from ltau_cli.output import STDOUT, check_target, open_text, replace_atomically
from ltau_cli.progress import Progress, silent
from ltau_cli.stages.panels import accuracy, cdf, dynamics, scored
from ltau_cli.stages.panels.sources import Given, NotGivenError
from ltau_cli.stages.true_errors import Truth
from ltau_cli.writers.tables import write_table

FORMATS = ("png", "pdf", "svg")
OVERVIEW = "overview"


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Attributes
    ----------
    panels : callable
        Prepares its panels.
    artifacts : tuple of str
        Kinds of artifacts it is drawn from.
    options : tuple of str
        Options that mean something to it.
    at_most : int or None
        Artifacts in all.
    """

    panels: Callable[[Given], list[Panel]]
    artifacts: tuple[str, ...]
    options: tuple[str, ...] = ()
    at_most: int | None = 1


_KNOWN = ("calibration", "scores")
KINDS: dict[str, Kind] = {
    "reliability": Kind(accuracy.reliability_panels, _KNOWN, ("--true", "--group")),
    "parity": Kind(accuracy.parity_panels, _KNOWN, ("--true",)),
    "cdf": Kind(cdf.cdf_panels, ("model", "scores"), ("--rows",), at_most=2),
    "trajectories": Kind(dynamics.trajectories_panels, ("errors",), ("--rows",)),
    "map": Kind(dynamics.map_panels, ("errors",)),
    "ood": Kind(scored.ood_panels, ("model", "scores"), ("--ood-labels",), at_most=None),
    "sparsification": Kind(accuracy.sparsification_panels, _KNOWN, ("--true",)),
    "trace": Kind(scored.trace_panels, ("scores",), at_most=None),
    "coverage": Kind(accuracy.coverage_panels, _KNOWN, ("--true", "--group")),
}
_FITTING = {"errors": "trajectories", "model": "cdf", "calibration": "reliability"}


def run(
    kind: str | None,
    paths: Sequence[Path],
    output: Path,
    *,
    true_errors: Truth | None = None,
    group: str | None = None,
    ood_labels: str | None = None,
    rows: tuple[int, ...] = (),
    style: Path | None = None,
    data: Path | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Draw one figure.

    Parameters
    ----------
    kind : str or None
        A key of :data:`KINDS`, or ``overview``; None takes what fits the artifacts.
    paths : sequence of Path
        The artifacts.
    output : Path
        Figure file; its ending sets the format.
    true_errors : Truth, optional
        True errors of the rows of the scores artifact.
    group : str, optional
        Labels of its rows, see :func:`ltau_cli.stages.true_errors.read_rows`.
    ood_labels : str, optional
        File that says of each of its rows whether it is out of domain (1) or not (0).
    rows : tuple of int
        Samples or rows to draw, from 0.
    style : Path, optional
        Style file of matplotlib.
    data : Path, optional
        CSV file that gets what was drawn; ``-`` is standard output.
    force : bool
        Replace existing files.
    progress : Progress
        Shows the reading of an error log.

    Returns
    -------
    dict
        ``output``, ``kind`` and the ``titles`` of the panels.

    Raises
    ------
    UsageError
        If the ending is unknown, or the figure cannot be drawn from what is given.
    InputError
        If true errors, labels or the style cannot be used.
    OutputError
        If a file may not or cannot be written.
    """
    check_target(output, force=force)
    if data is not None and data != STDOUT:
        check_target(data, force=force)
    file_format = output.suffix.lower().lstrip(".")
    if file_format not in FORMATS:
        raise UsageError(
            f"cannot tell the format of {output}", hint="end it in " + ", ".join(FORMATS)
        )
    settings = {} if style is None else read_style(style)
    with contextlib.ExitStack() as stack:
        artifacts = [stack.enter_context(open_artifact(path)) for path in paths]
        given = Given(
            artifacts, true_errors, group, ood_labels, rows, stack.enter_context(Hasher()), progress
        )
        chosen = kind or _fitting_kind(given)
        _check_options(chosen, given)
        panels = _overview(given) if chosen == OVERVIEW else _panels(chosen, given)
        with looks(settings):
            page = draw_page(panels, columns=min(3, len(panels)) if chosen == OVERVIEW else 1)
            with replace_atomically(output, force=force) as temporary:
                save_figure(page.figure, temporary, file_format)
    if data is not None:
        with open_text(data, force=force) as stream:
            names, blocks = _fill_in(page.data)
            write_table(stream, names, blocks)
    return {"output": output, "kind": chosen, "titles": page.titles}


def _fitting_kind(given: Given) -> str:
    """Return the kind that fits the artifacts."""
    kinds = {artifact.kind for artifact in given.artifacts}
    if len(given.artifacts) == 1 and kinds != {"scores"}:
        return _FITTING[kinds.pop()]
    if kinds == {"model", "scores"}:
        return "ood"
    if kinds == {"scores"}:
        return "trace" if given.truth is None else "parity"
    return OVERVIEW


def _panels(name: str, given: Given) -> list[Panel]:
    kind = KINDS[name]
    for artifact in given.artifacts:
        if artifact.kind not in kind.artifacts:
            raise UsageError(
                f"no {name} can be drawn from {artifact.path}, which is of kind {artifact.kind}",
                hint="give an artifact of kind " + " or ".join(kind.artifacts),
            )
    if kind.at_most == 1 and len(given.artifacts) > 1:
        raise UsageError(f"{name} is drawn from one artifact, not {len(given.artifacts)}")
    _check_single(name, given, "model", *(("scores",) if kind.at_most is not None else ()))
    return kind.panels(given)


def _overview(given: Given) -> list[Panel]:
    """Return the panels of every kind that the artifacts allow."""
    _check_single(OVERVIEW, given, "errors", "model", "calibration")
    panels = []
    for name, kind in KINDS.items():
        if {artifact.kind for artifact in given.artifacts}.isdisjoint(kind.artifacts):
            continue
        with contextlib.suppress(NotGivenError):
            panels += kind.panels(_for_overview(name, given))
    return panels


def _for_overview(name: str, given: Given) -> Given:
    """Let the CDFs be those of the training set, or of the first scores where it is not given."""
    if name != "cdf":
        return given
    return replace(given, artifacts=given.of("model") or given.of("scores")[:1])


def _check_single(name: str, given: Given, *kinds: str) -> None:
    for kind in kinds:
        found = given.of(kind)
        if len(found) > 1:
            raise UsageError(
                f"{name} takes one artifact of kind {kind}, not both {found[0].path} and "
                f"{found[1].path}"
            )


def _check_options(name: str, given: Given) -> None:
    """Refuse options that mean nothing here."""
    named = {
        "--true": given.truth is not None,
        "--group": given.group is not None,
        "--ood-labels": given.ood_labels is not None,
        "--rows": bool(given.rows),
    }
    for option in (option for option, there in named.items() if there):
        takers = [kind for kind, spec in KINDS.items() if option in spec.options]
        if name not in takers and (name != OVERVIEW or option == "--rows"):
            raise UsageError(f"{option} belongs to {' and '.join(takers)}, not to {name}")
        if option != "--rows" and len(given.of("scores")) != 1:
            raise UsageError(
                f"{option} is about the rows of one scores artifact, and "
                f"{len(given.of('scores')) or 'none'} {_were(len(given.of('scores')))} given"
            )
    if given.group is not None and given.truth is None:
        raise UsageError("--group needs the true errors too", hint="give them with --true FILE")


def _were(n: int) -> str:
    return "were" if n > 1 else "was"


def _fill_in(data: Data) -> tuple[list[str], Data]:
    """Give all blocks the same columns, empty where a block has none."""
    names = list(dict.fromkeys(name for block in data for name in block))

    def empty(block: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.str_]:
        return np.full(len(block["series"]), "")

    return names, [{name: block.get(name, empty(block)) for name in names} for block in data]
