"""``ltau calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console, number, percent, quantity, table
from ltau_cli.cli.score import PROBABILITY


@click.command("calibrate")
@click.argument("scores", type=options.PATH)
@click.argument("true_errors")
@options.output("calibration.h5")
@click.option(
    "--level",
    "levels",
    type=PROBABILITY,
    multiple=True,
    default=(0.5, 0.8, 0.9, 0.95),
    show_default=True,
    help="Coverage of an error bound; repeatable.",
)
@click.option(
    "--fit-fraction",
    type=PROBABILITY,
    default=0.5,
    show_default=True,
    help="Share of the structures to fit on; the others check the fit.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the random choice of structures to fit on.",
)
@options.json_output
@options.common
def command(
    scores: Path, true_errors: str, output: Path, console: Console, as_json: bool, **settings: Any
) -> None:  # fmt: skip
    """Calibrate scores against the true errors of the scored rows.

    TRUE_ERRORS holds one error magnitude per row of SCORES, (n,), or error vectors (n, 3). Use
    rows that were not trained on, drawn like those you will predict. Half of the structures are
    fitted on, the other half shows how well the bounds hold.

    \b
    Example:
      ltau calibrate scores.h5 true_errors.npy -o calibration.h5
      ltau score new.npy --calibration calibration.h5
    """
    from ltau_cli.stages import calibrate

    summary = calibrate.run(scores, true_errors, output, **settings)
    if as_json:
        console.json(summary | {"output": output})
    else:
        console.summary(_lines(summary, output))


def _lines(summary: dict[str, Any], output: Path) -> list[str]:
    units, held = summary["units"], summary["heldout"]
    whole = f" of {summary['n_structures']} whole structures" if summary["n_structures"] else ""
    lines = [
        f"{output}: fitted on {summary['n_fit']:,} rows, checked on {summary['n_heldout']:,} "
        f"others{whole}",
        f"  mean true error {quantity(held['mean_true_error'], units)}; expected "
        f"{quantity(held['mean_expected_error'], units)} before, "
        f"{quantity(held['mean_calibrated_error'], units)} after (scale "
        f"{number(summary['error_scale'])}); rank correlation "
        f"{number(held['rank_correlation'])}",
    ]
    for entry in held["thresholds"]:
        lines.append(
            f"  the uncertainty given for {quantity(entry['threshold'], units)} holds for "
            f"{quantity(entry['scale'] * entry['threshold'], units)} (scale "
            f"{number(entry['scale'])}); calibration error "
            f"{entry['calibration_error_before']:.3f} before, "
            f"{entry['calibration_error_after']:.3f} after"
        )
    before = {entry["level"]: entry["coverage"] for entry in held["quantiles"]}
    rows = [
        [
            percent(entry["level"], 0),
            percent(before[entry["level"]]) if entry["level"] in before else "-",
            percent(entry["coverage"]),
            quantity(entry["mean_bound"], units),
        ]
        for entry in held["bounds"]
    ]
    header = ["bound", "plain quantile covers", "calibrated covers", "mean bound"]
    return lines + ["  " + line for line in table(header, rows)]
