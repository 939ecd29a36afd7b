"""The rows of one descriptor file, with all that is known of them before they are scored."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.array_types import Array, Integers, Singles
from ltau_cli.artifacts.described import check_origin, find_origin, find_parameters
from ltau_cli.artifacts.model import ModelFile
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.scores import Header
from ltau_cli.artifacts.write import as_stored
from ltau_cli.core.calibration.maps import FEATURES
from ltau_cli.core.structures import name_elements
from ltau_cli.core.trajectory import TRAJECTORY
from ltau_cli.core.units import of_forces
from ltau_cli.errors import InputError, UsageError, warn
from ltau_cli.matching import Known
from ltau_cli.pieces.store import stamps_of
from ltau_cli.readers.column import GROUPS, read_labels, read_magnitudes
from ltau_cli.readers.descriptors import Descriptors, open_descriptors, read_structure
from ltau_cli.readers.frames import holds_frames
from ltau_cli.readers.place import Place
from ltau_cli.settings import NO_ATOMS, ScoreSettings
from ltau_cli.stages.scoring.loaded import Loaded


def check_input(descriptors: str, model: ModelFile, shards: int) -> None:
    """Refuse early what could not be scored."""
    place = Place.parse(descriptors)
    check_origin(place, find_origin(place), model.parameters)
    with open_descriptors(place) as source:
        width = model.sizes["d"]
        if source.width != width:
            raise InputError(
                f"{source.source.place} has {source.width} columns, {model.path} was fitted on "
                f"{width}",
                hint="compute the descriptors with the same layer of the same trained network",
            )
        if shards > source.n:
            raise UsageError(
                f"{source.source.place} has {source.n:,} rows, too few for {shards:,} shards",
                hint=f"use --shard I/{source.n} or fewer shards",
            )


@dataclass(frozen=True)
class Rows:
    """An open descriptor file."""

    output: Path  # of the scores; ``-`` for CSV on standard output
    loaded: Loaded
    source: Descriptors
    structure: Integers | None  # (n,)
    fingerprint: Integers | None  # (n, 2): of each row's frame
    frames: Path | None  # where the atoms stand, if that is known
    # dict of str to (n,) array: ``group``, ``sample_id``, ``reference_norm``, where known
    labels: dict[str, Array]
    features: dict[str, Singles]  # the trajectory, and the user's own
    described: Mapping[str, Any]  # how the descriptors were made, where ltau describe did
    hasher: Hasher  # of the descriptors and what belongs to them

    @property
    def place(self) -> Place:
        """Of the descriptors."""
        return self.source.source.place

    @property
    def lost_structures(self) -> str:
        """Say what is lost if only the training set knew structures; empty if nothing is."""
        known = self.structure is not None or self.loaded.settings.natoms == NO_ATOMS
        if known or not self.loaded.knows_structures:
            return ""
        return (
            f"{self.place} does not say which atoms are of one structure, as the training set did: "
            "bars cannot tell whole structures that are unlike it, and are too short there; give "
            f"--natoms or --frames, or --natoms {NO_ATOMS} if its rows are no atoms"
        )

    @property
    def is_table(self) -> bool:
        """Whether the rows are no atoms, or nothing says that they are."""
        group = self.labels.get("group")
        says_so = [
            self.structure is not None,
            self.loaded.knows_structures,
            bool(self.loaded.target.get("quantity")),
            of_forces(self.loaded.units),
            "origin" in self.described,
            group is not None and name_elements(group),
        ]
        return self.loaded.settings.natoms == NO_ATOMS or not any(says_so)

    @property
    def unseen_groups(self) -> list[str]:
        """Groups of the rows, such as elements, that no calibration row was of; increasing."""
        calibration = self.loaded.calibration
        if calibration is None or not len(calibration.groups) or "group" not in self.labels:
            return []
        own = np.unique(self.labels["group"]).astype(np.str_)
        return [str(name) for name in np.setdiff1d(own, calibration.groups.astype(np.str_))]

    def header(self) -> Header:
        """Return what stands beside the scores."""
        loaded, scorer = self.loaded, self.loaded.scorer
        parameters = {
            "k": scorer.k,
            "thresholds": scorer.thresholds,
            "quantiles": scorer.quantiles,
            "cdf": scorer.with_cdf,
            "labels": sorted(self.labels),
            "features": list(self.features),
            "table": self.is_table,
            **loaded.target,
        }
        if loaded.cutoff is not None:
            parameters["cutoff"] = loaded.cutoff
        if loaded.calibration is not None:
            parameters["calibration_method"] = loaded.calibration.method
        parameters |= {
            name: self.described[name] for name in ("origin", TRAJECTORY) if name in self.described
        }
        more = {"feature_names": np.array(list(self.features))} if self.features else {}
        if self.source.natoms is not None and self.fingerprint is not None:
            more["structures/fingerprint"] = self.fingerprint
        elif self.structure is not None and self.fingerprint is not None:
            frames = np.unique(self.structure, return_index=True)[1]
            more["structures/fingerprint"] = self.fingerprint[frames]
        return Header(
            n=self.source.n,
            n_structures=0 if self.structure is None else int(self.structure.max()) + 1,
            columns=loaded.columns() | more,
            calibration=loaded.calibration,
            label_dtypes={name: as_stored(values).dtype for name, values in self.labels.items()},
            parameters=parameters,
            units=loaded.units,
            model_fingerprint=scorer.model.fingerprint,
            least_pvalue=scorer.least_pvalue,
            unseen_groups=self.unseen_groups,
        )

    def identify(self) -> dict[str, Any]:
        """All that scored rows depend on, without reading whole files."""
        scorer = self.loaded.scorer
        return {
            "model_fingerprint": scorer.model.fingerprint,
            "k": scorer.k,
            "thresholds": scorer.thresholds,
            "threshold_scale": scorer.threshold_scale,
            "quantiles": scorer.quantiles,
            "row": self.loaded.dtype.descr,
            "n_rows": self.source.n,
            "descriptors": stamps_of([self.place]),
        }


@contextlib.contextmanager
def open_rows(descriptors: str, output: Path, loaded: Loaded) -> Iterator[Rows]:
    """Open the descriptors and read what belongs to them."""
    place = Place.parse(descriptors)
    with Hasher([place.path]) as hasher, open_descriptors(place) as source:
        place = source.source.place
        hasher.add("descriptors", place.path, "descriptors", key=place.key, rows=source.n)
        told, frames = _read_frames(loaded.settings, source, hasher)
        if loaded.target.get("averaged"):
            source, frames = source.averaged(natoms_of(told)), None
            told = source.told()
        labels = _read_labels(loaded.settings, source, told, hasher)
        known = Known(told.name, told.n, told.labels | labels)
        described = {} if source.named else dict(find_parameters(Place(place.path)) or {})
        if TRAJECTORY in loaded.settings.features:
            described.pop(TRAJECTORY, None)  # the values are of another file
        own = dict.fromkeys(described.keys() & {TRAJECTORY}, "") | dict(loaded.settings.features)
        features = _read_features(own, source, known, hasher)
        structure, prints = told.labels.get("structure"), told.labels.get("fingerprint")
        rows = Rows(
            output, loaded, source, structure, prints, frames, labels, features, described, hasher
        )
        _check_calibration(rows)
        yield rows


def natoms_of(told: Known) -> Integers:
    """Return the number of rows of each structure, (n,)."""
    if "structure" not in told.labels:
        raise InputError(
            f"{told.name} does not say which atoms are of one structure, whose errors the model is "
            "of",
            hint="give the number of atoms of each, or the frames: --natoms FILE or --frames FILE",
        )
    structure = told.labels["structure"]
    if (np.diff(structure) < 0).any():
        raise InputError(
            f"{told.name}: rows of one structure are not one after the other",
            hint="put them in the order of the structures",
        )
    return np.bincount(structure)


def _read_frames(
    asked: ScoreSettings, source: Descriptors, hasher: Hasher
) -> tuple[Known, Path | None]:
    """Return what is known of the rows, and where their atoms stand, where that is known."""
    told = source.told()
    if asked.natoms == NO_ATOMS:
        labels = {name: label for name, label in told.labels.items() if name != "structure"}
        return Known(told.name, told.n, labels), None
    counts = None if asked.natoms is None else Place.parse(asked.natoms)
    frames = None if asked.frames is None else Path(asked.frames)
    if frames is not None:
        hasher.add("frames", frames, "frames")
    if counts is not None:
        hasher.add("natoms", counts.path, "natoms", key=counts.key)
    given = read_structure(counts, frames, told)
    if not given:
        structure, own = source.structure(), source.source.place.path
        given = {} if structure is None else {"structure": structure}
        frames = own if holds_frames(own) else None
    return Known(told.name, told.n, told.labels | given), frames


def _read_labels(
    asked: ScoreSettings, source: Descriptors, told: Known, hasher: Hasher
) -> dict[str, Array]:
    if asked.group is None:
        group = source.labels(*GROUPS)
    else:
        given = Place.parse(asked.group)
        hasher.add("group", given.path, "labels", key=given.key)
        group = read_labels(given, GROUPS).of(told).values
    found = {"group": group, "sample_id": source.labels("sample_id")}
    found["reference_norm"] = told.labels.get("reference_norm")
    return {name: labels for name, labels in found.items() if labels is not None}


def _read_features(
    asked: Mapping[str, str], source: Descriptors, told: Known, hasher: Hasher
) -> dict[str, Singles]:
    """Read the trajectory and the user's own features, by name."""
    found = {}
    for name, given in sorted(asked.items()):
        if not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) or name in FEATURES:
            raise UsageError(
                f"{name!r} cannot be the name of a feature",
                hint="use letters, digits and _, such as spread, and none of "
                + ", ".join(FEATURES),
            )
        if given == "":
            column = source.column(name)
        else:
            where = Place.parse(given)
            hasher.add("feature", where.path, "feature", key=where.key, feature=name)
            column = read_magnitudes(where, (name,), what="values")
        found[name] = column.of(told).values.astype(np.float32)
    return found


