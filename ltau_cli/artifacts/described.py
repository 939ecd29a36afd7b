"""The described artifact: what a trained network says of some frames, and what they come with.

Its datasets have the names that the readers look for, so that it is read wherever a file of
descriptors, atoms per frame, labels, frames or true errors is.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, cast

import h5py
import numpy as np

from ltau_cli.array_types import Array, Floats, Integers
from ltau_cli.artifacts.attributes import DescribedParameters, Origin
from ltau_cli.artifacts.read import Artifact, open_artifact
from ltau_cli.artifacts.schema import FORMAT
from ltau_cli.artifacts.write import ArtifactWriter
from ltau_cli.errors import InputError
from ltau_cli.packages.network import Prediction
from ltau_cli.readers.frames import FrameLabels, check_truth
from ltau_cli.readers.place import Place
from ltau_cli.results import DescribeResult

WRITE_ATOMS = 65_536  # at a time
_PREDICTED = ("descriptors", "forces", "trajectory")


class DescribedFile(Artifact):
    """An open described artifact."""

    kind = "described"
    summary: DescribeResult


def find_origin(place: Place) -> Origin | None:
    """Find what the descriptors of a file come from; None if it is no artifact."""
    found = find_parameters(place)
    return None if found is None else found["origin"]


def find_parameters(place: Place) -> DescribedParameters | None:
    """Find how a file was described; None if it is no artifact.

    An array in it that is named is taken as it is, without a check.
    """
    if place.key is not None or not h5py.is_hdf5(place.path):
        return None
    try:
        with h5py.File(place.path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                return None
    except OSError:
        return None  # its reader says what is wrong
    with open_artifact(place.path, DescribedFile) as described:
        return cast(DescribedParameters, described.parameters)


def check_origin(place: Place, origin: Origin | None, fitted: Mapping[str, object]) -> None:
    """Refuse descriptors of another network, or of another layer, than a fit was made with.

    ``origin`` is what they come from, where that is known, ``fitted`` the parameters of the model.
    """
    known = fitted.get("origin")
    if origin is not None and known is not None and origin != known:
        raise InputError(
            f"{place} was described by another network, or by another layer, than the "
            "training set that the model was fitted on",
            hint=f"describe both with the same --network and --layer, or name the array to compare "
            f"them all the same: {place}:descriptors",
        )


def check_network(place: Place, truth: Origin | None, scores: Mapping[str, object]) -> None:
    """Refuse true errors of another network than the scored descriptors, where both are known."""
    scored = cast(Origin | None, scores.get("origin"))
    if truth and scored and truth["network_sha256"] != scored["network_sha256"]:
        raise InputError(
            f"the errors in {place} are those of another network than the one that was scored",
            hint="describe the true errors with the --network that described the scored rows",
        )


def atom_dtype(told: Prediction) -> np.dtype[Any]:
    """Return what is stored of each atom: also the energy of its frame."""
    fields: list[Any] = [("descriptors", "f4", told.descriptors.shape[1:])]
    fields += [("forces", "f8", (3,))] if told.forces is not None else []
    fields += [("energy", "f8")] if told.energy is not None else []
    fields += [("trajectory", "f8")] if told.trajectory is not None else []
    return np.dtype(fields)


def to_rows(told: Prediction, natoms: Integers, dtype: np.dtype[Any]) -> Array:
    """Put the prediction of a batch of frames into structured rows (n_atoms,)."""
    if atom_dtype(told) != dtype:
        raise InputError("the network gives other descriptors for these frames than for the first")
    rows = np.empty(len(told.descriptors), dtype)
    rows["descriptors"] = told.descriptors
    if told.forces is not None:
        rows["forces"] = told.forces
    if told.trajectory is not None:
        rows["trajectory"] = told.trajectory
    if told.energy is not None:
        rows["energy"] = np.repeat(told.energy, natoms)
    return rows


def write_predictions(
    artifact: ArtifactWriter, blocks: Iterable[Array], dtype: np.dtype[Any], natoms: Integers
) -> None:
    """Stream structured rows of all atoms into the artifact."""
    ends = np.cumsum(natoms)
    columns = {
        name: artifact.create(name, (int(ends[-1]), *dtype[name].shape))
        for name in _PREDICTED
        if name in (dtype.names or ())
    }
    energy = np.empty(len(natoms))
    start = 0
    for rows in blocks:
        stop = start + len(rows)
        for name, column in columns.items():
            column[start:stop] = rows[name]
        if "energy" in (dtype.names or ()):
            frames = slice(*np.searchsorted(ends - natoms, [start, stop]))
            energy[frames] = rows["energy"][(ends - natoms)[frames] - start]
        start = stop
    if "energy" in (dtype.names or ()):
        artifact.put("energy", energy)


class ReferenceFrame(NamedTuple):
    """A frame with its references, NaN where it has none."""

    atoms: Any  # ase.Atoms
    forces: Floats  # (n_atoms, 3), eV/Å
    energy: float  # eV


def write_frames(
    artifact: ArtifactWriter,
    frames: Iterable[ReferenceFrame],
    labels: FrameLabels,
    natoms: Integers,
    number: Integers,
) -> None:
    """Write what the frames, read once, come with; references only where some frame has them.

    ``labels`` are those of every atom; ``natoms`` and ``number`` (n_frames,) int64 the atoms of
    each frame, and its place among all that were given.
    """
    n_atoms, n = int(natoms.sum()), len(natoms)
    for name, values in labels.items():
        if name == "fingerprint":
            artifact.put(name, values[np.cumsum(natoms) - 1])
        else:
            artifact.put(name, values, compress=True)
    artifact.put("natoms", natoms)
    artifact.put("frame", number)
    positions = artifact.create("positions", (n_atoms, 3))
    cell, pbc = np.empty((n, 3, 3)), np.empty((n, 3), dtype=bool)
    reference, energy = None, np.empty(n)
    start = 0
    for i, frame in enumerate(frames):
        stop = start + len(frame.atoms)
        positions[start:stop] = frame.atoms.positions
        cell[i], pbc[i], energy[i] = frame.atoms.cell.array, frame.atoms.pbc, frame.energy
        if reference is None and np.isfinite(frame.forces).any():
            reference = artifact.create("reference_forces", (n_atoms, 3))
            reference[:start] = np.nan
        if reference is not None:
            reference[start:stop] = frame.forces
        start = stop
    artifact.put("cell", cell)
    artifact.put("pbc", pbc)
    if np.isfinite(energy).any():
        artifact.put("reference_energy", energy)


def mean_errors(
    artifact: ArtifactWriter, natoms: Integers, name: object
) -> tuple[float | None, float | None]:
    """Mean norm of the force errors, and mean energy error per atom, where both sides are known."""
    force = energy = None
    if artifact.has("forces") and artifact.has("reference_forces"):
        total, size, n = 0.0, 0.0, 0
        for start in range(0, int(natoms.sum()), WRITE_ATOMS):
            told, true = (
                artifact.read(name, start, start + WRITE_ATOMS)
                for name in ("forces", "reference_forces")
            )
            norm = np.linalg.norm(told - true, axis=1)
            total, n = total + float(np.nansum(norm)), n + int(np.isfinite(norm).sum())
            size += float(np.nansum(np.linalg.norm(true, axis=1)))
        check_truth(total, size, name)
        force = total / n
    if artifact.has("energy") and artifact.has("reference_energy"):
        difference = np.abs(artifact.read("energy") - artifact.read("reference_energy"))
        energy = float(np.nanmean(difference / natoms))
    return force, energy
