"""Evaluated frames as an error log: predicted and reference forces or energies."""

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.array_types import Floats, Singles
from ltau_cli.epochs import choose_epochs
from ltau_cli.errors import InputError
from ltau_cli.matching import same_frames
from ltau_cli.readers.frames import (
    PREDICTIONS,
    REFERENCES,
    FrameLabels,
    about,
    check_no_scores,
    check_truth,
    is_stored,
    label_atoms,
    label_frames,
    names_of,
    quantities,
    read_frames,
)
from ltau_cli.readers.logs.numbered import NumberedFiles
from ltau_cli.readers.logs.run import LoggedRun, check_lengths, empty_run, magnitudes
from ltau_cli.readers.scratch import Slots
from ltau_cli.settings import UNITS, LogOptions

FrameErrors = tuple[Singles, FrameLabels]


def open_evaluated(
    numbered: NumberedFiles, options: LogOptions, read: Callable[[Path, LogOptions], FrameErrors]
) -> LoggedRun:
    """Read evaluated frames, one extxyz file per epoch.

    The error of an atom is the norm of the force difference; with ``quantity="energy"`` the error
    of a frame is the energy difference per atom, with its sign.
    """
    result = empty_run()
    result.quantity = options.quantity or "forces"
    result.signed = result.quantity == "energy"
    slots, lengths = Slots(), []
    before: FrameLabels | None = None
    moved: Path | None = None
    for row in choose_epochs(numbered.epochs, options.epochs):
        path = numbered.files[row]
        errors, labels = read(path, options)
        if before is not None:
            for name in ("species", "structure"):
                if not np.array_equal(before[name], labels[name]):
                    raise InputError(
                        f"{path} holds other atoms than {result.files[0]}",
                        hint="evaluate the same frames, in the same order, at every epoch",
                    )
            known, own = before.pop("fingerprint", None), labels.pop("fingerprint", None)
            if known is not None and own is not None and same_frames(known, own):
                labels["fingerprint"] = known
            elif known is not None and own is not None:
                moved = path
        before = labels
        slots.extend(errors)
        lengths.append(len(errors))
        result.epochs.append(numbered.epochs[row])
        result.files.append(path)
        result.names.append(str(path))
        result.labels = label_frames(labels) if result.quantity == "energy" else labels
        result.units = UNITS[result.quantity] if is_stored(path) else ""
    if moved is not None:
        result.remarks.append(
            f"{moved} has atoms at other positions than {result.files[0]}: other frames, or in "
            "another order? every epoch has to evaluate the same ones"
        )
    if not lengths:
        return result
    n = check_lengths(lengths, result.names, may_be_short=False)
    result.n_samples = n
    result.read = partial(slots.columns, range(0, slots.size, n))
    return result


def errors_of_file(path: Path, options: LogOptions) -> FrameErrors:
    """Read the error of each atom (or frame, for energies), and what the frames say of them."""
    errors, labels, _ = read_evaluated(path, options)
    return errors, labels


def read_evaluated(path: Path, options: LogOptions) -> tuple[Singles, FrameLabels, Floats]:
    """Read errors and labels, and the norm of the reference force of each atom, (n_atoms,)."""
    quantity = options.quantity or "forces"
    errors: list[Singles] = []
    told = []
    keys: tuple[str, str] | None = None
    total, norms = 0.0, [np.zeros(0)]
    for number, frame in enumerate(read_frames(path)):
        there = quantities(frame)
        keys = keys or _choose_keys(there, quantity, options, path)
        for key in keys:
            if key not in there:
                raise InputError(f"{path}, frame {number}: there is no {key}")
        predicted, reference = (np.asarray(there[key], dtype=np.float64) for key in keys)
        if predicted.shape != reference.shape:
            raise InputError(
                f"{path}, frame {number}: {keys[0]} has shape {predicted.shape}, {keys[1]} "
                f"{reference.shape}"
            )
        if options.reference is None:
            check_no_scores(there, keys[1], f"{path}, frame {number}")
        difference = predicted - reference
        if quantity == "energy":
            if difference.size != 1:
                raise InputError(f"{path}, frame {number}: {keys[0]} is not one number")
            difference = difference.reshape(1) / max(len(frame), 1)
        elif difference.shape != (len(frame), 3):
            raise InputError(
                f"{path}, frame {number}: {keys[0]} has shape {difference.shape}, there are "
                f"{len(frame)} atoms"
            )
        if quantity == "forces":
            total += float(np.linalg.norm(difference, axis=1).sum())
            norms.append(np.linalg.norm(reference, axis=1))
        errors.append(magnitudes(difference, options, vectors=quantity == "forces"))
        told.append(about(frame))
    norm = np.concatenate(norms)
    check_truth(total, float(norm.sum()), path)
    return np.concatenate(errors), label_atoms(told), norm


def _choose_keys(
    there: dict[str, Any], quantity: str, options: LogOptions, path: Path
) -> tuple[str, str]:
    predictions = (options.prediction,) if options.prediction else PREDICTIONS[quantity]
    references = (options.reference,) if options.reference else REFERENCES[quantity]
    for keys in itertools.product(names_of(predictions, there), names_of(references, there)):
        if keys[0] != keys[1]:
            return keys
    word = quantity.rstrip("s")
    found = sorted(name for name in there if word in name.lower()) or sorted(there)
    raise InputError(
        f"{path}: found no predicted and reference {quantity}; the frames have: "
        + ", ".join(found[:8]),
        hint="name them: --prediction-key NAME --reference-key NAME",
    )
