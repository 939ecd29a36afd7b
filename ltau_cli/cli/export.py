"""``ltau export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console
from ltau_cli.errors import UsageError
from ltau_cli.output import STDOUT
from ltau_cli.stages.settings import ExportFormat, ExportSettings

ROWS_ARE_FRAMES = "  every row counts as a frame; for atoms, score with --natoms"


@click.command("export")
@click.argument("scores", type=options.PATH)
@click.option(
    "-o",
    "--output",
    type=options.PATH,
    default="-",
    show_default=True,
    help="Result file; - is standard output.",
)
@click.option("-f", "--force", is_flag=True, help="Replace the output if it exists.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(get_args(ExportFormat)),
    help="Format.  [default: by the ending of the output; csv on standard output]",
)
@click.option(
    "--where",
    multiple=True,
    metavar="'COLUMN OP NUMBER'",
    help="Write only these rows, of extxyz and model-devi the frames with such a row; OP is < <= "
    "> >= == or !=, for text such as 'group == Cu' the last two. Repeatable: all must hold.",
)
@click.option("--columns", metavar="A,B,...", help="Columns to write.  [default: all]")
@click.option("--frames", type=options.PATH, help="The frames that were scored, for extxyz.")
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=ExportSettings.every,
    show_default=True,
    help="Steps between the frames, for model-devi.",
)
@options.json_output
@options.common
def command(
    scores: Path,
    output: Path,
    force: bool,
    columns: str | None,
    as_json: bool,
    console: Console,
    **settings: Any,
) -> None:
    """Write scores for other programs: tables, frames, DeePMD's model_devi.out.

    \b
    ending              format      what is written
    .csv .tsv .jsonl    by ending   a line per row, compressed with a further .gz
    .npz                npz         an array per column
    .xyz .extxyz        extxyz      your frames (--frames) with the scores of their atoms
    .out                model-devi  a line per frame, for DP-GEN and the like

    \b
    Examples:
      ltau export scores.h5 -o scores.csv.gz
      ltau export scores.h5 --where "ood_pvalue < 0.01" --columns row,ood_pvalue | head
      ltau export scores.h5 --frames pool.xyz -o scored.xyz
      ltau export scores.h5 -o model_devi.out
    """
    if output == STDOUT and as_json:
        raise UsageError("-o - and --json both want standard output", hint="name a file with -o")
    from ltau_cli.stages import export

    names = None if columns is None else tuple(name.strip() for name in columns.split(","))
    result = export.run(
        scores, output, settings=ExportSettings(columns=names, **settings), force=force,
        progress=console.progress,
    )  # fmt: skip
    if as_json:
        console.json(result.to_dict())
        return
    of = f" of {result.of:,}" if result.n != result.of else ""
    name = "standard output" if output == STDOUT else output
    line = f"{name}: {result.n:,}{of} {result.unit} as {result.format}"
    if result.format == "model-devi":
        line += f", max, min and mean {result.columns[0]} of each"
    lines = [line, ROWS_ARE_FRAMES] if result.rows_are_frames else [line]
    console.summary(lines, to_stderr=output == STDOUT)
