"""``ltau ingest``."""

from __future__ import annotations

from pathlib import Path

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console, quantity


@click.command("ingest")
@click.argument("log")
@options.output("errors.h5")
@click.option("--units", default="", help="Units of the errors, such as eV/Å; shown everywhere.")
@options.json_output
@options.common
def command(
    log: str, output: Path, force: bool, units: str, as_json: bool, console: Console
) -> None:
    """Read the error log of a training run.

    LOG is a folder of per-epoch .npy files, one .npy of shape (n_epochs, n_samples) or
    (n_epochs, n_samples, 3), or an .npz with one such array per run. NaN and infinite values are
    missing; vectors become their norms.

    \b
    Example:
      ltau ingest logs/ -o errors.h5 --units eV/Å
    """
    from ltau_cli.stages import ingest

    summary = ingest.run(log, output, units=units, force=force, progress=console.progress)
    if as_json:
        console.json(summary | {"output": output})
        return
    runs = f"{summary['n_runs']} run" + ("s" if summary["n_runs"] > 1 else "")
    missing = f"{summary['n_missing']:,} missing" if summary["n_missing"] else "none missing"
    console.summary([
        f"{output}: {summary['n_samples']:,} samples, {summary['n_epochs']} epochs of {runs}, "
        f"{missing}",
        f"  errors from {quantity(summary['smallest_positive'], '')} to "
        f"{quantity(summary['largest'], units)}, {summary['n_zero']:,} zeros",
        f"  mean error {quantity(summary['mean_first'], '')} in the first epoch, "
        f"{quantity(summary['mean_last'], units)} in the last",
    ])  # fmt: skip
