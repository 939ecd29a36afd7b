"""Throughput and memory of ``ltau ingest`` beside a plain copy loop of the same bytes.

python benchmarks/ingest.py [--gigabytes 2] [--folder DIR]

Both read the same folder of per-epoch float32 .npy files and write the same float32 values to one
HDF5 file on the same disk and wait until it is there (fsync), each in its own process; the runs
alternate.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

COPY = """
import os, sys, h5py, numpy as np
from pathlib import Path
files = sorted(Path(sys.argv[1]).glob("*.npy"))
n = len(np.load(files[0], mmap_mode="r"))
with h5py.File(sys.argv[2], "w") as out:
    errors = out.create_dataset("errors", (len(files), n), "f4")
    for row, file in enumerate(files):
        errors[row] = np.load(file, mmap_mode="r")
    out.flush()
    os.fsync(out.id.get_vfd_handle())
"""


def make_log(folder: Path, n_bytes: int, n_epochs: int = 100) -> None:
    n = n_bytes // (4 * n_epochs)
    rng = np.random.default_rng(0)
    base = rng.lognormal(-2, 0.7, n).astype(np.float32)
    for epoch in range(n_epochs):
        values = base * np.float32(1 + 5 / (epoch + 1)) * rng.random(n, dtype=np.float32)
        np.save(folder / f"train_force_errors_epoch_{epoch}.npy", values)


def timed(command: list[str], output: Path) -> tuple[float, float]:
    """Wall seconds, and peak memory in MB of the process; nothing waits to be written before."""
    output.unlink(missing_ok=True)
    os.sync()
    began = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ltau-benchmark-", dir=options.folder))
    try:
        logs = folder / "logs"
        logs.mkdir()
        make_log(logs, int(options.gigabytes * 1e9))
        ltau = [sys.executable, "-m", "ltau_cli", "ingest", str(logs), "-fqo", str(folder / "e.h5")]
        copy = [sys.executable, "-c", COPY, str(logs), str(folder / "c.h5")]
        ratios, rows = [], []
        for _ in range(options.runs):
            ours = timed(ltau, folder / "e.h5")
            plain = timed(copy, folder / "c.h5")
            ratios.append(plain[0] / ours[0])
            rows.append((ours, plain))
        for name, i in (("ltau ingest", 0), ("plain copy", 1)):
            seconds = float(np.median([row[i][0] for row in rows]))
            memory = max(row[i][1] for row in rows)
            rate = options.gigabytes / seconds
            print(f"{name:12} {seconds:6.2f} s  {rate:5.2f} GB/s  peak {memory:6.0f} MB")
        print(f"throughput over the plain copy's: {np.median(ratios):.2f} (median of pairs)")
    finally:
        shutil.rmtree(folder)


main()
