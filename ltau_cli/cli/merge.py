"""``ltau merge``."""

from __future__ import annotations

from pathlib import Path

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console
from ltau_cli.cli.score import score_lines, warn_of_flagged


@options.command("merge")
@click.argument("parts", nargs=-1, required=True, type=options.FILE, metavar="PART...")
@options.output("scores.h5")
def command(
    parts: tuple[Path, ...], output: Path, force: bool, console: Console, as_json: bool
) -> None:
    """Join the results of ltau score --shard into one.

    The result is the same, byte for byte, as that of scoring all rows in one call. PARTs come in
    any order.

    \b
    Example:
      ltau merge scores.*-of-8.h5 -o scores.h5
    """
    from ltau_cli.stages import merge

    result = merge.run(parts, output, force=force, progress=console.progress)
    if as_json:
        console.json(result.to_dict())
    else:
        console.summary(score_lines(result))
    warn_of_flagged(result, console)
