"""Fuzz a reader: whatever the bytes, only a clean error may come out. No test; run by hand.

pip install atheris
python tests/readers/fuzz.py npy -max_total_time=600 corpus/npy
"""

from __future__ import annotations

import io
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ltau_cli", "numpy.lib", "csv", "json"]):
    import h5py
    import numpy as np

    from ltau_cli.artifacts.views import open_artifact
    from ltau_cli.errors import LtauError
    from ltau_cli.readers.logs.open import open_log
    from ltau_cli.readers.logs.options import LogOptions
    from ltau_cli.readers.place import Place

FOLDER = Path(tempfile.mkdtemp(prefix="ltau-fuzz-"))
LARGEST = 1 << 22  # a log of more errors than this is not read to its end


def read(path: Path) -> None:
    """Open a log as ``ltau ingest`` does and read it."""
    with open_log([Place(path)], LogOptions()) as log:
        if len(log.epochs) * log.n_samples < LARGEST:
            log.read(0, log.n_samples)


def read_artifact(path: Path) -> None:
    """Open an artifact as every stage does and read it."""
    with open_artifact(path) as artifact:
        for spec in artifact.present():
            if artifact.dataset(spec.name).size < LARGEST:
                artifact.read(spec.name)


def seeds(kind: str) -> list[bytes]:
    """Return valid files to start from."""
    log = np.abs(np.random.default_rng(0).normal(size=(3, 4))).astype(np.float32)
    buffer = io.BytesIO()
    if kind == "npy":
        np.save(buffer, log)
    elif kind == "npz":
        np.savez(buffer, a=log, b=log)
    elif kind in ("h5", "artifact"):
        with h5py.File(buffer, "w") as file:
            file["errors"] = log
            file.attrs.update(format="ltau", kind="errors", format_version=1, units="",
                              ltau_version="0", created="", parameters="{}", inputs="[]",
                              summary="{}")  # fmt: skip
    elif kind == "csv":
        buffer.write(b"epoch,sample,error,run\n0,0,0.5,0\n0,1,nan,0\n1,0,0.25,0\n1,1,,0\n")
    else:
        buffer.write(b'{"epoch": 0, "errors": [0.5, null]}\n{"epoch": 1, "errors": [1, 2]}\n')
    return [buffer.getvalue()]


def main() -> None:
    """Fuzz the reader named by the first argument."""
    kind = sys.argv.pop(1)
    path = FOLDER / f"log.{'h5' if kind == 'artifact' else kind}"
    target = read_artifact if kind == "artifact" else read
    start = FOLDER / "seeds"
    start.mkdir()
    for i, data in enumerate(seeds(kind)):
        (start / str(i)).write_bytes(data)

    def one(data: bytes) -> None:
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                target(path)
        except LtauError as error:
            if "\n" in str(error):
                raise RuntimeError(str(error)) from error
        except MemoryError:
            pass  # a header may promise more than there is memory

    atheris.Setup([*sys.argv, str(start)], one)
    atheris.Fuzz()


main()
