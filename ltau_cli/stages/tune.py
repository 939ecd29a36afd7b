"""Choose the knobs of ``fit`` by the errors they predict best."""

import logging
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Floats, Integers
from ltau_cli.artifacts.errors import ChosenEpochs, ErrorsFile
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.core.threads import available_threads
from ltau_cli.core.tuning import SCALES, ComparedRows, tune
from ltau_cli.epochs import ALL_EPOCHS, EpochRange
from ltau_cli.errors import ComputeError, InputError
from ltau_cli.progress import Progress, silent
from ltau_cli.readers.descriptors import Descriptors, open_descriptors, read_structure
from ltau_cli.readers.place import Place
from ltau_cli.readers.truth import read_true_errors
from ltau_cli.results import Trial
from ltau_cli.settings import FitSettings
from ltau_cli.stages.training_set import Samples

LARGEST = 50_000  # training samples that are compared, in whole structures
BURN_INS = (0.25, 0.5, 0.75)  # shares of the epochs

log = logging.getLogger("ltau")


def run(
    errors: str | os.PathLike[str],
    descriptors: str | os.PathLike[str],
    settings: FitSettings,
    *,
    threads: int | None = None,
    progress: Progress = silent,
) -> list[Trial]:
    """Compare scalings, k, weightings and first epochs by cross-validated CRPS.

    The errors to predict are those of rows held out, else the last logged error of each training
    sample, predicted by the samples of other structures. Rows held out are better: the errors of
    training samples were trained down. The best trial comes first.
    """
    errors, held_out = Path(errors), settings.held_out
    with (
        open_artifact(errors, ErrorsFile) as artifact,
        open_descriptors(Place.parse(os.fspath(descriptors))) as source,
    ):
        epochs = artifact.choose()
        natoms = None if settings.natoms is None else Place.parse(settings.natoms)
        samples = Samples.of(epochs, source, natoms)
        source, structure = samples.source, samples.structure
        if structure is None and held_out is None:
            log.warning(
                "%s does not say which structure a sample belongs to; if they are atoms, those of "
                "one frame may stand for each other in the comparison (ingest with --natoms)",
                errors,
            )  # fmt: skip
        rows = _choose_rows(samples.n_logged, structure, settings.seed)
        if held_out is None and structure is not None and len(np.unique(structure[rows])) < 2:
            raise ComputeError(
                f"{errors} has a single structure, so none is left to predict it by",
                hint="give rows that were not trained on: --held-out DESCRIPTORS TRUE_ERRORS",
            )
        means, last = _read_errors(epochs, rows, _late_epochs(artifact))
        group = np.arange(len(rows)) if structure is None else _numbered(structure[rows])
        compared = ComparedRows(None, last, group if structure is not None else None)
        if held_out is not None:
            compared = _read_held_out(held_out, settings, source)
        with progress("comparing scalings", len(SCALES)) as advance:
            return tune(
                source.take(rows, 0, source.n), group, means, compared, metric=settings.metric,
                threads=threads or available_threads(), advance=advance,
            )  # fmt: skip


def _choose_rows(
    n_logged: npt.NDArray[np.int32], structure: Integers | None, seed: int
) -> Integers:
    """Rows of logged samples, of a large log those of random structures, or random ones."""
    rows = np.flatnonzero(n_logged)
    if len(rows) <= LARGEST:
        return rows
    log.warning("comparing on %s of the %s samples", f"{LARGEST:,}", f"{len(rows):,}")
    groups = rows if structure is None else structure[rows]
    names, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    chosen = np.zeros(len(names), dtype=bool)
    chosen[order[np.cumsum(counts[order]) <= LARGEST]] = True
    if np.count_nonzero(chosen) < 2:  # structures too large to be taken whole
        return np.sort(np.random.default_rng(seed).choice(rows, LARGEST, replace=False))
    return rows[chosen[place]]


def _numbered(labels: Integers) -> Integers:
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _late_epochs(log: ErrorsFile) -> list[EpochRange]:
    """All epochs, and what is left of them after each burn-in; of the run that ends first."""
    epoch = log.read("epoch")
    numbers = min((epoch[own].tolist() for own in log.runs()), key=lambda own: int(own[-1]))
    first = sorted({int(numbers[int(share * len(numbers))]) for share in BURN_INS})
    return [ALL_EPOCHS, *((start, None, None) for start in first if start > numbers[0])]


def _read_errors(
    epochs: ChosenEpochs, rows: Integers, late: list[EpochRange]
) -> tuple[dict[EpochRange, Floats], Floats]:
    """Mean error of the samples over each choice of epochs, and their errors in the last epoch."""
    means = {chosen: np.empty(len(rows)) for chosen in late}
    parts = {chosen: epochs.log.choose(chosen).rows for chosen in late}
    last = np.empty(len(rows))
    for start, stop in epochs.blocks(0, epochs.n_samples):
        part = slice(*np.searchsorted(rows, [start, stop]))
        block = epochs.read(start, stop)[:, rows[part] - start].astype(np.float64)
        for chosen, kept in parts.items():
            means[chosen][part] = _mean_logged(block[kept], block)
        last[part] = block[-1]
    return means, last


def _mean_logged(block: Floats, whole: Floats) -> Floats:
    """Mean over the logged epochs of a block, of the whole log where the block has none."""
    known = np.isfinite(block)
    n = known.sum(axis=0)
    mean = np.where(known, block, 0.0).sum(axis=0) / np.maximum(n, 1)
    return np.asarray(np.where(n > 0, mean, np.nanmean(whole, axis=0)))


def _read_held_out(
    held_out: tuple[str, str], settings: FitSettings, training: Descriptors
) -> ComparedRows:
    place, errors = map(Place.parse, held_out)
    named = settings.held_out_natoms
    natoms = None if named is None else Place.parse(named)
    with open_descriptors(place) as source:
        if source.width != training.width:
            raise InputError(
                f"{place} has {source.width} columns, {training.source.place} has {training.width}",
                hint="compute the descriptors with the same layer of the same trained network",
            )
        truth = read_true_errors(errors)
        true_error = truth.of(source.told()).values
        given = read_structure(natoms, settings.held_out_frames, source.told())
        structure = given.get("structure", source.structure())
        return ComparedRows(source.take(np.arange(source.n), 0, source.n), true_error, structure)
