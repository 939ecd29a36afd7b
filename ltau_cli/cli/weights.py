"""``ltau weights``."""

from pathlib import Path
from typing import Any

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console, number, percent, quantity, table
from ltau_cli.errors import UsageError
from ltau_cli.output import STDOUT
from ltau_cli.results import WeightsResult
from ltau_cli.settings import WeightSettings

NEAREST_SHOWN = 3  # --json gives all that were found


@options.command("weights", WeightSettings, threads=True)
@click.argument("model", type=options.FILE)
@options.output(
    help="Result file, .npy or .txt; - is standard output.", told="weights.npy, or keep.txt"
)
def command(
    model: Path, output: Path | None, settings: WeightSettings, console: Console, **asked: Any
) -> None:
    """Weigh training samples by how hard they stay; list suspects.

    Suspects are samples whose labels may be wrong. The mean weight is 1. With --keep the numbers of
    the samples or structures to keep are written instead, from 0, in increasing order. What was
    never logged gets weight 1 and is kept.

    \b
    Examples:
      ltau weights model.h5 -o weights.npy
      ltau weights model.h5 --emphasis easy --per structure --natoms train_natoms.npy
      ltau weights model.h5 --emphasis easy --keep 0.95 -o keep.txt
    """
    output = output or Path("weights.npy" if settings.keep is None else "keep.txt")
    if output != STDOUT and output.suffix not in (".npy", ".txt"):
        raise UsageError(
            f"-o {output}: weights are written as .npy or .txt",
            hint=f"for example -o {output.with_suffix('.npy')}",
        )
    from ltau_cli.stages import weights

    result = weights.run(model, output, settings=settings, progress=console.progress, **asked)
    console.result(result, [*_lines(result), *_suspects(result)])


def _lines(result: WeightsResult) -> list[str]:
    name = "standard output" if result.output == STDOUT else result.output
    per, kept, never = result.per, result.n_kept is not None, result.n_never_logged
    which = {"hard": "hardest", "easy": "easiest"}[result.emphasis]
    if kept:
        first = f"{name}: {result.n_kept:,} of {result.n:,} {per}s kept, the {which}"
    else:
        first = f"{name}: {result.n:,} weights, one per {per}, the {which} weigh most"
    at = quantity(result.threshold, result.units)
    second = (
        f"  uncertainty at {at}: mean {number(result.uncertainty_mean)}, "
        f"standard deviation {number(result.uncertainty_std)}"
    )
    if kept:
        lines = [first, f"{second}; mean of the kept {number(result.kept_uncertainty_mean)}"]
    else:
        lines = [first, second, _spread(result)]
    if never:
        fate = "kept" if kept else "weight 1"
        lines.append(f"  {never:,} {per}s never logged: {fate}")
    return lines


def _spread(result: WeightsResult) -> str:
    size = result.effective_size
    assert size is not None, "told of weights"
    equal = f"{size:,.{0 if size >= 100 else 1}f} equal ones ({percent(size / result.n, 0)})"
    return (
        f"  {number(result.min)} to {number(result.max)}, mean {number(result.mean)}; "
        f"{result.n_at_floor:,} at the floor, {result.n_at_ceiling:,} at the ceiling; "
        f"they tell as much as {equal}"
    )


def _suspects(result: WeightsResult) -> list[str]:
    found, n, units = result.suspects, result.n_suspects, result.units
    if found is None or n is None:
        return []
    beyond = f"more than {result.outlier:g} robust standard deviations above their neighbors"
    if n == 0:
        return [f"  no suspects of wrong labels: no trajectories {beyond}"]
    shown = f"; the first {len(found):,}".removesuffix(" 1") if len(found) < n else ""
    labels = ["sample", "structure"]
    own = f"lower quartile ({units})" if units else "lower quartile"
    rows = [
        [
            str(suspect.sample),
            "-" if suspect.structure is None else str(suspect.structure),
            number(suspect.lower_quartile),
            number(suspect.neighbors_lower_quartile),
            number(suspect.score),
            ", ".join(
                f"{near.sample} ({number(near.lower_quartile)})"
                for near in suspect.nearest[:NEAREST_SHOWN]
            ),
        ]
        for suspect in found
    ]
    return [
        f"  {n:,} suspects of wrong labels: trajectories {beyond}{shown}",
        *table([*labels, own, "neighbors'", "score", "nearest training samples"], rows),
    ]
