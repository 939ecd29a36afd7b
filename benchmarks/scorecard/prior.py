"""Which exponents hold for a model, and how much do they differ? What the prior of ltau is made of.

    export PYTHONPATH=benchmarks:sample_data
    python -m scorecard --development   # first: makes the systems
    python -m scorecard.prior [FOLDER:SET,SET ...]

The law of ``ltau calibrate`` is fitted without a prior to all sets of each development system and
of the sample data together, every set weighing the same, and to models of yours: each FOLDER as
``benchmarks/calibration.py`` describes it.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ltau_cli.core.calibration import maps
from ltau_cli.core.calibration.maps import SOURCE, Belief, Rows
from scorecard.cases import Floats, read_case, seeds_in
from scorecard.systems import DEVELOPMENT, SETS
from scorecard.ways import rows_of, with_committee

ROOT = Path(__file__).resolve().parents[2]
UNKNOWN = Belief(0.0, np.inf)
REACHED = 0.05  # of the rows must lie 25 % beyond the bend, else nothing is known of what is there


def main() -> None:
    """Print the exponents of each system, mean over its models, and their mean and spread."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", metavar="FOLDER:SET,SET")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "scorecard")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    models = [
        (system.name, folder, list(SETS))
        for system in DEVELOPMENT
        for folder in seeds_in(chosen.cache / system.name)
    ]
    models.append(("sample data", ROOT / "sample_data", ["300K", "900K"]))
    for text in chosen.folders:
        folder, _, names = text.partition(":")
        models.append((Path(folder).name, Path(folder), names.split(",")))
    found: dict[str, list[Floats]] = {}
    for name, folder, names in models:
        case = read_case(folder, name, names)
        of_sets = rows_of(case, with_committee) if case.members > 1 else rows_of(case)
        rows = maps.join_rows(list(of_sets.values()))
        error = np.concatenate([judged.error for judged in case.sets.values()])
        found.setdefault(name, []).append(exponents(rows, error))
    columns = [
        f"{name.replace('_', ' ')}, {kind}"
        for kind in ("trained", "trained, by row")
        for name in maps.PRIORS[kind]
    ] + ["spread of a committee of two, beside those with structures"]
    print("\n".join(f"{i + 1}: {column}" for i, column in enumerate(columns)))
    print("model".ljust(20) + "".join(f"{i + 1:8d}" for i in range(len(columns))))
    means = [np.mean(of_system, axis=0) for of_system in found.values()]
    for name, mean in zip(found, means, strict=True):
        print(line(name, mean))
    apart = [
        np.std(of_system, axis=0, ddof=1) for of_system in found.values() if len(of_system) > 1
    ]
    print(line("mean", np.nanmean(means, axis=0)))
    print(line("between systems", np.nanstd(means, axis=0, ddof=1)))
    print(line("between seeds", np.sqrt(np.nanmean(np.square(apart), axis=0))))


def exponents(rows: Rows, error: Floats) -> Floats:
    """Exponents with and without structures, then that of the spread, (8,); nan if unknown."""
    bare = replace(rows, structure=None, structure_distance=None)
    with_structures = list(maps.PRIORS["trained"])
    return np.array([
        *fitted(rows, error, with_structures),
        *fitted(bare, error, list(maps.PRIORS["trained, by row"])),
        *(list(fitted(rows, error, [*with_structures, *rows.own]))[-1:] if rows.own else [np.nan]),
    ])  # fmt: skip


def fitted(rows: Rows, error: Floats, names: list[str]) -> Iterator[float]:
    of_rows = maps.fit_power_law(rows, error, dict.fromkeys(names, UNKNOWN)).exponents()
    for name in names:
        value = of_rows.get(name, 0.0)
        if name in SOURCE:
            distance = rows.feature(name)
            assert distance is not None
            value += of_rows.get(SOURCE[name], 0.0)
            beyond = rows.weight @ (distance > 1.25 * maps.FAR[name])
            value = value if beyond > REACHED else np.nan
        yield value


def line(name: str, values: Floats) -> str:
    return name.ljust(20) + "".join(f"{value:8.2f}" for value in values)


if __name__ == "__main__":
    main()
