"""``ltau weights``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console, number, percent, quantity, table
from ltau_cli.core.choices import Emphasis, LeftOut
from ltau_cli.errors import UsageError
from ltau_cli.output import STDOUT
from ltau_cli.stages.settings import WeightSettings

NEAREST_SHOWN = 3  # --json gives all that were found

if TYPE_CHECKING:
    from ltau_cli.stages.weights import WeightsResult


@click.command("weights")
@click.argument("model", type=options.PATH)
@click.option(
    "-o",
    "--output",
    type=options.PATH,
    help="Result file, .npy or .txt; - is standard output.  [default: weights.npy, or keep.txt]",
)
@click.option("-f", "--force", is_flag=True, help="Replace the output if it exists.")
@click.option(
    "--emphasis",
    type=click.Choice(get_args(Emphasis)),
    default=WeightSettings.emphasis,
    show_default=True,
    help="Give the larger weights to what stays hard in training, or to what is easy.",
)
@click.option(
    "--per",
    type=click.Choice(get_args(LeftOut)),
    default=WeightSettings.per,
    show_default=True,
    help="What gets a weight.",
)
@click.option(
    "--natoms",
    help="File with the atoms per structure.  [default: as known to ltau fit --loo structure]",
)
@click.option(
    "--threshold",
    type=options.Finite(min=0, min_open=True),
    help="Threshold of the uncertainty, one of the model's.  [default: its first]",
)
@click.option(
    "--temperature",
    type=options.Finite(min=0.001),
    default=WeightSettings.temperature,
    show_default=True,
    help="Standard deviations of the uncertainty that change a weight e-fold; low is strong.",
)
@click.option(
    "--floor",
    type=options.Finite(0, 1),
    default=WeightSettings.floor,
    show_default=True,
    help="Smallest weight.",
)
@click.option(
    "--ceiling",
    type=options.Finite(min=1),
    default=WeightSettings.ceiling,
    show_default=True,
    help="Largest weight.",
)
@click.option(
    "--keep",
    type=options.Finite(0, 1, min_open=True),
    metavar="SHARE",
    help="Write the numbers of this share, the hardest or the easiest, instead of weights.",
)
@click.option(
    "--suspects",
    type=click.IntRange(min=0),
    default=WeightSettings.suspects,
    show_default=True,
    help="Show at most this many suspects of wrong labels; 0 looks for none.",
)
@options.threads
@options.json_output
@options.common
def command(
    model: Path,
    output: Path | None,
    threads: int,
    force: bool,
    as_json: bool,
    console: Console,
    **settings: Any,
) -> None:
    """Weigh training samples or structures by how hard they stay; list suspects of wrong labels.

    The mean weight is 1. With --keep the numbers of the samples or structures to keep are written
    instead, from 0, in increasing order. What was never logged gets weight 1 and is kept.

    \b
    Examples:
      ltau weights model.h5 -o weights.npy
      ltau weights model.h5 --emphasis easy --per structure --natoms train_natoms.npy
      ltau weights model.h5 --emphasis easy --keep 0.95 -o keep.txt
    """
    output = output or Path("weights.npy" if settings["keep"] is None else "keep.txt")
    if output == STDOUT and as_json:
        raise UsageError("-o - and --json both want standard output", hint="name a file with -o")
    if output != STDOUT and output.suffix not in (".npy", ".txt"):
        raise UsageError(
            f"-o {output}: weights are written as .npy or .txt",
            hint=f"for example -o {output.with_suffix('.npy')}",
        )
    from ltau_cli.stages import weights

    result = weights.run(
        model, output, settings=WeightSettings(**settings), threads=threads, force=force,
        progress=console.progress,
    )  # fmt: skip
    if as_json:
        console.json(result.to_dict())
    else:
        lines = [*_lines(result), *_suspects(result)]
        console.summary(lines, to_stderr=output == STDOUT)


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
    labels = ["sample", "structure"] if "structure" in found[0] else ["sample"]
    own = f"lower quartile ({units})" if units else "lower quartile"
    rows = [
        [
            *(str(suspect[label]) for label in labels),
            number(suspect["lower_quartile"]),
            number(suspect["neighbors_lower_quartile"]),
            number(suspect["score"]),
            ", ".join(
                f"{near['sample']} ({number(near['lower_quartile'])})"
                for near in suspect["nearest"][:NEAREST_SHOWN]
            ),
        ]
        for suspect in found
    ]
    return [
        f"  {n:,} suspects of wrong labels: trajectories {beyond}{shown}",
        *table([*labels, own, "neighbors'", "score", "nearest training samples"], rows),
    ]
