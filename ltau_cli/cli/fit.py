"""``ltau fit``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console, number, percent, quantity, table
from ltau_cli.errors import UsageError
from ltau_cli.output import check_target
from ltau_cli.settings import FitSettings


@options.command("fit", FitSettings, threads=True)
@click.argument("errors", type=options.FILE)
@click.argument("descriptors")
@options.output("model.h5")
@options.add(
    "--tune",
    "tuned",
    is_flag=True,
    group="Tuning",
    help="Compare k, --weighting, --burn-in and --scale by cross-validation and take the best.",
)
@options.add(
    "--held-out",
    nargs=2,
    metavar="DESCRIPTORS TRUE_ERRORS",
    group="Tuning",
    help="Rows that were not trained on, for --tune.  [default: the training samples, each "
    "predicted by those of other structures]",
)
@options.add(
    "--held-out-natoms",
    metavar="FILE",
    group="Tuning",
    help="Number of atoms of each frame of --held-out.",
)
@options.add(
    "--held-out-frames", metavar="FILE", group="Tuning", help="The frames of --held-out, instead."
)
@options.workers
def command(
    errors: Path,
    descriptors: str,
    output: Path,
    force: bool,
    threads: int | None,
    workers: str | None,
    console: Console,
    tuned: bool,
    held_out: tuple[str, str] | None,
    held_out_natoms: str | None,
    held_out_frames: str | None,
    settings: FitSettings,
) -> None:
    """Fit the errors of the training set and index its descriptors.

    ERRORS is the artifact of ltau ingest; DESCRIPTORS are the training samples' latent vectors,
    (n_samples, width), in the order of the log: .npy, .npz, .h5 or .txt (file.h5:/path names a
    dataset).

    \b
    Examples:
      ltau fit errors.h5 train_descriptors.npy -o model.h5 --threshold 0.1
      ltau fit errors.h5 train_descriptors.npy --tune --held-out val.npy val_errors.npy
    """
    from ltau_cli.stages import fit, tune

    chosen, trials = settings, []
    if held_out is not None and not tuned:
        raise UsageError("--held-out is for --tune", hint="add --tune")
    if tuned:
        structures = (held_out_natoms, held_out_frames)
        check_target(output, force=force, inputs=[*(held_out or ()), *structures])
        rows = None if held_out is None else tune.ValidationRows(*held_out, *structures)
        trials = tune.run(
            errors, descriptors, settings=chosen, held_out=rows, threads=threads,
            progress=console.progress,
        )  # fmt: skip
        chosen = tune.apply_best(chosen, trials[0])
        if not console.as_json:
            console.summary(_trial_lines(trials))
    summary = fit.run(
        errors,
        descriptors,
        output,
        settings=chosen,
        threads=threads,
        workers=workers,
        force=force,
        progress=console.progress,
    )
    if console.as_json:
        console.json(
            summary.to_dict() | ({"trials": [asdict(trial) for trial in trials]} if tuned else {})
        )
        return
    units, index = summary.units, summary.index
    never = summary.n_never_logged
    n_shards = len(index.get("shards", ()))
    lines = [
        f"{output}: {summary.n_samples:,} samples at {summary.n_points:,} distinct points, "
        f"{summary.width} columns, {index['kind'] if 'in_domain' in index else 'exact'} index"
        + (f" in {n_shards:,} shards" if n_shards else "")
        + f", k = {summary.k}",
        *([f"  {never:,} samples were never logged and carry no weight"] if never else []),
        *_search_lines(index),
        f"  mean error over all epochs {quantity(summary.mean_error, units)}",
        f"  leave-one-out: rank correlation {number(summary.loo_rank_correlation)} of a "
        "sample's mean error and its neighbors'",
    ]  # fmt: skip
    for threshold, share in zip(summary.thresholds, summary.mean_uncertainty, strict=True):
        lines.append(f"  {percent(share)} of the errors exceed {quantity(threshold, units)}")
    outside = {
        "below the bins": summary.underflow_share,
        "above the bins: consider --range": summary.overflow_share,
    }
    lines += [
        f"  {percent(share)} of the errors lie {side}"
        for side, share in outside.items()
        if share > 0.01
    ]
    console.summary(lines)


def _search_lines(index: dict[str, Any]) -> list[str]:
    """Return how right a search is that is not exact, in the worst shard."""
    if "in_domain" not in index:
        return []
    place = " in the worst shard" if "shards" in index else ""
    if "factor" in index:
        lines = [f"  no neighbor distance is more than {index['factor']:g} times the true one"]
    else:
        lines = []
    for name, where in (("in_domain", "on the edge"), ("out_of_domain", "far out")):
        found = index[name]
        lines.append(
            f"  trials {where} of the training set: recall {found['recall']:.4f}, "
            f"{percent(found['lost'])} lost, distances at most "
            f"{percent(found['too_long'])} too long{place}"
        )
    return lines


def _trial_lines(trials: list[Any]) -> list[str]:
    """Return the table of the best choices, and of the best with each scaling."""
    best = trials[:SHOWN_TRIALS]
    for trial in trials:
        if all(trial.choice.scale != other.choice.scale for other in best):
            best.append(trial)
    rows = [
        [
            trial.choice.scale,
            str(trial.choice.k),
            trial.choice.weighting,
            str(trial.choice.burn_in),
            number(trial.crps, 4),
            number(trial.rank_correlation),
        ]
        for trial in best
    ]
    header = ["scale", "k", "weighting", "burn-in", "CRPS", "rank correlation"]
    return [
        f"compared {len(trials)} choices by cross-validation over structures; the first is taken",
        *("  " + line for line in table(header, rows)),
    ]


SHOWN_TRIALS = 5