def _check_calibration(rows: Rows) -> None:
    """Refuse rows that do not come with what a cutoff and the calibration need to know of them."""
    loaded, place = rows.loaded, rows.place
    calibration, path = loaded.calibration, loaded.settings.calibration
    if loaded.cutoff is not None and rows.frames is None:
        of = "" if path is None else f" of {path}"
        raise InputError(
            f"the cutoff{of} needs to know where the atoms of {place} stand",
            hint="give their frames: --frames FILE",
        )
    if calibration is None:
        return
    if loaded.needs_structures and rows.structure is None:
        raise InputError(
            f"{path} uses each structure's mean distance, but {place} does not "
            "say which structure a row belongs to",
            hint="give --natoms or --frames, or calibrate on scores without structures",
        )
    used = calibration.predictor.map.used & set(calibration.own_features)
    lacking = sorted(used - set(rows.features))
    if lacking:
        hint = f"give it: --feature {lacking[0]}=FILE, made as for the calibration"
        if loaded.kept is not None and lacking == [TRAJECTORY]:
            hint = "describe these frames with the same --trajectory as the calibrated ones"
        raise InputError(
            f"{path} uses the feature {lacking[0]} of each row, which {place} comes without",
            hint=hint,
        )
    if TRAJECTORY in used and loaded.kept != rows.described.get(TRAJECTORY):
        raise InputError(
            f"the trajectory of {place} is by other weights than that of {path}",
            hint="describe both with the same --trajectory and --kept",
        )
    unseen = rows.unseen_groups
    if unseen:
        warn(
            f"never calibrated on: {', '.join(unseen)}; their bounds are nominal: they rest on the "
            "errors of the others"
        )
    known = calibration.strata.groups.astype(np.str_)
    if not len(known):
        return
    if "group" not in rows.labels:
        raise InputError(
            f"{path} has bounds for each group, but {place} does not say which group "
            "a row belongs to",
            hint="give the labels with --group, such as the species of each atom",
        )
    if not np.isin(rows.labels["group"].astype(np.str_), known).any():
        warn(
            f"no row of {place} is in a group that has bounds of its own in {path}; "
            "the bounds of all are used"
        )
