"""Scores and true errors to a calibration artifact."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.array_types import Bools, Floats, Integers
from ltau_cli.artifacts.calibration import CheckedRows, write_calibration
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.scores import ScoresFile
from ltau_cli.artifacts.write import create_artifact
from ltau_cli.core.calibration.evaluation import evaluate
from ltau_cli.core.calibration.fit import (
    SMALLEST_STRATUM,
    TRIED,
    Fitted,
    fit_calibration,
    split_rows,
)
from ltau_cli.core.calibration.maps import Rows, join_rows, name_prior
from ltau_cli.core.calibration.metrics import reliability
from ltau_cli.core.calibration.model import Calibration
from ltau_cli.core.calibration.support import too_close
from ltau_cli.core.calibration.threshold import StoredCdf, calibrated_uncertainty
from ltau_cli.core.summary import trimmed_mean
from ltau_cli.core.trajectory import TRAJECTORY
from ltau_cli.errors import ComputeError, InputError, UsageError, warn
from ltau_cli.output import check_target
from ltau_cli.results import CalibrateResult, HeldOut, QuantileCoverage, ThresholdCheck
from ltau_cli.settings import CalibrateSettings, Method, documented
from ltau_cli.stages.true_errors import STORED_LABELS, read_known_rows, read_truth


@documented
def run(
    scores: str | os.PathLike[str],
    truth: str | os.PathLike[str],
    output: str | os.PathLike[str] = "calibration.h5",
    *,
    more: Sequence[tuple[str | os.PathLike[str], str | os.PathLike[str]]] = (),
    settings: CalibrateSettings | None = None,
    force: bool = False,
    **options: Any,
) -> CalibrateResult:
    """Fit the maps on one part of the structures and check them on the other.

    Parameters
    ----------
    scores : path
        Scores artifact, made without a calibration or with one (its plain values are used).
    truth : path
        True errors of the scored rows.
    output : path
        The calibration artifact.
    more : sequence of (path, path)
        Further sets, such as a few labeled structures far away. Every set is split, and weighs the
        same.

    Raises
    ------
    InputError
        If the true errors or labels cannot be used or do not match.
    UsageError
        If the sets do not belong together.
    ComputeError
        If there is too little to fit on.
    """
    output, settings = Path(output), CalibrateSettings.of(settings, options)
    pairs = [(Path(path), os.fspath(errors)) for path, errors in [(scores, truth), *more]]
    named = [name for pair in pairs for name in pair]
    inputs = [*named, settings.group, *settings.draws]
    check_target(output, force=force, inputs=inputs)
    _check_labels(settings, len(pairs))
    with contextlib.ExitStack() as stack:
        hasher = stack.enter_context(Hasher())
        sets = []
        for number, (path, errors) in enumerate(pairs):
            artifact = stack.enter_context(open_artifact(path, ScoresFile))
            draws = settings.draws[number] if settings.draws else None
            sets.append(_read_set(artifact, errors, settings, draws, hasher))
        _check_sets(sets)
        known = _join(sets)
        fit = split_rows(known.rows, fit_fraction=settings.fit_fraction, seed=settings.seed)
        used = known.take(fit)
        fitted = fit_calibration(
            used.rows,
            used.true_error,
            methods=_methods(settings, len(sets)),
            levels=np.array(sorted(set(settings.levels)), dtype=np.float64),
            thresholds=known.thresholds,
            cdf=used.cdf,
            by_group=settings.group is not None,
            distance_bins=settings.distance_bins,
            seed=settings.seed,
        )
        _warn(fitted, settings, used.rows)
        _warn_of_training_rows(known)
        calibration = fitted.calibration
        rest = known.take(~fit)
        predicted = calibration.predict(rest.rows)
        checked = CheckedRows(
            row=np.flatnonzero(~fit),
            rows=rest.rows,
            true_error=rest.true_error,
            uncertainty=rest.uncertainty,
            calibrated_uncertainty=calibrated_uncertainty(calibration, predicted, rest.cdf),
            predicted=predicted,
        )
        first = sets[0].artifact
        result = CalibrateResult(
            output=output,
            units=first.units,
            method=calibration.method,
            mean_pvalues=[_mean_pvalue(one) for one in sets],
            in_training_share=float(known.in_training.mean()),
            compared=fitted.compared,
            n_fit=int(fit.sum()),
            n_heldout=len(rest.rows),
            n_sets=len(sets),
            n_structures=known.n_structures,
            n_draws=fitted.n_draws,
            missing_draws={f"{level:g}": n for level, n in fitted.missing.items()},
            k=first.parameters["k"],
            cutoff=first.parameters.get("cutoff"),
            prior=name_prior(used.rows),
            exponents=calibration.predictor.map.exponents(),
            levels=calibration.levels.tolist(),
            bound_groups=calibration.strata.groups.tolist(),
            heldout=_check(calibration, checked, rest),
        )
        descriptors = [
            next(record for record in one.artifact.inputs if record["role"] == "descriptors")
            for one in sets
        ]
        with create_artifact(output, "calibration", units=first.units, force=force) as writer:
            write_calibration(writer, calibration, np.flatnonzero(fit), used.row_hash, checked)
            writer.finish(
                parameters=settings.recorded()
                | {"method": calibration.method, "levels": calibration.levels}
                | {name: v for name, v in first.parameters.items() if name == TRAJECTORY},
                inputs=hasher.records() + descriptors,
                summary=result.stored(),
                model_fingerprint=first.model_fingerprint,
            )
    return result


@dataclass(frozen=True)
class _Known:
    """Scored rows of known error, of one set or of several; ``artifact`` is that of the first.

    Errors and quantiles are in error units. ``cdf`` has no rows unless ``--method threshold`` needs
    it.
    """

    artifact: ScoresFile
    rows: Rows
    true_error: Floats
    uncertainty: Floats
    quantiles: Floats
    cdf: StoredCdf
    row_hash: Integers
    in_training: Bools
    n_structures: int | None

    @property
    def thresholds(self) -> Floats:
        """Of ``uncertainty``; error units."""
        return self.artifact.read("thresholds")

    def take(self, rows: Bools) -> _Known:
        """Return some of the rows."""
        return replace(
            self,
            rows=self.rows.take(rows),
            true_error=self.true_error[rows],
            uncertainty=self.uncertainty[rows],
            quantiles=self.quantiles[rows],
            cdf=self.cdf.take(rows),
            row_hash=self.row_hash[rows],
            in_training=self.in_training[rows],
        )


def _methods(settings: CalibrateSettings, n_sets: int) -> Sequence[Method]:
    """Methods to compare; of a single set the first is taken, so that only it is needed."""
    if settings.method is not None:
        return [settings.method]
    return TRIED if settings.compare or n_sets > 1 else TRIED[:1]


def _check_labels(settings: CalibrateSettings, n_sets: int) -> None:
    """Refuse label files that cannot belong to all sets."""
    if settings.group not in (None, *STORED_LABELS) and n_sets > 1:
        raise UsageError(
            f"--group {settings.group} belongs to a single set",
            hint="give the labels to ltau score --group, then calibrate with --group species",
        )
    if settings.draws and len(settings.draws) != n_sets:
        raise UsageError(
            f"--draws is given {len(settings.draws)} times for {n_sets} sets",
            hint="give one file for each set, in the order of the sets",
        )


def _read_set(
    artifact: ScoresFile, truth: str, settings: CalibrateSettings, draws: str | None, hasher: Hasher
) -> _Known:
    """Read one set, whole."""
    hasher.add("scores", artifact.path, "scores")
    true_errors = read_truth(truth, settings, artifact, hasher)
    rows = read_known_rows(artifact, true_errors, settings.group, draws, hasher)
    if not (true_errors.values > 0).any():
        raise ComputeError(f"{truth}: every true error is 0; there is nothing to calibrate on")
    if settings.method == "threshold" and not artifact.has("cdf"):
        raise InputError(
            f"{artifact.path} has no CDFs, which --method threshold scales",
            hint="score again with ltau score --cdf",
        )
    by_threshold = settings.method == "threshold"
    return _Known(
        artifact=artifact,
        rows=rows,
        true_error=true_errors.values,
        uncertainty=artifact.read("uncertainty").astype(np.float64),
        quantiles=artifact.read("quantiles").astype(np.float64),
        cdf=StoredCdf(artifact.read("cdf_edges"), artifact.read("cdf"))
        if by_threshold
        else StoredCdf.without(len(rows)),
        row_hash=artifact.read("row_hash"),
        in_training=artifact.read("in_training"),
        n_structures=None if rows.structure is None else len(np.unique(rows.structure)),
    )


def _check_sets(sets: Sequence[_Known]) -> None:
    """Refuse sets that do not fit together."""
    first = sets[0].artifact
    for one in sets[1:]:
        other = one.artifact
        for what, same in {
            "another model": other.model_fingerprint == first.model_fingerprint,
            "another -k": other.parameters["k"] == first.parameters["k"],
            "another --cutoff": other.parameters.get("cutoff") == first.parameters.get("cutoff"),
            "other thresholds": np.array_equal(one.thresholds, sets[0].thresholds),
            "other quantiles": np.array_equal(
                other.read("quantile_levels"), first.read("quantile_levels")
            ),
            "other kept weights": other.parameters.get(TRAJECTORY)
            == first.parameters.get(TRAJECTORY),
            "other features": sorted(other.feature_names) == sorted(first.feature_names),
        }.items():
            if not same:
                raise UsageError(
                    f"{other.path} was scored with {what} than {first.path}",
                    hint="score all sets with the same model and options",
                )
        for what in ("structure", "group"):
            if (getattr(one.rows, what) is None) != (getattr(sets[0].rows, what) is None):
                raise UsageError(
                    f"of {first.path} and {other.path}, only one says which {what} a row belongs "
                    "to",
                    hint="score all sets with the same options, such as --natoms and --group",
                )


def _join(sets: Sequence[_Known]) -> _Known:
    """Put the rows of all sets one after the other."""
    if len(sets) == 1:
        return sets[0]
    counts = [one.n_structures for one in sets]
    return _Known(
        artifact=sets[0].artifact,
        rows=join_rows([one.rows for one in sets]),
        true_error=np.concatenate([one.true_error for one in sets]),
        uncertainty=np.concatenate([one.uncertainty for one in sets]),
        quantiles=np.concatenate([one.quantiles for one in sets]),
        cdf=StoredCdf(sets[0].cdf.edges, np.concatenate([one.cdf.values for one in sets])),
        row_hash=np.concatenate([one.row_hash for one in sets]),
        in_training=np.concatenate([one.in_training for one in sets]),
        n_structures=None if None in counts else sum(filter(None, counts)),
    )


def _check(calibration: Calibration, checked: CheckedRows, known: _Known) -> HeldOut:
    """Compare the calibrated and the plain predictions of the held-out rows with their errors."""
    rows, true_error = checked.rows, checked.true_error
    levels = known.artifact.read("quantile_levels")
    return HeldOut(
        **vars(evaluate(rows, true_error, calibration)),
        mean_expected_error=float(rows.expected_error.mean()),
        trimmed_expected_error=trimmed_mean(rows.expected_error),
        trimmed_calibrated_error=trimmed_mean(checked.predicted.mean),
        trimmed_true_error=trimmed_mean(true_error),
        thresholds=[
            _check_threshold(calibration, j, checked) for j in range(len(calibration.thresholds))
        ],
        quantiles=[
            QuantileCoverage(level=float(level), coverage=float((true_error <= quantile).mean()))
            for level, quantile in zip(levels, known.quantiles.T, strict=True)
        ],
    )


def _check_threshold(calibration: Calibration, column: int, checked: CheckedRows) -> ThresholdCheck:
    """Compare the predicted P(error > threshold) with what happened, before and after."""
    threshold = float(calibration.thresholds[column])
    plain, exceeded = checked.uncertainty[:, column], checked.true_error > threshold
    after = reliability(checked.calibrated_uncertainty[:, column], exceeded)
    return ThresholdCheck(
        threshold=threshold,
        scale=float(calibration.threshold_scale[column]),
        predicted=float(plain.mean()),
        observed=float(exceeded.mean()),
        calibration_error_before=reliability(plain, exceeded).error,
        calibration_error_after=after.error,
    )


def _mean_pvalue(one: _Known) -> float:
    """Return the mean p-value of a set, and say so if it is closer than what was trained on."""
    mean, close = too_close(one.artifact.read("ood_pvalue"), one.rows.draw)
    if close:
        warn(
            f"the rows of {one.artifact.path} are closer to the training set than its own samples "
            f"are to one another (mean p-value {mean:.2f}, 0.5 for rows drawn like it): the bars "
            "may be too short for rows that are not"
        )
    return mean


def _warn_of_training_rows(known: _Known) -> None:
    """Say how many rows the network was trained on, whose errors are smaller than of others."""
    n = int(known.in_training.sum())
    if n:
        warn(
            f"{n:,} of {len(known.in_training):,} calibration rows "
            f"({100 * n / len(known.in_training):.3g} %) have the descriptors of a training sample:"
            " the bars may be as short as the errors of what was trained on"
        )


def _warn(fitted: Fitted, settings: CalibrateSettings, rows: Rows) -> None:
    """Say where a bound rests on less than was asked for."""
    said = [
        f"--feature {name} is 0 in all rows that were fitted on: it is left out; check its column"
        for name, values in rows.own.items()
        if not values.any()
    ]
    if fitted.missing:
        levels = ", ".join(f"{100 * level:g} %" for level in fitted.missing)
        what = "draw" if settings.draws else "row" if rows.structure is None else "structure"
        said.append(
            f"too few to tell the bound of {levels}: fitted on {fitted.n_draws:,} (each {what} "
            f"counts once), {max(fitted.missing.values()):,} more are needed for the highest; "
            "until then it is the largest ratio seen"
        )
    small, merged = fitted.small_groups, fitted.merged
    if small:
        names = ", ".join(map(str, small[:5])) + (", ..." if len(small) > 5 else "")
        said.append(
            f"{len(small)} group{'s' if len(small) > 1 else ''} too small for their own bounds "
            f"share the bounds of all: {names}"
        )
    if None in merged:
        said.append(
            f"of {settings.distance_bins} distance bins, {merged[None]} are left: those with fewer "
            f"than {SMALLEST_STRATUM} rows, or too few for the levels, were merged with the next"
        )
    of_groups = [f"{name} ({n})" for name, n in merged.items() if name is not None]
    if of_groups:
        names = ", ".join(of_groups[:5]) + (", ..." if len(of_groups) > 5 else "")
        said.append(f"groups with fewer distance bins of their own, small ones merged: {names}")
    for line in said:
        warn(line)
