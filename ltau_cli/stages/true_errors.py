"""Scored rows whose true errors are known."""

import os
from dataclasses import dataclass, replace

import numpy as np

from ltau_cli.array_types import Array, Bools, Floats
from ltau_cli.artifacts.described import check_network, find_origin
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.scores import ScoresFile
from ltau_cli.core.calibration.apply import rows_of
from ltau_cli.core.calibration.maps import Rows
from ltau_cli.core.structures import Block, name_elements, structure_distance
from ltau_cli.core.units import same_units
from ltau_cli.errors import InputError, warn
from ltau_cli.offsets import without_offsets
from ltau_cli.readers.column import GROUPS, Column, read_labels
from ltau_cli.readers.place import Place
from ltau_cli.readers.truth import read_true_energies, read_true_errors
from ltau_cli.settings import UNITS, FrameKeys

MOST_APART = 20  # times the median predicted error is that of the true ones, and no more
NEAR = 3  # times a factor of units: mean errors of all epochs may be twice the true ones
RULED = 5.0  # times the median is a mean that a few errors rule
FACTORS = {
    1000.0: "1,000 (meV, eV)",
    23.06: "23.06 (kcal/mol, eV)",
    27.21: "27.2 (eV, Hartree)",
    51.42: "51.4 (eV/Å, Hartree/Bohr)",
    96.49: "96.5 (kJ/mol, eV)",
}
STORED_LABELS = ("species", "group")  # --group names these, or a file


def read_truth(
    given: str | os.PathLike[str], keys: FrameKeys, scores: ScoresFile, hasher: Hasher
) -> Column:
    """Read the true error of each row of scores, (n_rows,) float64 in error units."""
    place = Place.parse(os.fspath(given))
    origin = find_origin(place)
    check_network(place, origin, scores.parameters)
    quantity = scores.parameters.get("quantity")
    if origin is not None:  # a described file: it knows its units
        _compare_units(UNITS[quantity or "forces"], place, scores)
    hasher.add("true errors", place.path, "true errors", key=place.key)
    if quantity == "energy":
        column = _of_scores(read_true_energies(place, keys), scores)
        offsets = scores.parameters.get("offsets", {})
        formulas = column.labels.get("formula")
        if formulas is not None or (column.values < 0).any():  # else magnitudes, as they are
            column = replace(column, values=without_offsets(column.values, formulas, offsets))
    else:
        column = _of_scores(read_true_errors(place, keys), scores)
    _compare_scales(column, scores)
    return column


def _compare_units(units: str, place: Place, scores: ScoresFile) -> None:
    """Refuse true errors in other units than those of the log."""
    if not same_units(units, scores.units):
        raise InputError(
            f"{place} holds errors in {units}, {scores.path} in {scores.units}",
            hint="convert one of them; if only the label is wrong: ltau ingest --units",
        )


def _compare_scales(truth: Column, scores: ScoresFile) -> None:
    """Say so if a few errors rule the means, or predicted and true ones are of other sizes."""
    error = scores.read(scores.error_column)
    true, predicted = float(np.median(truth.values)), float(np.median(error))
    for values, name, median in (
        (error, scores.path, predicted),
        (truth.values, truth.place, true),
    ):
        if 0 < RULED * median < values.mean(dtype=np.float64):
            row = int(values.argmax())
            warn(
                f"a few errors in {name} rule the means of the tables: the median is {median:.3g}, "
                f"row {row} has {values[row]:.3g} (wrong labels, or wrong frames?)"
            )
    if not (true > 0 and predicted > 0) or 1 / MOST_APART < true / predicted < MOST_APART:
        return
    ratio = max(true / predicted, predicted / true)
    near = [told for factor, told in FACTORS.items() if 1 / NEAR < ratio / factor < NEAR]
    warn(
        f"true errors ({truth.place}, median {true:.3g}) are {ratio:,.3g} times "
        f"{'larger' if true > predicted else 'smaller'} than predicted ({scores.path}, median "
        f"{predicted:.3g}): in other units? " + (f"near {' or '.join(near)}" if near else
        "no common factor is near: or errors of something else"))  # fmt: skip


