"""``ltau evaluate``."""

from collections.abc import Mapping, Sequence

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console, number, percent, table
from ltau_cli.cli.gates import check_gates, fail_if, parse_gates
from ltau_cli.errors import UsageError
from ltau_cli.results import BinMetrics, EvaluateResult, Metrics
from ltau_cli.settings import EvaluateSettings

SHOWN_LEVEL = "0.9"


@options.command("evaluate", EvaluateSettings)
@click.argument("sets", nargs=-1, required=True, metavar="SCORES TRUE_ERRORS ...")
@options.add(
    "--by",
    type=click.Choice(["group", "distance"]),
    help="Also show the metrics of each group, or of bins of relative distance.",
)
@fail_if
def command(
    sets: tuple[str, ...], by: str | None, gates: tuple[str, ...], settings: EvaluateSettings,
    console: Console,
) -> None:  # fmt: skip
    """Compare scores with true errors, beside baselines.

    Shows rank correlation, coverage and CRPS. Give pairs of a scores artifact and the true errors
    of its rows. Rows that the calibration was fitted on are left out. The baselines are a constant,
    the neighbor distance alone, and the mean error of the row's group (its species, if ltau score
    was given --group).

    \b
    Examples:
      ltau evaluate scores_300K.h5 errors_300K.npy scores_900K.h5 errors_900K.npy
      ltau evaluate scores.h5 evaluated.xyz --by distance --fail-if 'coverage90 < 0.88'
    """
    from ltau_cli.stages import evaluate

    for name in ("group", "draws", "ood_labels"):
        if getattr(settings, name) is not None and len(sets) > 2:
            raise UsageError(
                f"--{name.replace('_', '-')} belongs to a single set",
                hint="evaluate one set per call",
            )
    conditions = parse_gates(gates)
    results = [evaluate.run(scores, truth, settings=settings) for scores, truth in pairs(sets)]
    if by is not None:
        _check_parts(results, sets[::2], by)
    if console.as_json:
        console.json([result.to_dict() for result in results])
    else:
        _show(results, by, console)
    headlines = [result.headline() for result in results]
    check_gates(conditions, zip(sets[::2], headlines, strict=True))


def pairs(sets: Sequence[str]) -> list[tuple[str, str]]:
    """Return each scores artifact with its true errors."""
    if len(sets) % 2:
        raise UsageError(
            f"{sets[-1]} has no partner", hint="give pairs: SCORES TRUE_ERRORS SCORES TRUE_ERRORS"
        )
    return list(zip(sets[::2], sets[1::2], strict=True))


def _check_parts(results: list[EvaluateResult], scores: Sequence[str], by: str) -> None:
    """Refuse ``--by`` where there is nothing to show."""
    for result, name in zip(results, scores, strict=True):
        if not result.distance_bins:
            raise UsageError(
                f"--by {by} needs calibrated scores; {name} was made without --calibration",
                hint="run ltau calibrate, then ltau score --calibration",
            )
        if by == "group" and not result.groups:
            raise UsageError(
                f"--by group: nothing says which group a row of {name} belongs to",
                hint="give a file of labels with --group",
            )


def _show(results: list[EvaluateResult], by: str | None, console: Console) -> None:
    rows = []
    for result in results:
        rows += metric_rows(result.set, result.predictors)
        if result.rank_ceiling is not None:
            best = ["", "best possible", *["-"] * (len(predictor_header()) - 2)]
            best[predictor_header().index("rank correlation")] = number(result.rank_ceiling, 2)
            rows.append(best)
    click.echo("\n".join(table(predictor_header(), rows)))
    for result in results:
        parts = {
            "group": [[str(part.group), *_cells(part)] for part in result.groups],
            "distance": [[_range(part), *_cells(part)] for part in result.distance_bins],
        }
        if by is not None:
            header = [f"{result.set} by {by}", *predictor_header()[2:]]
            click.echo("\n" + "\n".join(table(header, parts[by])))
    from ltau_cli.core.domain import rule_of_domain

    units = results[0].units or "the units of the log"
    rule = rule_of_domain(max(r.least_pvalue for r in results))
    shares = ", ".join(f"{percent(r.flagged_share)} of {r.set}" for r in results)
    line = f"errors in {units}; out of domain ({rule}): {shares}"
    auc = [r.roc_auc for r in results if r.roc_auc is not None]
    console.log(line + "".join(f"; ROC AUC {value:.3f}" for value in auc))


def predictor_header() -> list[str]:
    """Columns of :func:`metric_rows`."""
    return [
        "set", "predictor", "rows", "mean true error", "predicted", "rank correlation",
        "within groups", "90 % bound covers", "mean bound", "CRPS",
    ]  # fmt: skip


def metric_rows(name: str, predictors: Mapping[str, Metrics]) -> list[list[str]]:
    """Return one row of cells for each predictor of a set."""
    return [
        [name if i == 0 else "", predictor, *_cells(metrics)]
        for i, (predictor, metrics) in enumerate(predictors.items())
    ]


def _range(part: BinMetrics) -> str:
    return f"{part.from_:g} on" if part.to is None else f"{part.from_:g} to {part.to:g}"


def _cells(metrics: Metrics) -> list[str]:
    coverage = metrics.coverage.get(SHOWN_LEVEL)
    return [
        f"{metrics.n_rows:,}",
        number(metrics.mean_true_error),
        number(metrics.mean_predicted_error),
        number(metrics.rank_correlation, 2),
        number(metrics.rank_correlation_within_groups, 2),
        "-" if coverage is None else percent(coverage),
        number(metrics.mean_width.get(SHOWN_LEVEL)),
        number(metrics.crps),
    ]
