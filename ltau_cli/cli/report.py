"""The check-up of an error log, for the eye."""

import itertools
import math
from collections.abc import Sequence

from ltau_cli.cli.console import number, quantity
from ltau_cli.results import IngestResult, LoggedEpochs

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 60


def log_lines(report: IngestResult, prefix: str = "") -> list[str]:
    """Lines of the summary that ``ltau ingest`` and ``ltau info`` print."""
    n_runs = report.n_runs
    epochs = _count(report.n_epochs, "epoch") + (f" of {n_runs} runs" if n_runs > 1 else "")
    never = report.n_never_logged
    lines = [
        f"{prefix}{_count(report.n_samples, 'sample')}, {epochs} (read as {report.format})",
        *(_run_line(i, run) for i, run in enumerate(report.runs) if n_runs > 1 or run.gaps),
        f"  {_missing(report)}, {_count(report.n_zero, 'zero')}"
        + (f", {_count(never, 'sample')} never logged" if never else ""),
        f"  errors from {number(report.smallest_positive)} to "
        f"{quantity(report.largest, report.units)}",
        f"  mean error {number(report.trimmed_first)} in the first epoch, "
        f"{quantity(report.trimmed_last, report.units)} in the last, without the largest 1 % "
        f"({number(report.mean_first)} and {number(report.mean_last)} with all)",
    ]
    if report.offsets:
        told = ", ".join(f"{name} {number(value)}" for name, value in report.offsets.items())
        lines.append(f"  offset of each element, taken out of every epoch: {told} in the last")
    bars = sparkline([value for value in report.mean_by_epoch if value is not None])
    return [*lines, f"  {bars}"] if bars else lines


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def _run_line(index: int, run: LoggedEpochs) -> str:
    gaps = run.gaps
    line = f"  run {index}: epochs {run.first} to {run.last}, {run.n_epochs:,} logged"
    if gaps:
        shown = ", ".join(map(str, gaps[:5])) + (", ..." if len(gaps) > 5 else "")
        line += f", not there: {shown}"
    return line


def _missing(report: IngestResult) -> str:
    total = report.n_missing
    if not total:
        return "none missing"
    counts = report.missing_by_epoch
    per_epoch = f"{min(counts):,} to {max(counts):,}" if min(counts) != max(counts) else counts[0]
    return f"{total:,} missing ({per_epoch} per epoch)"


def sparkline(values: Sequence[float]) -> str:
    """Bars on a log scale, at most 60 of them."""
    values = [float(v) for v in values if float(v) > 0 and math.isfinite(v)]
    if len(values) < 2:
        return ""
    if len(values) > _WIDTH:
        cuts = [len(values) * i // _WIDTH for i in range(_WIDTH + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(cuts)]
    logs = [math.log(value) for value in values]
    low, high = min(logs), max(logs)
    span = (high - low) or 1.0
    return "".join(_BARS[round((len(_BARS) - 1) * (value - low) / span)] for value in logs)
