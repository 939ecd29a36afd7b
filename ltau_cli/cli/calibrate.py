"""``ltau calibrate``."""

from pathlib import Path
from typing import Any

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console, number, percent, quantity, table
from ltau_cli.cli.evaluate import metric_rows, pairs, predictor_header
from ltau_cli.cli.gates import check_gates, fail_if, parse_gates
from ltau_cli.results import CalibrateResult
from ltau_cli.settings import CalibrateSettings


@options.command("calibrate", CalibrateSettings)
@click.argument("sets", nargs=-1, required=True, metavar="SCORES TRUE_ERRORS ...")
@options.output("calibration.h5")
@fail_if
def command(
    sets: tuple[str, ...], output: Path, gates: tuple[str, ...],
    settings: CalibrateSettings, console: Console, **asked: Any,
) -> None:  # fmt: skip
    """Calibrate scores against the true errors of the same rows.

    TRUE_ERRORS holds one error magnitude per row of SCORES, (n,), or error vectors (n, 3), in an
    array, table (file.csv:COLUMN) or extxyz column, or is a file of ltau describe or an extxyz file
    with reference and predicted forces. Use rows that were not trained on, drawn like those you
    will predict. Half of the structures, or of the rows of a table, are fitted on, the other half
    shows how well the bounds hold.

    Give several pairs to add a few labeled ones far away: each set is split, and weighs the same.

    \b
    Examples:
      ltau calibrate scores.h5 true_errors.npy -o calibration.h5
      ltau calibrate scores.h5 true_errors.npy far_scores.h5 far_errors.npy
      ltau calibrate scores.h5 evaluated.xyz --group species --fail-if 'coverage90 < 0.88'
      ltau score new.npy --calibration calibration.h5
    """
    from ltau_cli.stages import calibrate

    conditions = parse_gates(gates)
    (scores, truth), *more = pairs(sets)
    summary = calibrate.run(scores, truth, output, more=more, settings=settings, **asked)
    console.result(summary, _lines(summary, settings.compare))
    measured = summary.heldout.own.headline()
    check_gates(conditions, [(f"held-out rows of {' and '.join(sets[::2])}", measured)])


def _lines(summary: CalibrateResult, compare: bool) -> list[str]:
    units, held = summary.units, summary.heldout
    whole = f" of {summary.n_structures} whole structures" if summary.n_structures else ""
    if summary.n_sets > 1:
        whole += f" in {summary.n_sets} sets"
    lines = [
        f"{summary.output}: fitted on {summary.n_fit:,} rows, checked on {summary.n_heldout:,} "
        f"others{whole}",
        *_method_lines(summary),
    ]
    if compare:
        header = ["method", "CRPS, cross-validated", "standard error"]
        rows = [
            [name, quantity(entry.crps, units), number(entry.standard_error)]
            for name, entry in summary.compared.items()
        ]
        lines += ["  " + line for line in table(header, rows)]
    for entry in held.thresholds:
        scaled = f" (threshold scaled by {number(entry.scale)})"
        lines.append(
            f"  calibration error of P(error > {quantity(entry.threshold, units)}): "
            f"{entry.calibration_error_before:.3f} before, "
            f"{entry.calibration_error_after:.3f} after"
            + (scaled if summary.method == "threshold" else "")
        )
    own = held.own
    before = {entry.level: entry.coverage for entry in held.quantiles}
    rows = [
        [
            percent(float(level), 0),
            percent(before[float(level)]) if float(level) in before else "-",
            percent(coverage),
            quantity(own.mean_width[level], units),
        ]
        for level, coverage in own.coverage.items()
    ]
    header = ["bound", "plain quantile covers", "calibrated covers", "mean bound"]
    lines += ["  " + line for line in table(header, rows)]
    rows = [row[1:] for row in metric_rows("", held.predictors)]
    return lines + ["  " + line for line in table(predictor_header()[1:], rows)]


def _method_lines(summary: CalibrateResult) -> list[str]:
    from ltau_cli.core.calibration.maps import FAR, FARTHEST, SATURATED, SOURCE

    held = summary.heldout
    words = {
        "expected_error": "expected error",
        "last_epoch_error": "last epoch's error",
        "relative_distance": "relative distance",
        "structure_distance": "structure's relative distance",
    }
    exponents = summary.exponents
    beyond = {
        SOURCE[name]: f" (^{exponents.get(SOURCE[name], 0) + value:.2f} beyond {FAR[name]:g}"
        + f", up to {(FARTHEST | SATURATED)[name]:g})"
        for name, value in exponents.items()
        if name in SOURCE
    }
    powers = [
        words.get(name, name)
        + ("" if exponents.get(name, 0) == 1 else f"^{exponents.get(name, 0):.2f}")
        + beyond.get(name, "")
        for name in dict.fromkeys(SOURCE.get(name, name) for name in exponents)
    ]
    units = summary.units
    taken = {
        "table": "rows of a table; if they are atoms: ltau score --natoms or --frames",
        "labeled": "a network that others trained, as the log is of one epoch",
        "trained, by row": "atoms of unknown structures; if they are rows of a table: ltau score "
        "--natoms none",
    }
    return [
        *(f"  taken for {what}" for kind, what in taken.items() if summary.prior.startswith(kind)),
        f"  method {summary.method}: error ~ " + " x ".join(powers),
        f"  mean error {quantity(held.trimmed_expected_error, units)} before, "
        f"{quantity(held.trimmed_calibrated_error, units)} after; true "
        f"{quantity(held.trimmed_true_error, units)}, each without its largest 1 %",
    ]
