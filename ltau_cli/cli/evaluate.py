"""``ltau evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console, number, percent, table
from ltau_cli.errors import UsageError

SHOWN_LEVEL = "0.9"


@click.command("evaluate")
@click.argument("sets", nargs=-1, required=True, metavar="SCORES TRUE_ERRORS ...")
@options.json_output
@options.common
def command(sets: tuple[str, ...], as_json: bool, console: Console) -> None:
    """Compare scores with true errors, one line per test set.

    Give pairs of a scores artifact and the true errors of its rows. Rows that the calibration was
    fitted on are left out.

    \b
    Example:
      ltau evaluate scores_300K.h5 errors_300K.npy scores_900K.h5 errors_900K.npy
    """
    from ltau_cli.stages import evaluate

    if len(sets) % 2:
        raise UsageError(
            f"{sets[-1]} has no partner", hint="give pairs: SCORES TRUE_ERRORS SCORES TRUE_ERRORS"
        )
    results = [
        evaluate.run(Path(scores), truth)
        for scores, truth in zip(sets[::2], sets[1::2], strict=True)
    ]
    if as_json:
        console.json(results)
        return
    units = results[0]["units"]
    header = [
        "set", "rows", "mean true error", "mean expected", "calibrated", "rank correlation",
        "90 % bound covers", "out of domain",
    ]  # fmt: skip
    lines = table(header, [_row(result) for result in results])
    click.echo("\n".join(lines))
    below = results[0]["flagged_below"]
    console.log(f"errors in {units or 'the units of the log'}; out of domain: p < {below:g}")


def _row(result: dict[str, Any]) -> list[str]:
    coverage = result.get("coverage", {}).get(SHOWN_LEVEL)
    return [
        result["set"],
        f"{result['n_rows']:,}",
        number(result["mean_true_error"]),
        number(result["mean_expected_error"]),
        number(result.get("mean_calibrated_error")),
        number(result["rank_correlation"], 2),
        "-" if coverage is None else percent(coverage),
        percent(result["flagged_share"]),
    ]
