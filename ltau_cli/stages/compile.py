"""Compile the inner loops ahead, by a small run of what uses them."""

import os
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from ltau_cli.core.compile import is_compiled
from ltau_cli.errors import LtauWarning
from ltau_cli.results import CompileResult
from ltau_cli.stages import fit, ingest, score

EPOCHS = (4, 300, 70_000)  # whose counts need one, two and four bytes


def run() -> CompileResult:
    """Compile what ingest, fit and score use, for the processor of this machine."""
    folder = os.environ.get("NUMBA_CACHE_DIR") or str(Path(fit.__file__).parents[1])
    were_there = is_compiled("ltau_cli", "average_cdfs")
    began = time.perf_counter()
    rng = np.random.default_rng(0)
    descriptors = rng.normal(size=(200, 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", LtauWarning)  # of logs that are not the user's
        place = Path(temporary)
        np.save(place / "descriptors.npy", descriptors)
        for n_epochs in EPOCHS:
            np.save(place / "log.npy", rng.random((n_epochs, len(descriptors)), dtype=np.float32))
            ingest.run(place / "log.npy", place / "errors.h5", force=True)
            fit.run(
                place / "errors.h5", place / "descriptors.npy", place / "model.h5", force=True,
                threads=1,
            )  # fmt: skip
            score.run(
                place / "descriptors.npy", place / "model.h5", place / "scores.h5", force=True,
                threads=1,
            )  # fmt: skip
    return CompileResult(folder=folder, seconds=time.perf_counter() - began, were_there=were_there)
