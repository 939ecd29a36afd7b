"""``ltau record``."""

from pathlib import Path

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console


@options.command("record", json=False, context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@options.add(
    "-o",
    "--output",
    type=options.FILE,
    default="logs",
    metavar="FOLDER",
    help="Folder of the log.  [default: logs]",
)
@options.add(
    "--keep",
    type=int,
    default=0,
    metavar="N",
    help="Weights to keep in FOLDER/weights, of epochs spread over the last two thirds of the "
    "training, for ltau describe --trajectory.  [default: none]",
)
def command(command: tuple[str, ...], output: Path, keep: int, console: Console) -> None:
    """Run a training command and log the errors of every sample.

    The trainer runs as ever; its losses, output and exit code are its own. Force errors go to the
    folder, per atom in the order of the training file, energy errors per atom to its folder energy:
    what ltau ingest reads, also while the training runs. A restart adds its epochs.

    \b
    Examples:
      ltau record -o logs/ -- mace_run_train --name my --train_file train.xyz ...
      ltau record -o logs/ -- torchrun --nproc_per_node 4 -m mace.cli.run_train ...
    """
    from ltau_cli.stages import record

    record.run(command, output, keep=keep, quiet=console.quiet)