@dataclass(frozen=True)
class JudgedRows:
    """Rows of known error that the calibration in the scores was not fitted on.

    ``rest`` (n_rows,) bool tells which rows of the scores they are, ``labels`` (n,) what the user
    wants them told apart by; true errors are in error units.
    """

    rest: Bools
    rows: Rows
    true_error: Floats
    labels: Array | None


def read_judged_rows(
    scores: ScoresFile, true_errors: Column, group: str | None, draws: str | None, hasher: Hasher
) -> JudgedRows:
    """Put the rows to judge and their true errors together; a ComputeError if no row is left."""
    labels = _read_group(scores, true_errors, group, hasher)
    stored = scores.read("group") if scores.has("group") else labels
    rows, rest = _with_draws(_rows(scores, stored), draws, scores, hasher), scores.rows_to_judge()
    labels = None if labels is None else labels[rest]
    return JudgedRows(rest, rows.take(rest), true_errors.values[rest], labels)


def read_known_rows(
    scores: ScoresFile, truth: Column, group: str | None, draws: str | None, hasher: Hasher
) -> Rows:
    """Read what a calibration needs to know of all rows of a scores artifact.

    ``group`` is ``species``, ``group``, or a file of labels; None takes the labels that are there,
    such as the species in the frames of ``truth``. ``draws`` is a file that says which rows, or
    structures, were drawn together.
    """
    rows = _rows(scores, _read_group(scores, truth, group, hasher))
    return _with_draws(rows, draws, scores, hasher)


def _rows(scores: ScoresFile, group: Array | None) -> Rows:
    names = ["expected_error", "relative_distance", "neighbor_distance", "last_epoch_error"]
    names += ["features"]
    block: Block = {name: scores.read(name) for name in names if scores.has(name)}
    distance = None
    if scores.has("local_distance"):
        block["structure"] = scores.read("structure")
        distance = scores.read("local_distance").astype(np.float64)
    elif scores.has("structure"):
        block["structure"] = scores.read("structure")
        distance = structure_distance(block["structure"], block["relative_distance"])
    if group is not None:
        block["group"] = group
    told_later = group is not None and not scores.has("group") and name_elements(group)
    is_table = scores.parameters["table"] and not told_later
    is_trained = scores.parameters.get("n_epochs", 2) > 1
    rows = rows_of(block, distance, scores.feature_names)
    return replace(rows, is_table=is_table, is_trained=is_trained)


def _with_draws(rows: Rows, given: str | None, scores: ScoresFile, hasher: Hasher) -> Rows:
    """Add which rows were drawn together: one label per row, or per structure."""
    if given is None:
        return rows
    labels = _read_labels("draws", given, ("draw", "structure"), hasher)
    if rows.structure is not None and len(labels.values) == int(rows.structure.max()) + 1:
        return replace(rows, draws=labels.values[rows.structure])
    return replace(rows, draws=_of_scores(labels, scores).values)


def _read_group(
    scores: ScoresFile, truth: Column, group: str | None, hasher: Hasher
) -> Array | None:
    if group is not None and group not in STORED_LABELS:
        return _of_scores(_read_labels("group", group, GROUPS, hasher), scores).values
    if scores.has("group"):
        return scores.read("group")
    species = truth.labels.get("species")
    if species is None and group is not None:
        raise InputError(
            f"{scores.path} does not say which {group} a row belongs to",
            hint="give a file of labels: --group FILE",
        )
    return species


def read_ood_labels(given: str, scores: ScoresFile, rest: Bools) -> Bools:
    """Read which of the rows ``rest``, (n_rows,) bool, are out of domain (1), and which not (0)."""
    labels = _of_scores(read_labels(Place.parse(given), ("ood",)), scores).values
    names = labels[rest].astype(np.str_)  # 1 in .npy, "1" in .txt
    if np.unique(names).tolist() != ["0", "1"]:
        raise InputError(
            f"{given}: out-of-domain labels must be 0 and 1, and both must occur",
            hint="1 for a row that is out of domain, 0 for one that is not",
        )
    return np.asarray(names == "1")


def _read_labels(role: str, given: str, names: tuple[str, ...], hasher: Hasher) -> Column:
    place = Place.parse(given)
    hasher.add(role, place.path, "labels", key=place.key)
    return read_labels(place, names)


def _of_scores(column: Column, scores: ScoresFile) -> Column:
    """Return the values of the rows of scores, in their order."""
    return column.of(scores.told())
