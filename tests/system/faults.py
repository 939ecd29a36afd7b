"""Campaigns against every command: ``python -m tests.system.faults`` (``make faults``).

Kills at random moments and a table of misuses. Prints what went wrong and the figures; the exit
code is 1 if anything did.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.system import machine
from tests.system.ground import Ground
from tests.system.kills import kill
from tests.system.misuses import check, misuses


def campaign(folder: Path, *, kills: int, inputs: int, seed: int) -> Iterator[str]:
    """Run both campaigns in a new folder; yield what went wrong, print the figures."""
    machine.warm_up()
    random = np.random.default_rng(seed)
    counts: Counter[str] = Counter()
    large, small = Ground(folder / "large" / "good", 400), Ground(folder / "small" / "good")
    cases = list(misuses(random))
    chosen = random.permutation(len(cases))[:inputs]
    try:
        for number in range(kills):
            yield from kill(large, number, folder / "large" / "kill", random, counts)
        for number in chosen:
            yield from check(cases[number], small, folder / "small" / str(number), counts)
        yield from (f"{name} was changed" for name in large.harmed() + small.harmed())
    finally:  # also when somebody has seen enough
        print(", ".join(f"{name}: {n:,}" for name, n in counts.items()), flush=True)


def main() -> int:
    """Run the campaigns that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--inputs", type=int, default=400, help="chosen from some 2,500 cases")
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
