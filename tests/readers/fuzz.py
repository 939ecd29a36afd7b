"""Fuzz a reader: whatever the bytes, only a clean error may come out.

``make fuzz`` runs every kind for a minute; what it finds interesting is kept in ``build/fuzz``. It
starts from good files and from the bad inputs of :mod:`tests.system.bad_files`::

    pip install atheris
    python -m tests.readers.fuzz npy -max_total_time=600 build/fuzz/npy

Files are fuzzed byte by byte; of an ``artifact``, which HDF5 itself would refuse then, the values
of the datasets and the text of the attributes.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["ltau_cli", "numpy.lib", "csv", "json"],
    exclude=[  # numba compiles no instrumented code
        f"ltau_cli.core.kernels.{topic}" for topic in ("log", "mixture", "neighbors", "search")
    ],
):
    import h5py
    import numpy as np

    import ltau_cli.artifacts.views  # noqa: F401  (read by read_all)
    from ltau_cli.cli.main import ltau, run
    from ltau_cli.cli.options import read_config
    from ltau_cli.errors import LtauError
    from ltau_cli.readers.frames import read_frames
    from ltau_cli.readers.logs.open import open_log
    from ltau_cli.readers.place import Place
    from ltau_cli.settings import LogOptions

from tests.artifacts.mutations import read_all
from tests.system.bad_files import CONFIGS, LOGS, text_of
from tests.system.ground import make_artifacts, make_files

FOLDER = Path(tempfile.mkdtemp(prefix="ltau-fuzz-"))
LARGEST = 1 << 22  # a log of more errors than this is not read to its end
ARTIFACTS = ("errors", "model", "scores", "calibration", "calibrated")


def read_log(path: Path) -> None:
    """Open a log as ``ltau ingest`` does and read it."""
    with open_log([Place(path)], LogOptions()) as log:
        if len(log.epochs) * log.n_samples < LARGEST:
            log.read(0, log.n_samples)


def change_artifact(data: bytes, path: Path) -> None:
    """Copy a good artifact and put bytes in one of its datasets or attributes."""
    choose = atheris.FuzzedDataProvider(data)
    shutil.copy(FOLDER / f"{choose.PickValueInList(list(ARTIFACTS))}.h5", path)
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if hasattr(item, "dtype") else None)
        if choose.ConsumeBool():
            dataset = file[choose.PickValueInList(names)]
            values = dataset[...]
            raw = values.reshape(-1).view(np.uint8)
            new = choose.ConsumeBytes(64)
            start = choose.ConsumeIntInRange(0, max(0, len(raw) - len(new)))
            raw[start : start + len(new)] = np.frombuffer(new, np.uint8)[: len(raw) - start]
            dataset[...] = values
        else:
            name = choose.PickValueInList(sorted(file.attrs))
            text = str(file.attrs[name])
            start = choose.ConsumeIntInRange(0, len(text))
            stop = choose.ConsumeIntInRange(start, len(text))
            new_text = choose.ConsumeUnicodeNoSurrogates(64).replace("\0", "0")
            file.attrs[name] = text[:start] + new_text + text[stop:]


READERS = {
    "xyz": lambda path: list(read_frames(path)),
    "yaml": lambda path: read_config(path, ltau),
    "artifact": read_all,
}


def seeds(kind: str, folder: Path) -> None:
    """Put the files to start from in a folder."""
    good = {
        "npy": ["log.npy"],
        "xyz": ["frames.xyz"],
        "csv": ["errors.csv"],
        "jsonl": ["errors.jsonl"],
        "artifact": [],
    }
    (FOLDER / "errors.csv").write_text("epoch,sample,error,run\n0,0,0.5,0\n0,1,nan,0\n1,0,2,0\n")
    (FOLDER / "errors.jsonl").write_text('{"epoch": 0, "errors": [0.5, null]}\n')
    for name in good.get(kind, []):
        shutil.copy(FOLDER / name, folder)
    for number, make in enumerate(LOGS.get(kind, {}).values()):
        make(folder / str(number))
    for number, text in enumerate(CONFIGS.values() if kind == "yaml" else ()):
        text_of(text)(folder / str(number))


def main() -> None:
    """Fuzz the reader named by the first argument."""
    kind = sys.argv.pop(1)
    ending = "h5" if kind == "artifact" else kind
    path, start, here = FOLDER / f"fuzzed.{ending}", FOLDER / "seeds", Path.cwd()
    start.mkdir()
    os.chdir(FOLDER)
    make_files(FOLDER)
    if kind == "artifact":
        make_artifacts(lambda words: run([*words, "-q"]))
    seeds(kind, start)
    os.chdir(here)
    reader = READERS.get(kind, read_log)

    def one(data: bytes) -> None:
        path.unlink(missing_ok=True)
        change_artifact(data, path) if kind == "artifact" else path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reader(path)
        except LtauError as error:
            if "\n" in str(error):
                raise RuntimeError(str(error)) from error

    for folder in sys.argv[1:]:
        if not folder.startswith("-"):
            Path(folder).mkdir(parents=True, exist_ok=True)
    atheris.Setup([*sys.argv, str(start)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
