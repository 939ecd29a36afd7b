"""Labels of the samples of a log: those that came along, and those of the user's own files."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.readers.column import (
    GROUPS,
    check_count,
    read_counts,
    read_labels,
    read_magnitudes,
)
from ltau_cli.readers.descriptors import check_one_says, spread
from ltau_cli.readers.frames import REFERENCES, read_frame_labels
from ltau_cli.readers.logs.run import LoggedRun
from ltau_cli.readers.place import Place
from ltau_cli.settings import IngestSettings

LABELS = ("natoms", "frames", "group", "sample_id", "magnitude")


def label_places(settings: IngestSettings) -> dict[str, Place]:
    """Return the place of each file of labels that was given, by role."""
    given = {role: getattr(settings, role) for role in LABELS}
    return {role: Place.parse(text) for role, text in given.items() if text is not None}


def read_all_labels(settings: IngestSettings, log: LoggedRun) -> dict[str, npt.NDArray[Any]]:
    """Read the labels of the log and of the user.

    Returns
    -------
    dict of str to (n,) array
        All of one length, that of the log unless it ends early.

    Raises
    ------
    InputError
        If a file cannot be read or has another number of samples.
    """
    columns = dict(log.labels)
    places = label_places(settings)
    name = log.names[0]
    check_one_says(places.get("natoms"), places.get("frames"))
    if "frames" in places:
        columns |= read_frame_labels(places["frames"].path).as_dict()
    if "natoms" in places:
        natoms = read_counts(places["natoms"])
        total = max(log.n_samples, int(natoms.sum())) if log.ends_early else log.n_samples
        columns["structure"] = spread(natoms, total, str(places["natoms"]))
    if "group" in places:
        columns["group"] = read_labels(places["group"], GROUPS).values
    if "sample_id" in places:
        columns["sample_id"] = read_labels(places["sample_id"]).values
    if "magnitude" in places:
        names = ("magnitude", "reference_forces", *REFERENCES["forces"])
        magnitude = read_magnitudes(places["magnitude"], names, what="magnitudes", signed=True)
        columns["magnitude"] = magnitude.values.astype(np.float32)
    # A log may end at the largest id that was seen; the frames then tell how many there are.
    n = log.n_samples
    if log.ends_early:
        n = max([n, *(len(v) for k, v in columns.items() if k in ("structure", "species"))])
    for label, values in columns.items():
        check_count(
            values, n, places.get(label) or places.get("frames") or label, name, of="samples"
        )
    return columns
