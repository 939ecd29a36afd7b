"""``ltau plot``."""

from __future__ import annotations

from pathlib import Path

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console

KINDS = ("cdf", "parity", "reliability")


@click.command("plot")
@click.argument("kind_and_artifact", nargs=-1, required=True, metavar="[KIND] ARTIFACT")
@options.output("figure.png")
@click.option("--true", "true_errors", help="True errors of a scores artifact, for parity.")
@options.common
def command(
    kind_and_artifact: tuple[str, ...],
    output: Path,
    force: bool,
    true_errors: str | None,
    console: Console,
) -> None:
    """Draw a figure; its ending sets the format: png, pdf or svg.

    \b
    KIND          drawn from                    shows
    reliability   calibration                   predicted against observed probability
    parity        calibration, scores --true    expected against true error
    cdf           model, scores --cdf           error CDFs
    Without KIND, the one that fits the artifact.

    \b
    Examples:
      ltau plot reliability calibration.h5 -o reliability.png
      ltau plot parity scores.h5 --true true_errors.npy -o parity.pdf
    """
    *kinds, artifact = kind_and_artifact
    if len(kinds) > 1:
        raise click.UsageError("give one kind and one artifact")
    if kinds and kinds[0] not in KINDS:
        raise click.UsageError(f"there is no figure {kinds[0]!r}; kinds: {', '.join(KINDS)}")
    from ltau_cli.stages import plot

    path = plot.run(
        kinds[0] if kinds else None, Path(artifact), output, true_errors=true_errors, force=force
    )
    console.summary([str(path)])
