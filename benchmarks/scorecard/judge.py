"""Every way on one network: calibrated on some frames in domain, judged on all sets."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ltau_cli.core.calibration.metrics import rank_ceiling
from scorecard.cases import Case, Flags, Floats, Judged, read_case, splits
from scorecard.measures import FAR_TIMES, Truth, measure
from scorecard.ways import Bars, rows_of, ways_for

DISTANCES = (0.0, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, np.inf)  # edges of the bins of the figure
Record = dict[str, Any]


class Task(NamedTuple):
    """A network to judge: its folder, what it is of, its sets and how often they are split."""

    folder: Path
    system: str
    network: str
    sets: list[str] | None
    splits: int


def judge(task: Task) -> tuple[list[Record], list[Record]]:
    """Measure all ways on a network.

    Returns
    -------
    list of dict
        One record for each split, set and way.
    list of dict
        One for each set: what holds whatever the way.
    """
    warnings.simplefilter("ignore")
    case = read_case(task.folder, task.system, task.sets)
    named = {"system": task.system, "network": task.network, "seed": case.seed}
    rows = rows_of(case)  # compiles, so that no way is charged for it
    far = {name: of_set.structure_distance for name, of_set in rows.items()}
    cut = FAR_TIMES * np.quantile(case.near.error, 0.95)
    truth = {
        name: Truth(
            judged.error,
            rows[name].relative_distance,
            judged.species,
            judged.error > cut,
            np.full(len(judged.error), np.nan) if judged.noise is None else judged.noise,
        )
        for name, judged in case.sets.items()
    }
    records: list[Record] = []
    for way_name, way in ways_for(case).items():
        began = time.process_time()
        prepared = way.prepare(case)
        seconds = time.process_time() - began
        for split, chosen in enumerate(splits(case.near, task.splits)):
            began = time.process_time()
            bars = way.calibrate(prepared, case, chosen, split)
            own = named | {
                "way": way_name,
                "split": split,
                "training_seconds": way.trainings * case.training_seconds,
                "seconds": seconds + time.process_time() - began,
                "reference_calculations": case.train_frames
                + len(np.unique(case.near.structure[chosen])),
            }
            for name, part, of_part in rest_of(case, bars, chosen):
                records.append(
                    own
                    | {"set": name}
                    | measure(of_part, take(truth[name], part))
                    | covered_by_distance(of_part, truth[name].error[part], far[name], part)
                )
    return records, [named | describe(case, name, truth[name]) for name in case.sets]


def rest_of(case: Case, bars: dict[str, Bars], chosen: Flags) -> Iterator[tuple[str, Flags, Bars]]:
    """Each set, its atoms that were not calibrated on, and their bars."""
    for number, (name, judged) in enumerate(case.sets.items()):
        part = ~chosen if number == 0 else np.ones(len(judged.error), dtype=bool)
        yield name, part, bars[name].take(part)


def take(truth: Truth, part: Flags) -> Truth:
    return Truth(*(values[part] for values in vars(truth).values()))


def covered_by_distance(
    bars: Bars, error: Floats, distance: Floats | None, part: Flags
) -> dict[str, list[float]]:
    """Atoms in each bin of the distance of their frame, and how many the 90 % bound covers."""
    if distance is None:
        return {}
    covered = error <= bars.bounds[:, 1]
    return {
        "by_distance_n": np.histogram(distance[part], DISTANCES)[0].tolist(),
        "by_distance_covered": np.histogram(distance[part][covered], DISTANCES)[0].tolist(),
    }


def describe(case: Case, name: str, truth: Truth) -> Record:
    judged = case.sets[name]
    return {
        "set": name,
        "train_frames": case.train_frames,
        "train_atoms": len(case.last_error),
        "training_seconds": case.training_seconds,
        "frames": int(judged.structure.max()) + 1,
        "mean_error": float(judged.error.mean()),
        "members": len(judged.forces),
        "error_of_mean": ensemble_error(judged),
        "large": float(truth.large.mean()),
        "ceiling": None if judged.is_table else rank_ceiling(judged.error),
    }


def ensemble_error(judged: Judged) -> float:
    """Mean error of the mean forces of all networks, nan for one network."""
    if len(judged.forces) < 2 or judged.true is None:
        return float("nan")
    mean = np.mean(judged.forces, axis=0)
    return float(np.linalg.norm(mean - judged.true, axis=1).mean())
