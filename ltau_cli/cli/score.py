"""``ltau score``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console, number, percent, quantity, table
from ltau_cli.errors import UsageError

MANY_FLAGGED = 0.05
PROBABILITY = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command("score")
@click.argument("descriptors")
@click.option(
    "-m",
    "--model",
    type=options.PATH,
    default="model.h5",
    show_default=True,
    help="Model artifact of ltau fit.",
)
@options.output("scores.h5")
@click.option(
    "-k",
    type=click.IntRange(min=1),
    help="Nearest training samples to average over.  [default: the model's]",
)
@click.option(
    "--threshold",
    "thresholds",
    type=click.FloatRange(min=0, min_open=True),
    multiple=True,
    help="Error you can live with; repeatable.  [default: the model's]",
)
@click.option(
    "--quantile",
    "quantiles",
    type=PROBABILITY,
    multiple=True,
    default=(0.5, 0.9, 0.95),
    show_default=True,
    help="Error quantile to predict; repeatable.",
)
@click.option("--natoms", help="File with the atoms per frame: also score whole structures.")
@click.option(
    "--calibration",
    type=options.PATH,
    help="Calibration artifact: also give calibrated errors and bounds.",
)
@click.option("--cdf", "with_cdf", is_flag=True, help="Also store the error CDF of every row.")
@click.option(
    "--block-rows",
    type=click.IntRange(min=1),
    default=16_384,
    show_default=True,
    help="Rows in memory at a time; changes no result.",
)
@options.threads
@options.json_output
@options.common
def command(
    descriptors: str, model: Path, output: Path, console: Console, as_json: bool, **settings: Any
) -> None:  # fmt: skip
    """Score new descriptors: expected error, uncertainty, quantiles, out-of-domain signal.

    DESCRIPTORS are latent vectors (n_queries, width) of the same network layer as in ltau fit. A
    file that also holds natoms or structure gets per-structure aggregates. With -o - the scores
    go to standard output as CSV.

    \b
    Examples:
      ltau score descriptors.h5
      ltau score new.npy -m model.h5 --natoms natoms.npy --calibration calibration.h5
    """
    from ltau_cli.stages import score

    to_stdout = output == score.STDOUT
    if as_json and to_stdout:
        raise UsageError("-o - and --json both want standard output", hint="name a file with -o")
    summary = score.run(descriptors, model, output, progress=console.progress, **settings)
    if as_json:
        console.json(summary | {"output": output})
    else:
        console.summary(_lines(summary, output), to_stderr=to_stdout)
    if summary["flagged_share"] > MANY_FLAGGED:
        where = "; bounds that were calibrated in domain are too short there"
        console.warn(
            f"{percent(summary['flagged_share'])} of the rows are out of domain"
            + (where if len(summary["levels"]) else "")
        )


def _lines(summary: dict[str, Any], output: Path) -> list[str]:
    units = summary["units"]
    calibrated = "mean_calibrated_error" in summary
    structures = f" in {summary['n_structures']:,} structures" if summary["n_structures"] else ""
    expected = f"  mean expected error {quantity(summary['mean_expected_error'], units)}"
    if calibrated:
        expected += f", calibrated {quantity(summary['mean_calibrated_error'], units)}"
    lines = [f"{output}: {summary['n_queries']:,} rows{structures}, k = {summary['k']}", expected]
    bounds = zip(summary["levels"], summary["mean_bound"], strict=True)
    if calibrated:
        lines.append(
            "  mean error bound "
            + ", ".join(
                f"{quantity(bound, units)} ({percent(level, 0)})" for level, bound in bounds
            )
        )
    for threshold, share in zip(summary["thresholds"], summary["mean_uncertainty"], strict=True):
        lines.append(
            f"  mean probability of an error above {quantity(threshold, units)}: {percent(share)}"
        )
    lines += [
        f"  mean relative neighbor distance {number(summary['mean_relative_distance'])}; "
        f"{percent(summary['flagged_share'])} of the rows out of domain "
        f"(p < {summary['flagged_below']:g})",
        "  riskiest rows:",
    ]
    columns = {"row": "row"} | ({"structure": "structure"} if structures else {})
    columns |= {"calibrated_error": "calibrated"} if calibrated else {"expected_error": "expected"}
    columns |= {"uncertainty": "P(exceeds)", "relative_distance": "relative distance"}
    columns |= {"ood_pvalue": "p"}
    rows = [
        [str(row[key]) if key in ("row", "structure") else number(row[key]) for key in columns]
        for row in summary["riskiest"]
    ]
    return lines + ["    " + line for line in table(list(columns.values()), rows)]
