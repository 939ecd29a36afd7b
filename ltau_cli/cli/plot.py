"""``ltau plot``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console
from ltau_cli.errors import UsageError
from ltau_cli.output import STDOUT
from ltau_cli.stages.settings import PlotSettings


class RowNumbers(click.ParamType):  # type: ignore[type-arg]
    """``3,10,25``."""

    name = "I,J,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Check that they are numbers, and different ones."""
        if isinstance(value, tuple):
            return value
        rows = dict.fromkeys(options.whole_number(part.strip()) for part in str(value).split(","))
        if None in rows:
            self.fail(f"{value!r} is not a list of row numbers from 0, such as 3,10,25", param, ctx)
        return tuple(row for row in rows if row is not None)


@click.command("plot")
@click.argument("words", nargs=-1, required=True, metavar="[KIND] ARTIFACT...")
@options.output("figure.png")
@click.option(
    "--data", type=options.PATH, metavar="FILE", help="Also write what was drawn to this CSV file."
)
@click.option(
    "--true",
    "true_errors",
    metavar="FILE",
    help="True errors of a scores artifact, for reliability, parity, sparsification and coverage.",
)
@click.option(
    "--group",
    metavar="species|FILE",
    help="Labels of the rows of a scores artifact, with --true.  [default: those in the scores]",
)
@click.option(
    "--rows",
    type=RowNumbers(),
    default=PlotSettings.rows,
    help="Samples of trajectories, samples or scored rows of cdf, from 0.  [default: those with "
    "the lowest, median and highest error]",
)
@click.option(
    "--ood-labels",
    metavar="FILE",
    help="Which rows of a scores artifact are out of domain (1) and which not (0): adds the ROC "
    "curve to ood.",
)
@click.option("--style", type=options.PATH, metavar="FILE", help="A style file of matplotlib.")
@options.frame_keys
@options.json_output
@options.common
def command(
    words: tuple[str, ...],
    output: Path,
    force: bool,
    data: Path | None,
    true_errors: str | None,
    reference: str | None,
    prediction: str | None,
    as_json: bool,
    console: Console,
    **settings: Any,
) -> None:
    """Draw a figure; its ending sets the format: png, pdf or svg.

    \b
    KIND            drawn from                   shows
    reliability     calibration, scores --true   predicted against observed probability
    parity          calibration, scores --true   expected against true error
    cdf             model, scores --cdf          error CDFs, and that of the training set
    trajectories    errors                       error against epoch
    map             errors                       mean error against variability, suspects
    ood             model and scores ...         distances from the training set
    sparsification  calibration, scores --true   error without the most uncertain rows
    trace           scores ...                   uncertainty along a trajectory
    coverage        calibration, scores --true   coverage and width of the bounds
    overview        any of them                  all panels that they allow
    Without KIND, the one that fits the artifacts.

    \b
    Examples:
      ltau plot reliability calibration.h5 -o reliability.png
      ltau plot parity scores.h5 --true true_errors.npy -o parity.pdf --data parity.csv
      ltau plot ood model.h5 scores_300K.h5 scores_900K.h5 -o ood.pdf
    """
    if data == STDOUT and as_json:
        raise UsageError(
            "--data - and --json both want standard output", hint="name a file with --data"
        )
    if data == output:
        raise UsageError(f"-o and --data both name {output}")
    from ltau_cli.stages import plot
    from ltau_cli.stages.true_errors import Truth

    kind, paths = _split(words, plot.KINDS)
    result = plot.run(
        paths,
        output,
        kind=kind,
        truth=None if true_errors is None else Truth(true_errors, reference, prediction),
        settings=PlotSettings(data=data, **settings),
        force=force,
        progress=console.progress,
    )
    if as_json:
        console.json(result.to_dict())
    else:
        lines = [f"{result.output}: {result.kind}", *(f"  {t}" for t in result.titles)]
        console.summary(lines, to_stderr=data == STDOUT)


def _split(words: tuple[str, ...], kinds: Sequence[str]) -> tuple[str | None, list[Path]]:
    """Tell the kind of the figure from the artifacts."""
    first, *rest = words
    if first in kinds and (rest or not Path(first).exists()):
        if not rest:
            raise click.UsageError(f"no artifact to draw {first} from")
        return first, [Path(word) for word in rest]
    if rest and not Path(first).exists() and not Path(first).suffix:
        raise click.UsageError(f"there is no figure {first!r}; kinds: {', '.join(kinds)}")
    return None, [Path(word) for word in words]
