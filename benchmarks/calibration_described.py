"""Make the FOLDER that calibration.py reads from a log and the frames that ``ltau describe`` wrote.

python benchmarks/calibration_described.py FOLDER LOGS train.h5 300K=test_300K.h5 600K=...
"""

from __future__ import annotations

import argparse
from pathlib import Path

import h5py
import numpy as np


def main() -> None:
    """Write the arrays, and link the log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("logs", type=Path)
    parser.add_argument("train")
    parser.add_argument("sets", nargs="+", metavar="NAME=FILE")
    chosen = parser.parse_args()
    chosen.folder.mkdir()
    (chosen.folder / "logs").symlink_to(chosen.logs.resolve())
    write(chosen.folder / "train", chosen.train)
    for text in chosen.sets:
        name, _, path = text.partition("=")
        write(chosen.folder / f"test_{name}", path)


def write(prefix: Path, path: str) -> None:
    """Write the arrays of one set."""
    with h5py.File(path) as file:
        np.save(f"{prefix}_descriptors.npy", file["descriptors"][:])
        np.save(f"{prefix}_natoms.npy", file["natoms"][:])
        np.save(f"{prefix}_species.npy", file["species"].asstr()[:].astype(str))
        difference = file["forces"][:] - file["reference_forces"][:]
        np.save(f"{prefix}_force_errors.npy", np.linalg.norm(difference, axis=1))


if __name__ == "__main__":
    main()
