"""``ltau fit``."""

from pathlib import Path
from typing import Any

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console, number, percent, quantity, table
from ltau_cli.epochs import format_epochs
from ltau_cli.results import FitResult, IndexResult, Trial
from ltau_cli.settings import FitSettings

SHOWN_TRIALS = 5
DEFAULT_THRESHOLD = " (the mean error of the last epoch without its largest 1 %)"


@options.command("fit", FitSettings, threads=True)
@click.argument("errors", type=options.FILE)
@click.argument("descriptors")
@options.output("model.h5")
@options.workers
def command(
    errors: Path, descriptors: str, output: Path, settings: FitSettings, console: Console,
    **asked: Any,
) -> None:  # fmt: skip
    """Fit the errors of the training set and index its descriptors.

    ERRORS is the artifact of ltau ingest; DESCRIPTORS are the training samples' latent vectors,
    (n_samples, width), in the order of the log: .npy, .npz, .h5 or .txt (file.h5:/path names a
    dataset).

    \b
    Examples:
      ltau fit errors.h5 train_descriptors.npy -o model.h5 --threshold 0.1
      ltau fit errors.h5 train_descriptors.npy --tune --held-out val.npy val_errors.npy
    """
    from ltau_cli.stages import fit

    fitted = fit.run(
        errors, descriptors, output, settings=settings, progress=console.progress, **asked
    )
    lines = _lines(fitted, "" if settings.thresholds else DEFAULT_THRESHOLD)
    console.result(fitted, [*_trial_lines(fitted.trials), *lines])


def _lines(summary: FitResult, why: str) -> list[str]:
    units, index = summary.units, summary.index
    never = summary.n_never_logged
    n_shards = len(index.shards)
    lines = [
        f"{summary.output}: {summary.n_samples:,} samples at {summary.n_points:,} distinct points, "
        f"{summary.width} columns, {index.kind if index.in_domain else 'exact'} index"
        + (f" in {n_shards:,} shards" if n_shards else "")
        + f", k = {summary.k}",
        *["  a sample is a frame: its descriptors are the mean over its atoms"] * summary.averaged,
        *([f"  {never:,} samples were never logged and carry no weight"] if never else []),
        *_search_lines(index),
        f"  mean error over all epochs {quantity(summary.trimmed_error, units)} without the "
        f"largest 1 % ({number(summary.mean_error)} with all)",
        f"  leave-one-out: rank correlation {number(summary.loo_rank_correlation)} of a "
        "sample's mean error and its neighbors'",
    ]  # fmt: skip
    if summary.network_rank_correlation is not None:
        lines.append(
            "  errors of the last epoch and the network's own: rank correlation "
            f"{number(summary.network_rank_correlation)}"
        )
    for threshold, share in zip(summary.thresholds, summary.mean_uncertainty, strict=True):
        lines.append(f"  {percent(share)} of the errors exceed {quantity(threshold, units)}{why}")
    outside = {
        "below the bins": summary.underflow_share,
        "above the bins: consider --range": summary.overflow_share,
    }
    return lines + [
        f"  {percent(share)} of the errors lie {side}"
        for side, share in outside.items()
        if share > 0.01
    ]


def _search_lines(index: IndexResult) -> list[str]:
    """Return how right a search is that is not exact, in the worst shard."""
    place = " in the worst shard" if index.shards else ""
    trials = {"on the edge": index.in_domain, "far out": index.out_of_domain}
    return [
        f"  trials {where} of the training set: recall {found.recall:.4f}, {percent(found.lost)} "
        f"lost, distances at most {percent(found.too_long)} too long{place}"
        for where, found in trials.items()
        if found
    ]


def _trial_lines(trials: list[Trial]) -> list[str]:
    """Return the table of the best choices, and of the best with each scaling."""
    if not trials:
        return []
    best = trials[:SHOWN_TRIALS]
    for trial in trials:
        if all(trial.choice.scale != other.choice.scale for other in best):
            best.append(trial)
    rows = [
        [
            trial.choice.scale,
            str(trial.choice.k),
            trial.choice.weighting,
            format_epochs(trial.choice.epochs),
            number(trial.crps, 4),
            number(trial.rank_correlation),
        ]
        for trial in best
    ]
    header = ["scale", "k", "weighting", "epochs", "CRPS", "rank correlation"]
    return [
        f"compared {len(trials)} choices by cross-validation; the first is taken",
        *("  " + line for line in table(header, rows)),
    ]
