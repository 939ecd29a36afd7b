"""What is in an error log, and what looks wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Array, Floats, Integers, Singles
from ltau_cli.core.calibration.metrics import rank_correlation
from ltau_cli.core.kernels import log as kernels
from ltau_cli.core.summary import trimmed_mean
from ltau_cli.plain import to_plain
from ltau_cli.results import CheckUp, LoggedEpochs

COMPARED_SAMPLES = 20_000  # whose mean errors tell whether two runs have the same order
ORDER_SAMPLES = 2_000  # whose ranks tell whether the epochs of a run have the same order
FEWEST_SAMPLES = 20
BLOCK = 5  # epochs before and after that are compared, at most
FALL = 0.6  # of the usual rank correlation: where it is below, the samples change places
FALL_AT_END = 0.3  # where no epochs after tell whether it rises again
LEARNED = 0.5  # of the mean error before: with less, the samples' errors may be others
CERTAIN = 4.0  # standard errors, 1 / sqrt(samples), of a rank correlation
UNLIKE_SAMPLES = 500  # at least, to say that neighboring epochs have nothing in common
JUMP = 2.0  # times the median of the five epochs before
N_NAMED = 5  # ids named in a warning
RULES = 50  # times the mean of the others, at least, is the error of a sample that rules their mean


@dataclass
class Survey:
    """Statistics of a log, gathered block by block."""

    # (n_epochs,): sum, smallest error above 0 and largest error of each epoch
    total: Floats
    smallest: Floats
    largest: Floats
    logged: Integers  # (n_epochs,)
    zeros: Integers  # (n_epochs,)
    infinite: Integers  # (n_epochs,)
    n_logged: npt.NDArray[np.int32]  # (n_samples,)
    low: Singles  # (n_samples,): smallest and largest error of each sample
    high: Singles

    @classmethod
    def empty(cls, n_epochs: int, n_samples: int) -> Survey:
        """Start with nothing seen."""
        return cls(
            total=np.zeros(n_epochs),
            smallest=np.full(n_epochs, np.inf),
            largest=np.full(n_epochs, -np.inf),
            logged=np.zeros(n_epochs, dtype=np.int64),
            zeros=np.zeros(n_epochs, dtype=np.int64),
            infinite=np.zeros(n_epochs, dtype=np.int64),
            n_logged=np.zeros(n_samples, dtype=np.int32),
            low=np.full(n_samples, np.inf, dtype=np.float32),
            high=np.full(n_samples, -np.inf, dtype=np.float32),
        )

    def add(self, block: Singles, start: int) -> tuple[int, int] | None:
        """Add samples ``start..`` of all epochs, cleaned in place; give the first negative error.

        That is its (row, sample), or None.
        """
        part = slice(start, start + block.shape[1])
        row, column = kernels.survey_block(
            block, self.total, self.logged, self.zeros, self.infinite, self.smallest, self.largest,
            self.n_logged[part], self.low[part], self.high[part],
        )  # fmt: skip
        return None if row < 0 else (int(row), start + int(column))

    def datasets(self) -> dict[str, Array]:
        """Return the datasets of the artifact."""
        mean = np.full(len(self.total), np.nan)
        np.divide(self.total, self.logged, out=mean, where=self.logged > 0)
        return {
            "epoch_mean": mean,
            "epoch_min": np.where(np.isfinite(self.smallest), self.smallest, np.nan),
            "epoch_max": np.where(np.isfinite(self.largest), self.largest, np.nan),
            "epoch_missing": len(self.n_logged) - self.logged,
            "epoch_zeros": self.zeros,
            "n_logged": self.n_logged,
            "sample_min": np.where(self.n_logged > 0, self.low, np.nan),
            "sample_max": np.where(self.n_logged > 0, self.high, np.nan),
        }


def rows_of_runs(epoch: npt.NDArray[np.int32], run: npt.NDArray[np.int32]) -> list[Integers]:
    """Rows of each run, in the order of its epochs."""
    order = np.lexsort((epoch, run))
    return [order[run[order] == number] for number in np.unique(run)]


def check_up(
    data: Mapping[str, Array],
    *,
    notes: Counter[str],
    some_errors: Singles,
    read_epoch: Callable[[int], Singles],
    knows_held_out: bool = False,
) -> CheckUp:
    """Report on a log.

    ``data`` are ``epoch``, ``run`` and the datasets of :meth:`Survey.datasets`; ``notes`` the
    findings of the reader, ``infinite`` and ``duplicated ids``; ``some_errors`` (n_epochs, m) are
    there to compare the runs; ``read_epoch`` gives the errors (n_samples,) of a row of the log.
    Samples that were never logged may be known to be held out.
    """
    epoch, mean = data["epoch"], data["epoch_mean"]
    runs = rows_of_runs(epoch, data["run"])
    finite = [own[np.isfinite(mean[own])] for own in runs]
    constant = np.flatnonzero((data["n_logged"] > 1) & (data["sample_min"] == data["sample_max"]))
    never = np.flatnonzero(data["n_logged"] == 0)
    first, last = [], []
    rulers: list[str] = []
    for own in filter(len, finite):
        first.append(trimmed_mean(read_epoch(int(own[0]))))
        errors = read_epoch(_last_that_tells(own, mean))
        last.append(trimmed_mean(errors))
        rulers += _about_rulers(errors, last[-1])
    warnings = [
        *_about_samples(never[:0] if knows_held_out else never, constant, notes),
        *(
            line
            for number, own in enumerate(runs)
            for line in _about_run(number, own, data, some_errors)
        ),
        *_about_order(runs, some_errors),
        *rulers,
    ]
    return CheckUp(
        n_samples=len(data["n_logged"]),
        n_epochs=len(epoch),
        n_runs=len(runs),
        runs=[
            LoggedEpochs(
                n_epochs=len(own),
                first=int(epoch[own[0]]),
                last=int(epoch[own[-1]]),
                gaps=_gaps(epoch[own]),
            )
            for own in runs
        ],
        n_missing=int(data["epoch_missing"].sum()),
        missing_by_epoch=data["epoch_missing"].tolist(),
        n_never_logged=len(never),
        n_constant=len(constant),
        n_zero=int(data["epoch_zeros"].sum()),
        n_infinite=notes["infinite"],
        n_duplicated_ids=notes["duplicated ids"],
        smallest_positive=_reduce(np.nanmin, data["epoch_min"]),
        largest=_reduce(np.nanmax, data["epoch_max"]),
        mean_first=float(np.mean([mean[own[0]] for own in finite if len(own)])),
        mean_last=float(np.mean([mean[own[-1]] for own in finite if len(own)])),
        mean_by_epoch=to_plain(mean),
        trimmed_first=float(np.mean(first)),
        trimmed_last=float(np.mean(last)),
        warnings=warnings,
    )


def _about_samples(never: Integers, constant: Integers, notes: Counter[str]) -> Iterator[str]:
    if len(never):
        yield f"{len(never):,} samples were never logged and carry no weight: {_some(never)}"
    if len(constant):
        yield f"{len(constant):,} samples have the same error at every epoch: {_some(constant)}"
    if notes["duplicated ids"]:
        yield f"{notes['duplicated ids']:,} ids stand twice in an epoch; the last one counts"
    if notes["infinite"]:
        yield f"{notes['infinite']:,} infinite errors are taken as missing"


def _about_run(
    number: int, own: Integers, data: Mapping[str, Array], some_errors: Singles
) -> Iterator[str]:
    epoch, mean = data["epoch"][own], data["epoch_mean"][own]
    name = f"run {number}: "
    twice = np.flatnonzero(np.diff(epoch) == 0)
    if len(twice):
        yield f"{name}{len(twice):,} epoch numbers stand twice: {_some(epoch[twice])}"
    repeated = [
        t
        for t in range(1, len(own))
        if epoch[t] != epoch[t - 1]
        and np.array_equal(mean[t], mean[t - 1], equal_nan=True)
        and np.array_equal(some_errors[own[t]], some_errors[own[t - 1]], equal_nan=True)
        and data["epoch_missing"][own[t]] < len(data["n_logged"])
    ]
    if repeated:
        yield (
            f"{name}{len(repeated):,} epochs repeat the one before, value for value: "
            f"{_some(epoch[repeated])}"
        )
    jumps = [
        t for t in range(1, len(own)) if mean[t] > JUMP * np.nanmedian(mean[max(0, t - 5) : t])
    ]
    if jumps:
        yield (
            f"{name}the mean error jumps up at {len(jumps):,} epochs (a restart?): "
            f"{_some(epoch[jumps])}"
        )
    logged = len(data["n_logged"]) - data["epoch_missing"][own]
    empty = np.flatnonzero((logged > 0) & (data["epoch_zeros"][own] > 0.5 * logged))
    if len(empty):
        yield f"{name}{len(empty):,} epochs are mostly 0 (not visited?): {_some(epoch[empty])}"
    step = -(-some_errors.shape[1] // ORDER_SAMPLES)
    yield from _about_order_over_time(name, epoch, mean, some_errors[own, ::step])
    unseen = np.flatnonzero(logged == 0)
    if len(unseen):
        yield f"{name}{len(unseen):,} epochs hold nothing: {_some(epoch[unseen])}"


def _about_order_over_time(
    name: str, epoch: npt.NDArray[np.int32], mean: Floats, errors: Singles
) -> Iterator[str]:
    """Tell where the samples of a run, (n_epochs, m) errors, change their order.

    The mean ranks of a few epochs before correlate with those of a few epochs after, at every
    epoch; a data set that was shuffled anew lets that fall, and rise again when the epochs that are
    compared are all behind. The first epoch, of an untrained network, may be like no other, and so
    may those before the mean error fell to half; after a jump up, those count where it is back.
    """
    n = len(errors)
    ranks = np.array([_ranks(row) for row in errors], dtype=np.float32)
    there = ~np.isnan(ranks)
    total = np.where(there, ranks, 0)

    @cache
    def likeness(stop: int, start: int, width: int) -> tuple[float, int]:
        """Rank correlation of the epochs before ``stop`` and from ``start`` on; of how many."""
        means = []
        for part in (slice(stop - width, stop), slice(start, start + width)):
            logged = there[part].sum(axis=0)
            means.append(np.divide(total[part].sum(axis=0), logged, where=logged > 0,
                                   out=np.full(len(logged), np.nan)))  # fmt: skip
        known = np.isfinite(means[0]) & np.isfinite(means[1])
        one, other = (values[known] - values[known].mean() for values in means)
        scale = np.sqrt((one @ one) * (other @ other))
        m = int(known.sum())
        return (float(one @ other / scale), m) if m >= FEWEST_SAMPLES and scale > 0 else (np.nan, 0)

    falls: dict[int, tuple[float, float]] = {}
    usual = []
    for t in range(2, n):
        width = min(BLOCK, t // 2, max(1, (n - t) // 2))
        usual_mean = mean[t - width : t].mean()
        start = next((s for s in range(t, n) if mean[s] <= JUMP * usual_mean), n)
        if start + width > n or LEARNED * usual_mean > mean[start : start + width].mean():
            continue
        own, m = likeness(t, start, width)
        before = [likeness(s, s, width)[0] for s in range(max(width, t - width), t)]
        after = [likeness(s, s, width)[0] for s in range(t + 1, min(t + width, n - width) + 1)]
        other = min(max(side, default=1.0) for side in (before, after))
        usual.append((max(own, other), m))
        if own < other * (FALL if after else FALL_AT_END) and CERTAIN / max(m, 1) ** 0.5 < min(
            other - own, 0.8 * other
        ):
            falls[t] = own, other
    lowest = [t for t in falls if falls[t] == min(falls[s] for s in falls if abs(s - t) <= BLOCK)]
    if lowest:
        own, other = falls[lowest[0]]
        yield (
            f"{name}the samples seem to be in another order from epoch {_some(epoch[lowest])} on: "
            f"the rank correlation with the errors before is {own:.2f}, else {other:.2f} (a "
            "restart with the data set shuffled anew?)"
        )
    elif usual and all(m >= UNLIKE_SAMPLES and r * m**0.5 < CERTAIN for r, m in usual):
        yield (
            f"{name}the errors of one epoch and the next have nothing in common (rank correlation "
            f"{usual[-1][0]:.2f}): are the samples in the same order in each?"
        )


def _ranks(values: Singles) -> Floats:
    """Ranks from 0 to 1, ties sharing theirs; NaN where a value is."""
    ordered = np.sort(values[~np.isnan(values)])
    sides = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return np.where(np.isnan(values), np.nan, sum(sides) / (2 * max(len(ordered), 1)))


def _about_order(runs: list[Integers], some_errors: Singles) -> Iterator[str]:
    if len(runs) < 2 or some_errors.shape[1] < FEWEST_SAMPLES:
        return
    means = []
    for own in runs:
        logged = ~np.isnan(some_errors[own])
        total = np.where(logged, some_errors[own], 0).sum(axis=0, dtype=np.float64)
        means.append(total / np.maximum(logged.sum(axis=0), 1))
    for number, other in enumerate(means[1:], 1):
        correlation = rank_correlation(means[0], other)
        if correlation is not None and correlation < 0.1:
            yield (
                f"run {number} seems to hold its samples in another order than run 0: the rank "
                f"correlation of their mean errors is {correlation:.2f}"
            )


def _last_that_tells(own: Integers, mean: Floats) -> int:
    """Row of the last epoch of a run that is not all 0; of the last one if all are."""
    above = own[mean[own] > 0]
    return int((above if len(above) else own)[-1])


def _about_rulers(errors: Singles, typical: float) -> Iterator[str]:
    """Name the samples that move the mean of the last epoch, (n_samples,), by 10 % each or more."""
    n = int(np.isfinite(errors).sum())
    for sample in np.flatnonzero(errors > max(RULES, 0.1 * n) * typical)[:N_NAMED]:
        if typical > 0:
            yield (
                f"sample {sample} has an error of {errors[sample]:.3g} in the last epoch, "
                f"{errors[sample] / typical:,.0f} times the mean of the others (a wrong label?)"
            )


def _gaps(epoch: npt.NDArray[np.int32]) -> list[int]:
    """Epoch numbers that a regular log would have; at most 100."""
    steps = np.diff(np.unique(epoch))
    if len(steps) == 0:
        return []
    values, counts = np.unique(steps, return_counts=True)
    step = int(values[np.argmax(counts)])
    wanted = np.arange(epoch.min(), epoch.max() + 1, step)
    return [int(e) for e in np.setdiff1d(wanted, epoch)[:100]]


def _reduce(function: Any, values: Floats) -> float | None:
    return float(function(values)) if np.isfinite(values).any() else None


def _some(ids: Array) -> str:
    shown = ", ".join(str(i) for i in ids[:N_NAMED])
    return shown + (", ..." if len(ids) > N_NAMED else "")
