"""Campaigns against every command: ``python -m tests.system.faults`` (``make faults``).

Kills at random moments and a table of misuses. Prints what went wrong and the figures; the exit
code is 1 if anything did.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.system import machine
from tests.system.ground import Ground
from tests.system.kills import Killer
from tests.system.misuses import Tester


def campaign(folder: Path, *, kills: int, inputs: int, seed: int) -> Iterator[str]:
    """Run both campaigns in a new folder; yield what went wrong, print the figures."""
    machine.warm_up()
    ground = Ground(folder / "ground")
    killer = Killer(ground, folder / "kills", seed)
    tester = Tester(ground, folder / "inputs", seed)
    try:
        yield from killer.run(kills)
        yield from tester.run(inputs)
    finally:  # also when somebody has seen enough
        for counts in (killer.counts, tester.counts):
            print(", ".join(f"{name}: {n:,}" for name, n in counts.items()), flush=True)


def main() -> int:
    """Run the campaigns that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--inputs", type=int, default=400, help="chosen from some 1,500 cases")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    n_wrong, began = 0, time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="ltau-faults-") as folder:
        for wrong in campaign(
            Path(folder), kills=asked.kills, inputs=asked.inputs, seed=asked.seed
        ):
            n_wrong += 1
            print(wrong, flush=True)
    print(f"{n_wrong} went wrong, {time.perf_counter() - began:.0f} s")
    return int(n_wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
