"""``ltau bars``."""

from pathlib import Path

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console
from ltau_cli.settings import BarsSettings


@options.command("bars", BarsSettings)
@click.argument("labeled", type=options.FILE, metavar="LABELED")
@options.add(
    "--network",
    also="--model",
    required=True,
    metavar="PACKAGE:FILE",
    help="The trained network, such as sevenn:7net-0; see ltau describe.",
)
@options.add(
    "--test",
    multiple=True,
    type=options.FILE,
    metavar="FILE",
    help="Frames to score, and to judge if they have reference forces; repeatable.",
)
@options.output("bars", "Folder of the results.")
def command(
    labeled: Path, network: str, test: tuple[Path, ...], output: Path, force: bool,
    settings: BarsSettings, console: Console,
) -> None:  # fmt: skip
    """Make error bars for a network that others trained.

    LABELED are frames with reference forces. They are log and calibration set at once: each is
    scored by a model of the errors of the others. The folder gets a model, a calibration, scores
    and a verdict, which the other commands take as any other.

    \b
    Examples:
      ltau bars labeled.xyz --network sevenn:7net-0 --draws trajectories.txt --test new.xyz
      ltau score pool.h5 -m bars/model.h5 --calibration bars/calibration.h5
    """
    from ltau_cli.stages import bars

    done = bars.run(
        labeled, network, output, test=test, settings=settings, force=force,
        progress=console.progress,
    )  # fmt: skip
    law = " x ".join(
        f"{name.replace('_', ' ')}^{value:.2f}" for name, value in done.exponents.items() if value
    )
    kinds = f", and by {done.n_kinds} kinds left out one at a time" if done.n_kinds else ""
    lines = [
        f"{done.output}: {done.n_frames:,} labeled frames of {done.n_draws:,} draws{kinds}",
        f"  error ~ {law}",
        *(f"  {line}" for line in done.verdict),
    ]
    console.result(done, lines)
