"""``ltau export``."""

from pathlib import Path
from typing import Any

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console
from ltau_cli.output import STDOUT
from ltau_cli.settings import ExportSettings

_ROWS_ARE_FRAMES = "  every row counts as a frame; for atoms, score with --natoms"


@options.command("export", ExportSettings)
@click.argument("scores", type=options.FILE)
@options.output("-", "Result file; - is standard output.")
def command(
    scores: Path, output: Path, settings: ExportSettings, console: Console, **asked: Any
) -> None:
    """Write scores for other programs: tables, frames, model_devi.

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
    from ltau_cli.stages import export

    result = export.run(scores, output, settings=settings, progress=console.progress, **asked)
    of = f" of {result.of:,}" if result.n != result.of else ""
    name = "standard output" if output == STDOUT else output
    line = f"{name}: {result.n:,}{of} {result.unit} as {result.format}"
    if result.format == "model-devi":
        line += f", max, min and mean {result.columns[0]} of each"
    console.result(result, [line, _ROWS_ARE_FRAMES] if result.rows_are_frames else [line])
