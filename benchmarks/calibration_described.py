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


def write(prefix: Path, path: str | Path, frames: slice = slice(None)) -> None:
    """Write the arrays of one set, some of the frames of a file."""
    with h5py.File(path) as file:
        natoms = file["natoms"][:]
        chosen = np.repeat(np.arange(len(natoms)), natoms)
        atoms = np.isin(chosen, np.arange(len(natoms))[frames])
        arrays = {
            "descriptors": file["descriptors"][:][atoms],
            "natoms": natoms[frames],
            "species": file["species"].asstr()[:].astype(str)[atoms],
            "forces_pred": file["forces"][:][atoms],
            "forces_true": file["reference_forces"][:][atoms],
        }
        if "trajectory" in file:
            arrays["trajectory"] = file["trajectory"][:][atoms]
    for name, values in arrays.items():
        np.save(f"{prefix}_{name}.npy", values)


if __name__ == "__main__":
    main()
