"""``ltau describe``."""

from pathlib import Path
from typing import Any

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console, number, quantity, table
from ltau_cli.results import CheckpointsResult, DescribeResult
from ltau_cli.settings import DescribeSettings


@options.command("describe", DescribeSettings)
@click.argument("frames", nargs=-1, required=True, type=options.FILE, metavar="FRAMES...")
@options.add(
    "--network",
    also="--model",
    required=True,
    metavar="PACKAGE:FILE",
    help="The trained network, such as mace:my.model; a pattern of checkpoints gives a log.",
)
@options.output("frames.h5")
def command(
    frames: tuple[Path, ...], network: str, output: Path, settings: DescribeSettings,
    console: Console, **asked: Any,
) -> None:  # fmt: skip
    """Let a trained network describe frames.

    Writes descriptors, predictions and references in one file. FRAMES are extxyz files. The network
    is named by its package: mace, nequip, sevenn, chgnet, matgl, metatomic or deepmd, each
    installed beside ltau (pip install 'ltau[mace]'), or python:FILE.py:FUNCTION, a function of your
    own. The result is read wherever descriptors, atoms per frame, labels, frames or true errors
    are.

    A pattern that fits the checkpoints of a run makes an error log of them, for ltau ingest; the
    result is a folder. A call that was stopped goes on where it was when it is repeated.

    \b
    Examples:
      ltau describe train.xyz --network mace:my.model -o train.h5
      ltau describe pool_*.xyz --network chgnet:0.3.0 -o pool.h5 --device cuda
      ltau describe pool.xyz --network mace:my.model --trajectory logs/ -o pool.h5
      ltau describe train.xyz --network 'mace:checkpoints/run_*.pt' --epochs ::50 -o eval/
    """
    from ltau_cli.stages import describe

    done = describe.run(
        frames, network, output, settings=settings, progress=console.progress, **asked
    )
    if isinstance(done, CheckpointsResult):
        console.result(done, checkpoint_lines(done))
    else:
        console.result(done, describe_lines(done))


def describe_lines(done: DescribeResult) -> list[str]:
    """Lines of the summary of a described artifact."""
    if done.up_to_date:
        return [f"{done.output}: up to date"]
    layer = "" if done.layer is None else f" of layer {done.layer}"
    lines = [
        f"{done.output}: {done.n_atoms:,} atoms in {done.n_frames:,} frames, {done.width} "
        f"features{layer}"
    ]
    if done.heads:
        told = ", ".join(f"{name} ({n:,} frames)" for name, n in done.heads.items())
        lines.append(f"  by the heads {told}" if len(done.heads) > 1 else f"  by the head {told}")
    names = done.references
    if done.mean_force_error is not None:
        lines.append(
            f"  mean force error {quantity(done.mean_force_error, done.units)} "
            f"(norm of the difference to {names['forces']})"
        )
    elif "forces" not in names:
        lines.append("  the frames have no reference forces")
    if done.mean_energy_error is not None:
        lines.append(
            f"  mean energy error {quantity(1000 * done.mean_energy_error, 'meV per atom')} "
            f"(difference to {names['energy']})"
        )
    if done.kept_epochs:
        epochs = ", ".join(map(str, done.kept_epochs))
        lines.append(f"  trajectory: the weights of the epochs {epochs}")
    return lines


def checkpoint_lines(done: CheckpointsResult) -> list[str]:
    """Lines of the summary of a log of checkpoints."""
    rows = [
        [str(epoch), number(mean)]
        for epoch, mean in zip(done.epochs, done.mean_force_error, strict=True)
    ]
    if len(rows) > 6:
        rows = [*rows[:3], ["...", ""], *rows[-3:]]
    return [
        f"{done.output}: the errors of {done.n_atoms:,} atoms in {done.n_frames:,} frames by "
        f"{len(done.epochs):,} of {done.n_checkpoints:,} checkpoints ({done.n_new:,} new)",
        *("  " + line for line in table(["epoch", "mean force error (eV/Å)"], rows)),
        f"  next: ltau ingest {done.output}",
    ]
