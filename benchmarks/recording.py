"""What ``ltau record`` costs of an epoch of MACE: run it with the Python of MACE's environment.

Every function of the recorder is timed inside one recorded training, so that the noise of the
machine, far larger than the cost, does not matter. An epoch is the training steps alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SAMPLE = Path(__file__).resolve().parent.parent / "sample_data" / "train.xyz"
TIMED = """
import statistics, sys, time
import mace.tools.train
from ltau_cli.packages.mace import record as recorder
from mace.cli.run_train import main

module = sys.modules["mace.tools.train"]
cost, epochs = [], []
note, epoch = recorder.note, module.train_one_epoch

def timed_note(*given, **named):
    began = time.perf_counter()
    note(*given, **named)
    cost[-1] += time.perf_counter() - began

def timed_epoch(**given):
    cost.append(0.0)
    began = time.perf_counter()
    epoch(**given)
    epochs.append(time.perf_counter() - began)

def timed_end(self):
    began = time.perf_counter()
    end(self)
    cost[-1] += time.perf_counter() - began

end = recorder.FrameLog.end_epoch
recorder.FrameLog.end_epoch = timed_end
recorder.note, module.train_one_epoch = timed_note, timed_epoch
main()
share = statistics.median(c / e for c, e in zip(cost[1:], epochs[1:]))
print(f"{statistics.median(epochs[1:]):.2f} s an epoch, {share:.2%} of it for the log")
"""


def main() -> None:
    """Train on the sample data and print the share."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=6)
    chosen = parser.parse_args()
    options = (
        f"--name m --train_file {SAMPLE} --valid_fraction 0.1 --E0s average --max_L 0 --r_max 4 "
        f"--num_channels {chosen.channels} --batch_size 5 --valid_batch_size 5 --device cpu "
        f"--max_num_epochs {chosen.epochs} --energy_key REF_energy --forces_key REF_forces"
    )
    record = [str(Path(sys.executable).with_name("ltau")), "record", "-q", "-o", "logs", "--"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*record, sys.executable, "-c", TIMED, *options.split()],
            cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
    print(done.stdout.splitlines()[-1] if done.returncode == 0 else done.stdout)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
