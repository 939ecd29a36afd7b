"""``ltau ingest``."""

import os
from pathlib import Path
from typing import Any

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console
from ltau_cli.cli.report import log_lines
from ltau_cli.errors import UsageError
from ltau_cli.settings import IngestSettings


def _list_formats(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from ltau_cli.readers.logs.open import FORMATS

        width = max(map(len, FORMATS))
        for name, about in FORMATS.items():
            click.echo(f"{name.ljust(width)}  {about}")
        context.exit()


@options.command("ingest", IngestSettings)
@click.argument("logs", nargs=-1, required=True, metavar="LOG...")
@options.output("errors.h5")
@options.add(
    "--list-formats",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_formats,
    help="List what can be read, and exit.",
)
@options.workers
def command(
    logs: tuple[str, ...], output: Path, settings: IngestSettings, console: Console, **asked: Any
) -> None:
    """Read the error log of a training run, and check it.

    LOG is a folder of per-epoch files, an array of all epochs, a table, or evaluated frames; the
    format is found out (ltau ingest --list-formats). Several LOGs are the runs of an ensemble.
    NaN and infinite values are missing; vectors become their norms.

    \b
    Examples:
      ltau ingest logs/ --units eV/Å
      ltau ingest seed1/logs seed2/logs -o errors.h5 --epochs 10:
      ltau ingest logs/ --force           # again and again while a training runs
    """
    from ltau_cli.readers.logs.open import FORMATS
    from ltau_cli.stages import ingest

    if settings.format not in (None, *FORMATS):
        raise UsageError(
            f"there is no format {settings.format!r}", hint="formats: " + ", ".join(FORMATS)
        )
    units = os.fsencode(settings.units).decode("utf-8", "replace")  # whatever the locale
    result = ingest.run(
        logs, output, settings=settings, units=units, progress=console.progress, **asked
    )
    console.result(result, log_lines(result, f"{output}: "))
