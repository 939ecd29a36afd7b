"""``ltau select``."""

from pathlib import Path
from typing import Any

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console, number, quantity
from ltau_cli.errors import UsageError
from ltau_cli.output import STDOUT
from ltau_cli.results import SelectResult
from ltau_cli.settings import Option, SelectSettings


@options.command("select", SelectSettings)
@click.argument("scores", type=options.FILE)
@options.add(
    "-n", type=options.Number(int, Option("", low=1)), required=True, help="Frames to choose."
)
@options.output("chosen.txt")
def command(
    scores: Path, n: int, output: Path, settings: SelectSettings, console: Console, **asked: Any
) -> None:
    """Choose frames or rows to label next, by error and diversity.

    With --descriptors the chosen frames also differ from one another. Writes the numbers of the
    frames, from 0, one per line in the order of choice. Without atoms per frame in SCORES, --frames
    tells them; without either, rows are chosen.

    \b
    Examples:
      ltau select scores.h5 -n 100 --descriptors pool.npy
      ltau select scores.h5 -n 100 --trust-low 0.05 --trust-high 0.3
      ltau select scores.h5 -n 100 --frames pool.xyz --write chosen.xyz
    """
    frames, chosen_frames = settings.frames, settings.chosen_frames
    if chosen_frames is not None and frames is None:
        raise UsageError("--write needs the frames of the pool", hint="name them with --frames")
    if chosen_frames == STDOUT:
        raise UsageError("--write needs the name of a file", hint="for example --write chosen.xyz")
    if chosen_frames is not None and chosen_frames == output:
        raise UsageError(f"-o and --write both name {output}")
    low, high = settings.trust_low, settings.trust_high
    if low is not None and high is not None and low >= high:
        raise UsageError(f"--trust-low {low:g} is not below --trust-high {high:g}")
    from ltau_cli.stages import select

    result = select.run(scores, output, n, settings=settings, progress=console.progress, **asked)
    what = "row" if result.rows_are_frames else "frame"
    console.result(result, _lines(result, what))
    if result.n < result.wanted:
        place = "there" if result.n == result.n_frames else "within the trust bounds"
        console.warn(f"only {result.n:,} {what}s are {place}")


def _lines(result: SelectResult, what: str) -> list[str]:
    units, by = result.units, result.by
    name = "standard output" if result.output == STDOUT else result.output
    statistic = {"max": "its largest", "mean": "its mean"}.get(str(by), f"the {by} quantile of its")
    if result.rows_are_frames:
        statistic = "its"
    lines = [
        f"{name}: {result.n:,} of {result.n_frames:,} {what}s",
        f"  a {what} counts by {statistic} {result.column}, "
        f"{number(result.pool_min)} to {quantity(result.pool_max, units)}",
    ]
    if result.trust_low is not None or result.trust_high is not None:
        lines.append(f"  {result.n_in_bounds:,} {what}s within the trust bounds")
    lines.append(
        f"  of the chosen: {number(result.min)} to {quantity(result.max, units)}, mean "
        f"{quantity(result.mean, units)}; mean of all to choose from "
        f"{quantity(result.mean_in_bounds, units)}"
    )
    if result.mean_distance is not None:
        lines.append(
            f"  mean distance between the chosen {number(result.mean_distance)}, "
            f"between random ones {number(result.random_distance)}"
        )
    else:
        lines.append("  the largest were taken; --descriptors would make them diverse")
    if result.rows_are_frames:
        lines.append("  rows are chosen; frames of atoms: score with --natoms")
    return lines
