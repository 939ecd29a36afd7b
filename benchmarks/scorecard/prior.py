"""Which exponents hold for a model, and how much do they differ? ltau's priors are made of them.

    export PYTHONPATH=benchmarks:sample_data
    python -m scorecard --development   # first: makes the systems
    python -m scorecard.prior [FOLDER:SET,SET ...]
    python -m scorecard.prior --tables   # after python -m scorecard --tables --development

The law of ``ltau calibrate`` is fitted without a prior to all sets of each development system and
of the sample data together, every set weighing the same, and to models of yours: each FOLDER as
``benchmarks/calibration.py`` describes it. A table for each prior, with a row for each system: mean
over its networks. ``--tables`` does so for the development tables, and for the rows of each in
domain alone.
"""

from __future__ import annotations

import argparse
import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ltau_cli.core.calibration import maps
from ltau_cli.core.calibration.maps import SOURCE, Belief, Rows
from ltau_cli.core.trajectory import TRAJECTORY
from scorecard import tables
from scorecard.cases import Case, read_case, seeds_in
from scorecard.ways import rows_of, with_committee, with_trajectory, without_structures

ROOT = Path(__file__).resolve().parents[2]
UNKNOWN = Belief(0.0, np.inf)
REACHED = 0.05  # of the rows must lie 25 % beyond the bend, else nothing is known of what is there
COMMITTEE = "trained, a committee of two"
IN_DOMAIN, ALL_SETS = "table, in domain", "table, all sets and the trajectory"
Found = dict[str, dict[str, list[list[float]]]]


def main() -> None:
    """Print the exponents of each system, mean over its models, and their mean and spread."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", metavar="FOLDER:SET,SET")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "scorecard")
    parser.add_argument("--tables", action="store_true", help="of rows that are no atoms")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    found: Found = {}
    of_atoms = (developed(chosen.cache), given(chosen.folders))
    models = [tabled(chosen.cache)] if chosen.tables else of_atoms
    for name, folder, sets in itertools.chain(*models):
        case = read_case(folder, name, sets)
        for kind, values in exponents(case).items():
            found.setdefault(kind, {}).setdefault(name, []).append(values)
    for kind, of_kind in found.items():
        print(f"\n{kind}: {', '.join(names_of(kind))}")
        means = [np.mean(of_system, axis=0) for of_system in of_kind.values()]
        seeds = [np.var(own, axis=0, ddof=1) for own in of_kind.values() if len(own) > 1]
        rows = dict(zip(of_kind, means, strict=True)) | {
            "mean": np.nanmean(means, axis=0),
            "between systems": np.nanstd(means, axis=0, ddof=1),
        }
        if seeds:
            rows["between seeds"] = np.sqrt(np.nanmean(seeds, axis=0))
        for name, numbers in rows.items():
            print(name.ljust(26) + "".join(f"{number:8.2f}" for number in numbers))


def tabled(cache: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """Networks of the development tables."""
    for table in tables.DEVELOPMENT:
        for folder in seeds_in(cache / "tables" / table.name):
            yield table.name, folder, list(tables.SETS)


def developed(cache: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """Networks of the development systems, and of packages on some of them."""
    from scorecard.packages import DEVELOPED, DEVELOPMENT_SYSTEMS
    from scorecard.systems import DEVELOPMENT, SETS

    for system in DEVELOPMENT:
        for folder in seeds_in(cache / system.name):
            yield system.name, folder, list(SETS)
    for name in DEVELOPMENT_SYSTEMS:
        for network in DEVELOPED:
            for folder in seeds_in(cache / name / network):
                yield f"{name}, {network}", folder, list(SETS)


def given(folders: list[str]) -> Iterator[tuple[str, Path, list[str]]]:
    yield "sample data", ROOT / "sample_data", ["300K", "900K"]
    for text in folders:
        folder, _, names = text.partition(":")
        yield Path(folder).name, Path(folder), names.split(",")


def names_of(kind: str) -> list[str]:
    """Features of a prior."""
    if kind == COMMITTEE:
        return [*maps.PRIORS["trained"], "spread"]
    if kind.startswith("table"):
        names = list(maps.PRIORS["table"])
        return names[:-1] if kind == IN_DOMAIN else [*names, TRAJECTORY]
    return list(maps.PRIORS[kind])


def exponents(case: Case) -> dict[str, list[float]]:
    """Exponents of a network by prior; nan where nothing is known."""
    rows = rows_of(case)
    if case.near.is_table:
        own = {name: with_trajectory(rows[name], judged) for name, judged in case.sets.items()}
        return {
            IN_DOMAIN: list(fitted(own["in-domain"], case.near.error, names_of(IN_DOMAIN))),
            ALL_SETS: fitted_together(own, case, names_of(ALL_SETS)),
        }
    kinds = {"trained": rows}
    if all(judged.trajectory is not None for judged in case.sets.values()):
        kinds["trained, trajectory"] = {
            name: with_trajectory(own, case.sets[name]) for name, own in rows.items()
        }
    kinds |= {
        kind.replace("trained", "trained, by row"): {
            name: without_structures(own, case.sets[name]) for name, own in of_kind.items()
        }
        for kind, of_kind in kinds.items()
    }
    if case.members > 1:
        kinds[COMMITTEE] = {
            name: with_committee(own, case.sets[name]) for name, own in rows.items()
        }
    return {kind: fitted_together(of_sets, case, names_of(kind)) for kind, of_sets in kinds.items()}


def fitted_together(of_sets: dict[str, Rows], case: Case, names: list[str]) -> list[float]:
    error = np.concatenate([judged.error for judged in case.sets.values()])
    return list(fitted(maps.join_rows(list(of_sets.values())), error, names))


def fitted(rows: Rows, error: np.ndarray, names: list[str]) -> Iterator[float]:
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


if __name__ == "__main__":
    main()
