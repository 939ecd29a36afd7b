"""``ltau plot``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console
from ltau_cli.errors import UsageError
from ltau_cli.settings import PlotSettings


@options.command("plot", PlotSettings)
@click.argument("words", nargs=-1, required=True, metavar="[KIND] ARTIFACT...")
@options.output("figure.png")
@options.add(
    "--true",
    "true_errors",
    metavar="FILE",
    help="True errors of a scores artifact, for reliability, parity, sparsification and coverage.",
)
def command(
    words: tuple[str, ...], output: Path, true_errors: str | None, settings: PlotSettings,
    console: Console, **asked: Any,
) -> None:  # fmt: skip
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
    if settings.data == output:
        raise UsageError(f"-o and --data both name {output}")
    from ltau_cli.stages import plot

    kind, paths = _split(words, plot.KINDS)
    result = plot.run(
        paths, output, kind=kind, truth=true_errors, settings=settings, progress=console.progress,
        **asked,
    )  # fmt: skip
    lines = [f"{result.output}: {result.kind}", *(f"  {t}" for t in result.titles)]
    console.result(result, lines)


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
