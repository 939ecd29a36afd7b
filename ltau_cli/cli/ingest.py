"""``ltau ingest``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console
from ltau_cli.cli.report import log_lines
from ltau_cli.errors import UsageError
from ltau_cli.readers.logs.options import EpochRange, LogOptions, Norm, Quantity
from ltau_cli.settings import Option


class EpochBounds(click.ParamType):  # type: ignore[type-arg]
    """``START:STOP:STEP``, each optional."""

    name = "START:STOP:STEP"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> EpochRange:
        """Split at the colons."""
        if isinstance(value, tuple):
            return value
        try:
            parts = [int(part) if part.strip() else None for part in str(value).split(":")]
        except ValueError:
            parts = []
        if not 2 <= len(parts) <= 3 or (len(parts) == 3 and parts[2] is not None and parts[2] < 1):
            self.fail(f"{value!r} is not START:STOP:STEP, such as 10: or 10:200:2", param, ctx)
        start, stop, step = [*parts, None][:3]
        return start, stop, step


def _columns(
    _context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    columns = {}
    for value in values:
        role, equals, name = value.partition("=")
        if not equals or role not in ("epoch", "sample", "error", "run") or not name:
            raise click.BadParameter(
                f"{value!r} is not ROLE=NAME with a role of epoch, sample, error, run",
                param=parameter,
            )
        columns[role] = name
    return columns


def _list_formats(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from ltau_cli.readers.logs.open import FORMATS

        width = max(map(len, FORMATS))
        for name, about in FORMATS.items():
            click.echo(f"{name.ljust(width)}  {about}")
        context.exit()


@options.command("ingest")
@click.argument("logs", nargs=-1, required=True, metavar="LOG...")
@options.output("errors.h5")
@options.add(
    "--append",
    is_flag=True,
    help="Add new epochs to an existing result; only their files are read.",
)
@options.add("--units", default="", help="Units of the errors, such as eV/Å; shown everywhere.")
@options.add("--format", metavar="NAME", help="Force a format; see --list-formats.")
@options.add(
    "--list-formats",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_formats,
    help="List what can be read, and exit.",
)
@options.add(
    "--quantity",
    type=click.Choice(get_args(Quantity)),
    help="Which errors, where a log holds both.",
)
@options.add(
    "--epochs",
    type=EpochBounds(),
    default=":",
    help="Epoch numbers to keep, as in a slice: 10: leaves out a burn-in of ten, -50: "
    "keeps the last fifty.",
)
@options.add(
    "--every",
    type=options.Number(int, Option("", low=1)),
    default=LogOptions.every,
    show_default=True,
    help="Of these, keep each N-th.",
)
@options.add(
    "--norm",
    type=click.Choice(get_args(Norm)),
    default=LogOptions.norm,
    show_default=True,
    help="Norm of error vectors.",
)
@options.add(
    "--missing",
    type=options.Number(float, Option("")),
    multiple=True,
    help="Value that stands for 'not logged', besides NaN and infinity; repeatable.",
)
@options.add(
    "--allow-missing",
    is_flag=True,
    help="Accept samples that were never logged (held out); they carry no weight.",
)
@options.add(
    "--column",
    "columns",
    multiple=True,
    callback=_columns,
    metavar="ROLE=NAME",
    help="Column of a table; roles: epoch, sample, error, run; repeatable.",
)
@options.add("--prediction-key", "prediction", help="Name of the prediction in frames.")
@options.add("--reference-key", "reference", help="Name of the reference in frames.")
@options.add("--natoms", metavar="FILE", help="Number of atoms of each frame: attaches structures.")
@options.add(
    "--frames",
    metavar="FILE",
    help="The training frames, instead of --natoms: attaches structures and species.",
)
@options.add("--group", metavar="FILE", help="Group label of each sample.")
@options.add("--sample-id", metavar="FILE", help="Your own name of each sample.")
@options.add("--magnitude", metavar="FILE", help="The target's magnitude of each sample.")
@options.workers
def command(
    logs: tuple[str, ...],
    output: Path,
    force: bool,
    append: bool,
    units: str,
    allow_missing: bool,
    as_json: bool,
    workers: str | None,
    console: Console,
    natoms: str | None,
    frames: str | None,
    group: str | None,
    sample_id: str | None,
    magnitude: str | None,
    **settings: Any,
) -> None:
    """Read the error log of a training run, and check it.

    LOG is a folder of per-epoch files, an array of all epochs, a table, or evaluated frames; the
    format is found out (ltau ingest --list-formats). Several LOGs are the runs of an ensemble.
    NaN and infinite values are missing; vectors become their norms.

    \b
    Examples:
      ltau ingest logs/ --units eV/Å
      ltau ingest seed1/logs seed2/logs -o errors.h5 --epochs 10:
      ltau ingest logs/ --append          # again and again while a training runs
    """
    from ltau_cli.readers.logs.labels import LabelFiles
    from ltau_cli.readers.logs.open import FORMATS
    from ltau_cli.stages import ingest

    if settings["format"] not in (None, *FORMATS):
        raise UsageError(
            f"there is no format {settings['format']!r}", hint="formats: " + ", ".join(FORMATS)
        )
    result = ingest.run(
        logs,
        output,
        options=LogOptions(**settings),
        labels=LabelFiles(natoms, frames, group, sample_id, magnitude),
        units=os.fsencode(units).decode("utf-8", "replace"),  # whatever the locale
        allow_missing=allow_missing,
        append=append,
        workers=workers,
        force=force,
        progress=console.progress,
    )
    if as_json:
        console.json(result.to_dict())
        return
    new = f", {result.n_new} of them new" if append else ""
    console.summary(log_lines(result, f"{output}: ", new))
