"""``ltau score``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console, number, percent, quantity, table
from ltau_cli.errors import UsageError
from ltau_cli.output import STDOUT
from ltau_cli.results import Likeness, ScoreResult, ShardResult
from ltau_cli.settings import NO_ATOMS, ScoreSettings

MANY_FLAGGED = 0.05


@options.command("score", ScoreSettings, threads=True)
@click.argument("descriptors", nargs=-1, required=True, metavar="DESCRIPTORS...")
@options.add(
    "-m",
    "--model",
    type=options.FILE,
    default="model.h5",
    help="Model artifact of ltau fit.  [default: model.h5]",
)
@options.output(told="scores.h5")
@options.add(
    "-O",
    "--folder",
    type=options.FILE,
    metavar="FOLDER",
    help="Folder of the results, for many inputs: A.npy gives A.scores.h5.",
)
@options.workers
def command(
    descriptors: tuple[str, ...], model: Path, output: Path | None, folder: Path | None,
    settings: ScoreSettings, console: Console, **asked: Any,
) -> None:  # fmt: skip
    """Score new descriptors: expected error, uncertainty, bounds.

    Also quantiles of the error, and how far out of domain a row is. DESCRIPTORS are latent vectors
    (n_rows, width) of the same network layer as in ltau fit. A file that also holds natoms or
    structure gets per-structure aggregates. With -o - the scores go to standard output as CSV.
    Several files need a folder for the results (-O).

    A call that was stopped goes on where it was when it is repeated. Calls with --shard, on as many
    nodes as you like, keep what they score beside the result, which a call without it then makes.

    \b
    Examples:
      ltau score descriptors.h5
      ltau score new.npy -m model.h5 --natoms natoms.npy --calibration calibration.h5
      ltau score md_*.h5 -O scores/ --resume
      ltau score new.npy --feature spread=committee_std.npy
      ltau score huge.npy --shard $SLURM_ARRAY_TASK_ID/100
    """
    from ltau_cli.stages import score

    _check_usage(descriptors, output, folder, settings)
    if folder is not None:
        jobs = score.name_in_folder(descriptors, folder)
    else:
        jobs = {output or Path("scores.h5"): descriptors[0]}
    results = score.run_many(jobs, model, settings=settings, progress=console.progress, **asked)
    if folder is not None:
        _report_many(results, console)
        return
    (done,) = results
    if isinstance(done, ShardResult):
        console.result(done, [_shard_line(done)])
    else:
        console.result(done, score_lines(done))
        warn_of_flagged(done, console)


def _check_usage(
    descriptors: tuple[str, ...], output: Path | None, folder: Path | None, settings: ScoreSettings
) -> None:
    if folder is not None and output is not None:
        raise UsageError("-o names one result and -O a folder of results", hint="leave one out")
    if len(descriptors) > 1 and folder is None:
        raise UsageError(
            f"{len(descriptors):,} inputs need a folder for their results",
            hint="name one with -O, such as -O scores/",
        )
    if output == STDOUT and settings.resume:
        raise UsageError("-o - cannot be resumed", hint="name a file with -o")
    if len(descriptors) == 1:
        return
    for name in ("natoms", "group", "frames"):
        if getattr(settings, name) not in (None, NO_ATOMS):
            raise UsageError(
                f"--{name} belongs to a single input",
                hint=f"store {name} beside the descriptors in each file (.npz or .h5)",
            )
    if any(settings.features.values()):
        raise UsageError(
            "--feature NAME=FILE belongs to a single input",
            hint="store NAME beside the descriptors in each file (.npz or .h5): --feature NAME",
        )


def _shard_line(shard: ShardResult) -> str:
    return (
        f"{shard.output}: rows {shard.first:,} to {shard.last:,} of {shard.n_rows:,} are scored; "
        "when all are, the same command without --shard makes the result"
    )


def _report_many(results: Iterator[ScoreResult | ShardResult], console: Console) -> None:
    """Print a line for each file as it is done, or a JSON list in the end."""
    done = []
    for summary in results:
        done.append(summary)
        if not console.as_json:
            line = _shard_line(summary) if isinstance(summary, ShardResult) else _line(summary)
            console.summary([line])
    if console.as_json:
        console.json([summary.to_dict() for summary in done])
    scored = [summary for summary in done if isinstance(summary, ScoreResult)]
    flagged = sum(summary.flagged_share > MANY_FLAGGED for summary in scored)
    if flagged:
        console.warn(
            f"in {flagged:,} of {len(done):,} files more than {percent(MANY_FLAGGED, 0)} of the "
            "rows are out of domain"
        )


def _line(summary: ScoreResult) -> str:
    if summary.up_to_date:
        return f"{summary.output}: up to date"
    word, mean = "expected", summary.trimmed_expected_error
    if summary.trimmed_calibrated_error is not None:
        word, mean = "calibrated", summary.trimmed_calibrated_error
    return (
        f"{_extent(summary)}, mean {word} error {quantity(mean, summary.units)} without the "
        "largest 1 %, "
        f"{percent(summary.flagged_share)} of the rows out of domain"
    )


def _extent(summary: ScoreResult) -> str:
    structures = f" in {summary.n_structures:,} structures" if summary.n_structures else ""
    return f"{summary.output}: {summary.n_rows:,} rows{structures}"


def warn_of_flagged(summary: ScoreResult, console: Console) -> None:
    """Warn, in one line, if rows are out of domain or unlike those that were calibrated on."""
    facts = []
    if summary.flagged_share > MANY_FLAGGED:
        facts.append(f"{percent(summary.flagged_share)} of the rows are out of domain")
    found = summary.likeness
    if found and found.beyond_share > MANY_FLAGGED + 2 / (found.n_draws + 1):  # by chance
        facts.append(
            f"{percent(found.beyond_share)} are farther from the training set than all that was "
            "calibrated on"
        )
    told = [", ".join(facts)] if facts else []
    if facts and len(summary.levels):
        told.append("the bounds are extrapolated there")
    if found and (law := _on_the_law(found)):
        told.append(law)
    if told:
        console.warn("; ".join(told))


def _on_the_law(found: Likeness) -> str:
    """Say which bounds rest on the fitted law alone; empty if none does for that reason."""
    from ltau_cli.core.calibration.support import draws_needed

    lost = [p for p in found.doubtful_levels if draws_needed(p) <= found.n_draws]
    if not lost:
        return ""
    return (
        f"bounds of {percent(lost[0], 0)} and more rest on the fitted law alone (the "
        f"{found.n_draws:,} {found.what} that were calibrated on are worth "
        f"{number(found.effective_draws)} for these rows, {draws_needed(lost[0])} are needed)"
    )


def score_lines(summary: ScoreResult) -> list[str]:
    """Lines of the summary of a scores artifact."""
    from ltau_cli.core.domain import rule_of_domain

    if summary.up_to_date:
        return [_line(summary)]
    units = summary.units
    calibrated = summary.mean_calibrated_error is not None
    plain = quantity(summary.trimmed_expected_error, units)
    expected = f"  mean expected error {plain}"
    if calibrated:
        mean = quantity(summary.trimmed_calibrated_error, units)
        expected = f"  mean calibrated error {mean} (plain {plain})"
    expected += ", without the largest 1 %"
    lines = [f"{_extent(summary)}, k = {summary.k}", expected]
    doubtful = [] if summary.likeness is None else summary.likeness.doubtful_levels

    def nominal(level: float) -> str:
        return "nominal " if level in doubtful or summary.unseen_groups else ""

    bounds = zip(summary.levels, summary.mean_bound, strict=True)
    if calibrated:
        lines.append(
            "  mean error bound "
            + ", ".join(
                f"{quantity(bound, units)} ({nominal(level)}{percent(level, 0)})"
                for level, bound in bounds
            )
        )
    shares = summary.mean_calibrated_uncertainty
    for threshold, before, after in zip(
        summary.thresholds,
        summary.mean_uncertainty,
        summary.mean_uncertainty if shares is None else shares,
        strict=True,
    ):
        lines.append(
            f"  mean probability of an error above {quantity(threshold, units)}: {percent(after)}"
            + ("" if shares is None else f" (plain {percent(before)})")
        )
    lines += [
        f"  mean relative neighbor distance {number(summary.mean_relative_distance)}; "
        f"{percent(summary.flagged_share)} of the rows out of domain "
        f"({rule_of_domain(summary.least_pvalue)})",
        "  riskiest rows:",
    ]
    header = ["row", "structure", "calibrated" if calibrated else "expected", "P(exceeds)"]
    rows = [
        [
            str(row.row),
            "-" if row.structure is None else str(row.structure),
            number(row.calibrated_error if calibrated else row.expected_error),
            number(row.calibrated_uncertainty if calibrated else row.uncertainty),
            number(row.relative_distance),
            number(row.ood_pvalue),
        ]
        for row in summary.riskiest
    ]
    return lines + ["    " + line for line in table([*header, "relative distance", "p"], rows)]
