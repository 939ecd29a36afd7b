"""True errors of scored rows: as numbers, or as what was predicted beside what is true."""

import json
from collections.abc import Mapping
from functools import partial

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Array
from ltau_cli.errors import InputError
from ltau_cli.readers.arrays import read_array, read_optional
from ltau_cli.readers.column import Column, as_magnitudes, as_numbers, read_column, row_labels
from ltau_cli.readers.frames import FRAME_ENDINGS, check_truth, label_frames, read_frame_labels
from ltau_cli.readers.logs.frames import read_evaluated
from ltau_cli.readers.place import Place, check_file
from ltau_cli.readers.tables import Table, to_numbers
from ltau_cli.settings import FrameKeys, LogOptions

# per_atom.csv of SevenNet
SEVENN = tuple(f"{side}_{axis}" for side in ("inferred_force", "force_of_atoms") for axis in "xyz")
ENERGY_NAMES = ("error", "true_error", "energy_error", "errors", "true_errors", "energy_errors")
NAMES = ("error", "true_error", "force_error", "errors", "true_errors", "force_errors")


def read_true_energies(place: Place, keys: FrameKeys | None = None) -> Column:
    """Read errors of energies per atom, (n_frames,) float64 in error units, signed if they are.

    They are numbers, as :mod:`ltau_cli.readers.column` reads them; or predicted minus reference
    energies in frames (``keys`` names them there), or in a file of ``ltau describe``. These tell
    the ``formula`` of each frame, too.
    """
    check_file(place.path)
    if place.key is None and place.path.suffix.lower() in FRAME_ENDINGS:
        names = keys or FrameKeys()
        errors, labels, _ = read_evaluated(
            place.path, LogOptions(names.reference, names.prediction, quantity="energy")
        )
        return Column(place, errors.astype(np.float64), label_frames(labels), "true errors")
    told, true, natoms = (
        None if place.key is not None else read_optional(place, name)
        for name in ("energy", "reference_energy", "natoms")
    )
    if told is None or true is None or natoms is None:
        return as_numbers(read_column(place, ENERGY_NAMES), what="true errors")
    return Column(place, (told - true) / natoms, label_frames(read_frame_labels(place.path)),
                  "true errors")  # fmt: skip


def read_true_errors(place: Place, keys: FrameKeys | None = None) -> Column:
    """Read true errors, (n,) float64 in error units, with the species of each atom from frames.

    They are (n,) magnitudes or (n, 3) error vectors, as :mod:`ltau_cli.readers.column` reads them;
    or the difference of predicted and reference forces: in frames (``keys`` names them there), in a
    file of ``ltau describe``, ``force_*.out`` of GPUMD, ``*.f.out`` of DeePMD, ``per_atom.csv`` of
    SevenNet, ``test_result.json`` of CHGNet.
    """
    check_file(place.path)
    column = None if place.key is not None else _read_both_sides(place, keys or FrameKeys())
    return as_magnitudes(column or read_column(place, NAMES, vectors=True), what="true errors")


def _read_both_sides(place: Place, keys: FrameKeys) -> Column | None:
    """Read the difference of two sides; None if the file does not hold both."""
    path = place.path
    ending = path.suffix.lower()
    if ending in FRAME_ENDINGS:
        names = LogOptions(reference=keys.reference, prediction=keys.prediction)
        errors, labels, norms = read_evaluated(path, names)
        return Column(place, errors, labels | {"reference_norm": norms})
    if ending == ".csv":
        table = Table(path)
        return _read_sevennet(place, table) if set(SEVENN) <= set(table.header) else None
    if ending == ".json":
        return _read_chgnet(place)
    if ending == ".out":  # of GPUMD and DeePMD
        values = read_array(place)
        if values.shape[1:] != (6,):
            return None
        both = np.split(values, 2, axis=1)
        if path.name.lower().endswith(".f.out"):  # of DeePMD: the reference first
            both.reverse()
        return _compare(place, both[0], both[1])
    told, true = (read_optional(place, name) for name in ("forces", "reference_forces"))
    if told is None or true is None:
        return None
    labels = row_labels(len(told), partial(read_optional, place))
    return _compare(place, told, true, labels)


def _compare(
    place: Place,
    told: npt.NDArray[np.generic],
    true: npt.NDArray[np.generic],
    labels: Mapping[str, Array] | None = None,
) -> Column:
    """Norm of each difference, (n,), and of what is true."""
    if told.ndim != 2 or told.shape != true.shape:
        raise InputError(
            f"{place} holds forces of shape {told.shape} and reference forces of shape "
            f"{true.shape}; both are (n_atoms, 3)"
        )
    reference = true.astype(np.float64)
    errors = np.linalg.norm(told.astype(np.float64) - reference, axis=1)
    norms = np.linalg.norm(reference, axis=1)
    check_truth(float(np.nansum(errors)), float(np.nansum(norms)), place)
    return Column(place, errors, {**(labels or {}), "reference_norm": norms})


def _read_sevennet(place: Place, table: Table) -> Column:
    lines, entries = table.entries_of(*SEVENN)
    columns = [
        to_numbers(own, name, place.path, lines) for own, name in zip(entries, SEVENN, strict=True)
    ]
    told, true = np.split(np.stack(columns, axis=1), 2, axis=1)
    return _compare(place, told, true)


def _read_chgnet(place: Place) -> Column:
    """Read predicted and true forces, frame by frame."""
    try:
        frames = json.loads(place.path.read_text(encoding="utf-8"))
        pairs = [
            [np.array(frame["force"][side], dtype=float) for side in ("prediction", "ground_truth")]
            for frame in frames
        ]
        told, true = (np.concatenate(forces) for forces in zip(*pairs, strict=True))
        return _compare(place, told, true)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{place.path} does not hold predicted and true forces as CHGNet writes them",
            hint="its trainer writes test_result.json with save_test_result=True and forces",
        ) from error
