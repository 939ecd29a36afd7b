"""How good is every way to get an error bar? Make the systems, train, judge, write the page.

    export PYTHONPATH=benchmarks:sample_data
    python -m scorecard                            # make scorecard
    python -m scorecard --quick                    # make scorecard QUICK=1
    python -m scorecard --data FOLDER [SET ...]
    python -m scorecard --tables
    python -m scorecard --development

The whole makes the test systems of ``systems.py`` and trains four networks on each; it needs
``pip install ltau[scorecard]``, keeps each set of frames and each network in ``--cache``, and goes
on there when it was interrupted. Then it trains the networks of ``packages.py`` where the package
has an environment, or ``--packages`` names it, and small networks on the tables of ``tables.py``.
It writes ``scorecard.csv``, ``tables.csv``, ``scorecard.svg`` and the tables of ``scorecard.md``
into docs/. ``--tables`` does the last ones alone, which takes two minutes.

``--quick`` judges the network of sample_data/, which needs no training. ``--data`` judges a network
of yours: FOLDER as ``benchmarks/calibration.py`` describes it, or with such folders ``seed_*`` in
it, networks of the same frames. The first SET, drawn like the training set, is calibrated on.
``--development`` makes and judges the systems that the defaults of ltau were chosen on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("sets", nargs="*", help="with --data: test sets, that to calibrate on first")
parser.add_argument("--data", type=Path, help="a folder of yours instead of the test systems")
parser.add_argument("--quick", action="store_true", help="the network of sample_data/")
parser.add_argument(
    "--packages", nargs="*", metavar="NAME",
    help="train networks of these packages, mace and metatrain (those with an environment)",
)  # fmt: skip
parser.add_argument(
    "--development", action="store_true", help="the systems that the defaults were chosen on"
)
parser.add_argument("--tables", action="store_true", help="tables alone, whose rows are no atoms")
parser.add_argument("--cache", type=Path, default=ROOT / "build" / "scorecard")
parser.add_argument("--output", type=Path, help="folder of the results (docs/, or the cache)")
parser.add_argument("--splits", type=int, help="choices of the calibration frames (5; quick: 3)")
parser.add_argument("--processes", type=int, default=2)
if __name__ == "__main__":
    chosen = parser.parse_args()  # before what takes long to import

from scorecard.cases import seeds_in
from scorecard.judge import Record, Task, judge
from scorecard.page import TABLES, draw, write_csv, write_page, write_rows

NETWORK = "sample network"


def main(chosen: argparse.Namespace) -> None:
    """Do all of it."""
    if chosen.quick:
        chosen.data = ROOT / "sample_data"
    splits = chosen.splits or (3 if chosen.quick else 5)
    apart = chosen.data or chosen.development
    output = chosen.output or (chosen.cache if apart else ROOT / "docs")
    output.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(chosen.processes, get_context("spawn")) as workers:
        tasks: list[Task] = []
        if chosen.data:
            tasks += given(chosen.data, NETWORK if chosen.quick else "yours",
                           chosen.sets or None, splits)  # fmt: skip
        elif not chosen.tables:
            tasks += made(workers, chosen.cache, splits, chosen.development)
            tasks += packaged(workers, chosen.cache, splits, chosen.packages, chosen.development)
        if tasks:
            records, about = judged(workers, tasks)
            write_csv(records, about, output / "scorecard.csv")
            draw(records, output / "scorecard.svg")
            write_page(records, about, output / "scorecard.md")
        if not chosen.data:
            records, about = judged(
                workers, list(tabled(workers, chosen.cache, splits, chosen.development))
            )
            write_csv(records, about, output / "tables.csv")
            write_rows(records, about, output / "scorecard.md")
    print((output / "scorecard.md").read_text() if apart else f"wrote {output}/scorecard.*")


def judged(workers: ProcessPoolExecutor, tasks: list[Task]) -> tuple[list[Record], list[Record]]:
    """Judge all networks."""
    found = list(workers.map(judge, tasks))
    records = [record for of_case, _ in found for record in of_case]
    return records, [record for _, of_case in found for record in of_case]


def given(folder: Path, network: str, sets: list[str] | None, splits: int) -> Iterator[Task]:
    """Judge the network in a folder, or each of those in it."""
    for one in seeds_in(folder) or [folder]:
        yield Task(one, folder.resolve().name, network, sets, splits)


def made(
    workers: ProcessPoolExecutor, cache: Path, splits: int, development: bool
) -> Iterator[Task]:
    """Make the systems, or what is missing of them, and judge each network."""
    from scorecard.networks import make_system
    from scorecard.systems import DEVELOPMENT, SETS, SYSTEMS

    names = [system.name for system in (DEVELOPMENT if development else SYSTEMS)]
    folders = workers.map(make_system, names, [cache] * len(names))
    for name, of_system in zip(names, folders, strict=True):
        print(f"{name}: {len(of_system)} networks", flush=True)
        for folder in of_system:
            yield Task(folder, name, NETWORK, list(SETS), splits)


def tabled(
    workers: ProcessPoolExecutor, cache: Path, splits: int, development: bool
) -> Iterator[Task]:
    """Make the networks of tables, or what is missing of them, and judge each."""
    from scorecard.tables import DEVELOPMENT, SETS, make_table
    from scorecard.tables import TABLES as JUDGED

    names = [table.name for table in (DEVELOPMENT if development else JUDGED)]
    folders = workers.map(make_table, names, [cache] * len(names))
    for name, of_table in zip(names, folders, strict=True):
        for folder in of_table:
            yield Task(folder, name, TABLES, list(SETS), splits)


def packaged(
    workers: ProcessPoolExecutor, cache: Path, splits: int, names: list[str] | None,
    development: bool = False,
) -> Iterator[Task]:  # fmt: skip
    """Make the networks of packages, or what is missing of them, and judge each."""
    from scorecard import packages
    from scorecard.packages import PACKAGES, installed, make_packaged
    from scorecard.systems import SETS

    systems, seeds = packages.SYSTEMS, packages.SEEDS
    if development:
        systems, seeds = packages.DEVELOPMENT_SYSTEMS, packages.SEEDS[:1]
    for package in PACKAGES:
        if development and package.network not in packages.DEVELOPED:
            continue
        wanted = installed(package) if names is None else package.environment in names
        if not wanted:
            how = f"make scorecard MODELS={package.environment}"
            print(f"{package.network}: left out; {how} trains it", flush=True)
            continue
        tasks = [(s, package.network, seed, cache) for s in systems for seed in seeds]
        for (system, *_), folder in zip(tasks, workers.map(make_packaged, tasks), strict=True):
            yield Task(folder, system, package.network, list(SETS), splits)
        print(f"{package.network}: {len(tasks)} networks", flush=True)


if __name__ == "__main__":
    main(chosen)
