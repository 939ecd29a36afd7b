"""What a figure may be drawn from."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Floats, Integers, Singles
from ltau_cli.artifacts.calibration import CalibrationFile
from ltau_cli.artifacts.errors import ErrorsFile
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.read import Artifact, View
from ltau_cli.artifacts.scores import ScoresFile
from ltau_cli.core.calibration.maps import Rows
from ltau_cli.core.calibration.model import Calibration
from ltau_cli.core.calibration.predicted import Predicted
from ltau_cli.core.dynamics import Dynamics, join_dynamics, summarize_dynamics
from ltau_cli.errors import UsageError
from ltau_cli.progress import Progress
from ltau_cli.settings import PlotSettings
from ltau_cli.stages.true_errors import JudgedRows, read_judged_rows, read_truth

FAN_SAMPLES = 20_000  # that stand for the whole training set in a quantile fan
SEED = 0


class NotGivenError(UsageError):
    """What was given does not allow this figure; an overview leaves it out."""


@dataclass(frozen=True)
class Judged:
    """Rows whose true errors are known and that no calibration was fitted on; (n,), error units.

    A calibration artifact has not kept ``rows``. ``plain`` are the levels of the plain quantiles,
    and the share of true errors under them.
    """

    artifact: CalibrationFile | ScoresFile
    calibration: Calibration | None
    true: Floats
    expected: Floats
    uncertainty: Floats
    group: npt.NDArray[np.generic] | None
    rows: Rows | None
    plain: tuple[Floats, Floats]
    predicted: Predicted | None
    calibrated_uncertainty: Floats | None = None

    @property
    def best(self) -> Floats:
        """The calibrated errors, or the expected ones without a calibration."""
        return self.expected if self.predicted is None else self.predicted.mean


@dataclass(frozen=True)
class LoggedErrors:
    """What an error log says of all samples, and the errors (n_epochs, n_drawn) of random ones.

    The threshold is that of ``fit`` without another (error units).
    """

    dynamics: Dynamics
    threshold: float
    drawn: Integers
    errors: Singles


@dataclass(frozen=True)
class Sources:
    """Open artifacts and what the user said about them."""

    artifacts: Sequence[Artifact]
    truth: str | os.PathLike[str] | None
    settings: PlotSettings
    hasher: Hasher
    progress: Progress

    def of(self, view: type[View]) -> list[View]:
        """Artifacts of a kind."""
        return [artifact for artifact in self.artifacts if isinstance(artifact, view)]

    def one(self, view: type[View]) -> View:
        """Return the artifact of a kind."""
        found = self.of(view)
        if not found:
            kind = view.kind
            raise NotGivenError(f"no artifact of kind {kind} was given", hint=f"name {kind}.h5")
        return found[0]

    @property
    def scores(self) -> list[ScoresFile]:
        """The scores."""
        return self.of(ScoresFile)

    @cached_property
    def judged(self) -> Judged:
        """Rows whose true errors are known."""
        scores, calibrations = self.scores, self.of(CalibrationFile)
        if self.truth is not None:
            errors = read_truth(self.truth, self.settings, scores[0], self.hasher)
            group = self.settings.group
            judged = read_judged_rows(scores[0], errors, group, None, self.hasher)
            return _of_scores(judged, scores[0])
        if calibrations:
            return _of_calibration(calibrations[0])
        name = scores[0].path if scores else "this figure"
        raise NotGivenError(
            f"{name} needs its true errors here",
            hint="give them with --true FILE, or plot the calibration artifact",
        )

    @cached_property
    def logged(self) -> LoggedErrors:
        """What the error log says of its samples, streamed once."""
        log = self.one(ErrorsFile)
        threshold, (n_epochs, n) = log.default_threshold(), log.shape
        chosen = np.arange(n)
        if n > FAN_SAMPLES:
            generator = np.random.default_rng(SEED)
            chosen = np.sort(generator.choice(n, FAN_SAMPLES, replace=False))
        errors = np.empty((n_epochs, len(chosen)), dtype=np.float32)
        parts: list[Dynamics] = []
        epochs = log.choose()
        with self.progress("reading errors", n) as advance:
            for start, stop in epochs.blocks(0, n):
                values = epochs.read(start, stop)
                parts.append(summarize_dynamics(values, threshold))
                first, last = np.searchsorted(chosen, [start, stop])
                errors[:, first:last] = values[:, chosen[first:last] - start]
                advance(stop - start)
        return LoggedErrors(join_dynamics(parts), threshold, chosen, errors)


def _of_calibration(artifact: CalibrationFile) -> Judged:
    calibration = artifact.calibration()
    quantiles = artifact.summary.heldout.quantiles
    plain = [np.array([getattr(q, name) for q in quantiles]) for name in ("level", "coverage")]
    return Judged(
        artifact=artifact,
        calibration=calibration,
        true=artifact.read("heldout_true_error").astype(np.float64),
        expected=artifact.read("heldout_expected_error").astype(np.float64),
        uncertainty=artifact.read("heldout_uncertainty").astype(np.float64),
        group=artifact.read("heldout_group") if artifact.has("heldout_group") else None,
        rows=None,
        plain=(plain[0], plain[1]),
        predicted=artifact.predicted(),
        calibrated_uncertainty=artifact.calibrated_uncertainty(),
    )


def _of_scores(judged: JudgedRows, artifact: ScoresFile) -> Judged:
    rows, true, rest = judged.rows, judged.true_error, judged.rest
    calibration = artifact.calibration()
    predicted = after = None
    if calibration is not None:
        predicted = calibration.predict(rows)
        after = artifact.read("calibrated_uncertainty")[rest].astype(np.float64)
    quantiles = artifact.read("quantiles")[rest]
    return Judged(
        artifact=artifact,
        calibration=calibration,
        true=true,
        expected=rows.expected_error,
        uncertainty=artifact.read("uncertainty")[rest].astype(np.float64),
        group=judged.labels,
        rows=rows,
        plain=(artifact.read("quantile_levels"), (true[:, None] <= quantiles).mean(axis=0)),
        predicted=predicted,
        calibrated_uncertainty=after,
    )
