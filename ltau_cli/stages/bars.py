"""A network that others trained, and labeled frames, to a model, a calibration and a verdict.

The labeled frames are log and calibration set at once: those of each draw are scored by a model of
the errors of the others. And once more those of each kind by a model of the other kinds, which
shows how errors grow with the distance.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.model import ModelFile
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.scores import WRITE_ROWS, write_scores
from ltau_cli.core.threads import available_threads
from ltau_cli.errors import ComputeError, InputError, LtauWarning, OutputError, warn, writing
from ltau_cli.output import open_text
from ltau_cli.progress import Progress, silent
from ltau_cli.readers.arrays import read_optional
from ltau_cli.readers.column import read_labels
from ltau_cli.readers.frames import FrameLabels, label_frames, read_frame_labels
from ltau_cli.readers.place import Place
from ltau_cli.readers.truth import read_true_errors
from ltau_cli.results import BarsResult, BarsSet, CalibrateResult, DescribeResult, ScoreResult
from ltau_cli.settings import BarsSettings, FitSettings, ScoreSettings, documented
from ltau_cli.stages import calibrate, describe, evaluate, fit, ingest, score
from ltau_cli.stages.scoring.blocks import finished_blocks
from ltau_cli.stages.scoring.loaded import Loaded
from ltau_cli.stages.scoring.rows import open_rows

FOLDS = 5
FIT_FRACTION = 0.7  # of the draws; the others check the calibration
KINDS = 3  # clusters of frames that are one kind each, where nothing tells them apart
FEW = 8  # draws, below which bounds are hardly more than the largest error seen
LARGEST_KIND = 0.8  # share of the frames, above which the others say nothing of it
LEVEL = 0.9  # of the bound that is judged
HOLDS = (0.88, 0.96)  # covers that share of the rows, if it holds
VERDICT = "verdict.txt"

Ints = npt.NDArray[np.int64]


@documented
def run(
    labeled: str | os.PathLike[str],
    network: str,
    output: str | os.PathLike[str] = "bars",
    *,
    test: Sequence[str | os.PathLike[str]] = (),
    settings: BarsSettings | None = None,
    force: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> BarsResult:
    """Make error bars for a network from labeled frames alone, without its training.

    Parameters
    ----------
    labeled : path
        Frames with reference forces (eV/Å).
    network : str
        The trained network, as ``PACKAGE:FILE``; see :func:`ltau_cli.describe`.
    output : path
        Folder of ``model.h5``, ``calibration.h5``, the described frames and their scores, and
        ``verdict.txt``.
    test : sequence of path
        Further frames to score; they are judged where they have reference forces.

    Raises
    ------
    InputError
        If frames or network cannot be used, or the frames have no reference forces.
    OutputError
        If ``output`` holds results already, or cannot be written.
    ComputeError
        If there are too few frames or draws.
    """
    folder, settings = Path(output), BarsSettings.of(settings, options)
    _prepare(folder, [Path(labeled), *map(Path, test)], force=force)

    def described_by(path: str | os.PathLike[str], to: Path) -> DescribeResult:
        done = describe.run(
            [path], network, to, resume=not force, force=force,
            reference=settings.reference, progress=progress,
        )  # fmt: skip
        assert isinstance(done, DescribeResult), "it is one network"
        return done

    train = folder / "labeled.h5"
    described = described_by(labeled, train)
    if described.mean_force_error is None:
        raise InputError(
            f"{labeled} has no reference forces to learn error bars from",
            hint="label some frames, or name the reference: --reference-key NAME",
        )
    work = _Work.of(train, folder, settings)
    with _quiet():
        work.fit(work.error, folder / "model.h5")
        work.write_scores(work.draws, folder / "scores.h5")
        pairs = []
        if work.kinds is not None:
            work.write_scores(work.kinds, folder / "kinds.h5")
            pairs = [(folder / "kinds.h5", train)]
        np.save(folder / "draws.npy", work.draws)
        fitted = calibrate.run(
            folder / "scores.h5", train, folder / "calibration.h5", more=pairs, force=True,
            draws=[str(folder / "draws.npy")] * (1 + len(pairs)),
            fit_fraction=FIT_FRACTION,
        )  # fmt: skip
    sets = [_of_labeled(fitted)]
    for path in map(Path, test):
        frames, scores = folder / f"{path.stem}.h5", folder / f"{path.stem}_scores.h5"
        known = described_by(path, frames).mean_force_error is not None
        with _quiet():
            done = score.run(
                str(frames), folder / "model.h5", scores, force=True,
                calibration=folder / "calibration.h5",
            )  # fmt: skip
        assert isinstance(done, ScoreResult), "it is no shard"
        sets.append(_judge(scores, frames if known else None, path.stem, done))
    verdict = _verdict(sets, described.units)
    with open_text(folder / VERDICT, force=True) as stream:
        stream.write("".join(f"{line}\n" for line in verdict))
    return BarsResult(
        output=folder, units=described.units, n_frames=len(work.natoms),
        n_draws=len(np.unique(work.draws)),
        n_kinds=0 if work.kinds is None else len(np.unique(work.kinds)),
        exponents=fitted.exponents, sets=sets, verdict=verdict,
    )  # fmt: skip


def _prepare(folder: Path, frames: Sequence[Path], *, force: bool) -> None:
    """Make the folder, and refuse names that its results would have twice."""
    if (folder / VERDICT).exists() and not force:
        raise OutputError(
            f"{folder} holds the bars of an earlier call",
            hint="name another folder with -o, or replace them with --force",
        )
    names = [path.stem for path in frames[1:]]
    taken = {"labeled", "scores", "model", "calibration", "kinds", "draws"}
    for name in names:
        if names.count(name) > 1 or name in taken:
            raise OutputError(
                f"two files of {folder} would be called {name}.h5", hint=f"rename {name}"
            )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True)
class _Work:
    """The labeled frames, as the network describes them."""

    train: Path  # described artifact
    folder: Path
    settings: BarsSettings
    natoms: Ints
    error: npt.NDArray[np.float64]  # (n_atoms,)
    draws: Ints  # (n_frames,): of frames that were drawn together
    kinds: Ints | None  # (n_frames,)

    @classmethod
    def of(cls, train: Path, folder: Path, settings: BarsSettings) -> _Work:
        """Read the errors, and which frames belong together."""
        place = Place(train)
        labels, natoms = read_frame_labels(train), read_optional(place, "natoms")
        natoms = np.asarray(natoms, dtype=np.int64)
        draws = np.arange(len(natoms))
        if settings.draws is not None:
            given = read_labels(Place.parse(settings.draws), ("draw",)).values
            if len(given) != len(natoms):
                raise InputError(
                    f"{settings.draws} has {len(given):,} labels, there are {len(natoms):,} frames"
                )
            draws = np.unique(given, return_inverse=True)[1].astype(np.int64)
        n = len(np.unique(draws))
        if n < 2:
            raise ComputeError(
                f"all {len(natoms):,} labeled frames were drawn together: none is left to judge by",
                hint="label frames of another trajectory, or leave out --draws",
            )
        if n < FEW:
            warn(f"bounds rest on {n} draws of labeled frames; {FEW} or more make them reliable")
        if settings.draws is None:
            warn(
                "every labeled frame counts as drawn by itself; those of one trajectory are alike, "
                "and bars then too short: say which belong together with --draws FILE"
            )
        error = read_true_errors(place).values
        return cls(train, folder, settings, natoms, error, draws, _kinds(labels, place, natoms))

    @property
    def frame(self) -> Ints:
        """Frame of each atom."""
        return np.repeat(np.arange(len(self.natoms)), self.natoms)

    def fit(self, errors: npt.NDArray[np.float64], output: Path, **like: Any) -> None:
        """Fit a model of one epoch of errors (n_atoms,), NaN where it may not know them."""
        with tempfile.TemporaryDirectory(prefix=".ltau-", dir=self.folder) as name:
            log, read = Path(name) / "errors_epoch_0.npy", output.with_name("errors.h5")
            if np.isnan(errors).any():
                read = Path(name) / "errors.h5"
            np.save(log, errors.astype(np.float32))
            ingest.run(
                log, read, units="eV/Å", natoms=f"{self.train}:natoms", allow_missing=True,
                force=True, quantity="forces",
            )  # fmt: skip
            fit.run(read, self.train, output, settings=FitSettings(**like), force=True)

    def write_scores(self, groups: Ints, output: Path) -> None:
        """Score the frames of each group by a model of the errors of the others.

        They are written as scores by the model of all.
        """
        model = self.folder / "model.h5"
        threads = available_threads()
        with open_artifact(model, ModelFile) as whole:
            asked = ScoreSettings()
            loaded = Loaded.of(whole, asked, threads)
            like = {"thresholds": tuple(whole.read("thresholds").tolist())}
            scored = np.empty(len(self.error), loaded.dtype)
            for fold in _folds(groups):
                own = np.isin(self.frame, np.flatnonzero(fold))
                errors = np.where(own, np.nan, self.error)
                with tempfile.TemporaryDirectory(prefix=".ltau-", dir=self.folder) as name:
                    part = Path(name) / "model.h5"
                    self.fit(errors, part, **like)
                    with open_artifact(part, ModelFile) as artifact:
                        others = Loaded.of(artifact, asked, threads)
                        with open_rows(str(self.train), output, others) as rows:
                            wanted = np.flatnonzero(own)
                            block = rows.source.take(wanted, 0, rows.source.n)
                            scored[own] = others.score(block)
            with open_rows(str(self.train), output, loaded) as rows:

                def read() -> Iterator[npt.NDArray[Any]]:
                    for start in range(0, len(scored), WRITE_ROWS):
                        yield scored[start : start + WRITE_ROWS]

                blocks = finished_blocks(read, rows)
                write_scores(output, rows.header(), blocks, inputs=rows.hasher.records, force=True)


def _folds(groups: Ints) -> Iterator[npt.NDArray[np.bool_]]:
    """Yield the frames (n_frames,) bool of some groups at a time, of all in turn."""
    order = np.random.default_rng(0).permutation(np.unique(groups))
    for part in np.array_split(order, min(FOLDS, len(order))):
        yield np.isin(groups, part)


def _kinds(labels: FrameLabels, place: Place, natoms: Ints) -> Ints | None:
    """Tell frames apart by config_type, else by composition, else by clusters of descriptors."""
    of_frames = label_frames(labels)
    for name in ("config_type", "formula"):
        if name in of_frames:
            kinds = np.unique(of_frames[name], return_inverse=True)[1].astype(np.int64)
            if kinds.max() > 0:
                return kinds if np.bincount(kinds).max() <= LARGEST_KIND * len(kinds) else None
    if len(natoms) < 4 * KINDS:
        return None
    from scipy.cluster.vq import kmeans2, whiten

    descriptors = read_optional(place, "descriptors")
    starts = np.cumsum(natoms) - natoms
    means = np.add.reduceat(np.asarray(descriptors, np.float64), starts) / natoms[:, None]
    spread = means.std(axis=0) > 0
    _, found = kmeans2(whiten(means[:, spread]), KINDS, seed=0, minit="++")
    kinds = np.unique(found, return_inverse=True)[1].astype(np.int64)
    alone = np.bincount(kinds).max() > LARGEST_KIND * len(kinds)
    return None if alone or kinds.max() == 0 else kinds


def _judge(scores: Path, truth: Path | None, name: str, done: ScoreResult) -> BarsSet:
    """Compare the bounds of scored frames with true errors, where these are known."""
    told = None
    if truth is not None:
        with _quiet():
            told = evaluate.run(scores, truth).own
    doubtful = () if done.likeness is None else done.likeness.doubtful_levels
    return BarsSet(
        name=name,
        mean_bound=done.mean_bound[done.levels.index(LEVEL)],
        flagged_share=done.flagged_share,
        unseen=done.unseen_groups,
        nominal=LEVEL in doubtful or bool(done.unseen_groups),
        coverage=None if told is None else told.coverage[f"{LEVEL:g}"],
        mean_true_error=None if told is None else told.mean_true_error,
        rank_correlation=None if told is None else told.rank_correlation,
    )


def _of_labeled(fitted: CalibrateResult) -> BarsSet:
    """Return how the bounds hold for labeled frames that the calibration was not fitted on."""
    own = fitted.heldout.own
    return BarsSet(
        name="labeled", mean_bound=own.mean_width[f"{LEVEL:g}"], flagged_share=None, unseen=[],
        nominal=f"{LEVEL:g}" in fitted.missing_draws, coverage=own.coverage[f"{LEVEL:g}"],
        mean_true_error=own.mean_true_error, rank_correlation=own.rank_correlation,
    )  # fmt: skip


def _verdict(sets: Sequence[BarsSet], units: str) -> list[str]:
    """Say in a line for each set what its bounds are worth."""
    lines = []
    for one in sets:
        bound = f"{one.name}: the 90 % bound is {one.mean_bound:.3g} {units} in the mean"
        if one.coverage is None:
            held = "no reference forces to judge it by"
        else:
            held = f"it covers {one.coverage:.1%} (mean error {one.mean_true_error:.3g} {units})"
            low, high = HOLDS
            held += ": " + (
                "too short, label frames like these" if one.coverage < low
                else "longer than needed" if one.coverage > high else "it holds"
            )  # fmt: skip
        lines.append(f"{bound}; {held}")
        if one.unseen:
            lines[-1] += f"; never calibrated on: {', '.join(one.unseen)}"
        if one.nominal:
            lines[-1] += "; nominal: it rests on the fitted law alone"
        if one.flagged_share:
            lines[-1] += f"; {one.flagged_share:.1%} of the atoms are unlike the labeled ones"
    return lines


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what the steps warn of, which the verdict says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LtauWarning)
        yield
