"""Open any error log: find out what it is and join its runs."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ltau_cli.array_types import Array, Singles
from ltau_cli.epochs import choose_epochs
from ltau_cli.errors import InputError
from ltau_cli.readers.arrays import HDF5_ENDINGS, open_array
from ltau_cli.readers.frames import holds_frames
from ltau_cli.readers.logs.arrays import is_per_epoch, open_arrays, open_epoch_arrays
from ltau_cli.readers.logs.files import Files, LogFile
from ltau_cli.readers.logs.frames import open_evaluated
from ltau_cli.readers.logs.numbered import NumberedFiles, find_numbered, has_number
from ltau_cli.readers.logs.run import ErrorLog, LoggedRun
from ltau_cli.readers.logs.tables import has_epochs, open_epoch_tables, open_table
from ltau_cli.readers.place import Place, check_file, list_folder
from ltau_cli.settings import LogOptions

# Name, what it is, and what of it a folder may hold, one file per epoch.
FORMATS: dict[str, str] = {
    "epoch-arrays": "folder of .npy per epoch: (n,), (n, 3) vectors, or (n, 2) of [id, error]",
    "array": ".npy, .npz (one array per run) or HDF5: (n_epochs, n) or (n_epochs, n, 3); or one "
    "array per epoch",
    "long-table": "CSV, TSV (also .gz) or JSON lines with columns epoch, sample, error [, run]",
    "wide-table": "CSV, TSV (also .gz) or JSON lines with one line per epoch",
    "frames": "extxyz per epoch with predicted and reference forces or energies (needs ASE), "
    "or a file of ltau describe",
}
_ENDINGS = {
    "epoch-arrays": (".npy",),
    "long-table": (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".jsonl", ".jsonl.gz", ".ndjson"),
    "frames": (".xyz", ".extxyz"),
}
_READABLE = (*(e for own in _ENDINGS.values() for e in own), ".npz", *HDF5_ENDINGS)
_MAGIC = {b"\x93NUMPY": "array", b"PK\x03\x04": "array", b"\x89HDF\r\n\x1a\n": "array"}


@contextlib.contextmanager
def open_log(
    places: Sequence[Place], options: LogOptions, files: Files | None = None
) -> Iterator[ErrorLog]:
    """Open one log, or several that are the runs of an ensemble."""
    with contextlib.ExitStack() as stack:
        runs: list[LoggedRun] = []
        kinds = []
        for group in _as_runs(places, options):
            kind = options.format or detect(group)
            kinds.append(kind)
            runs += _open(group, kind, options, files or Files(), stack)
        yield _join(runs, places[0], kinds[0], options)


def find_files(places: Sequence[Place], options: LogOptions) -> list[LogFile]:
    """Find the text files of a log that can be read ahead, each by itself."""
    found: list[LogFile] = []
    for group in _as_runs(places, options):
        kind = options.format or detect(group)
        if kind == "long-table" and len(group) == 1 and group[0].path.is_file():
            found.append(LogFile(group[0].path, "table", None))
        elif kind in ("frames", "long-table"):
            numbered = _numbered(group, kind, options)
            rows = choose_epochs(numbered.epochs, options.epochs)
            what: Literal["frames", "table"] = "frames" if kind == "frames" else "table"
            found += [LogFile(numbered.files[row], what, numbered.epochs[row]) for row in rows]
    return found


def detect(group: Sequence[Place]) -> str:
    """Tell the format of a log from its content and name."""
    path = group[0].path
    if path.is_dir():
        for kind, endings in _ENDINGS.items():
            if any(_with_endings(path, endings)):
                return kind
        raise InputError(
            f"{path} holds no per-epoch files",
            hint="see what can be read: ltau ingest --list-formats",
        )
    if len(group) > 1:
        return next(
            kind for kind, endings in _ENDINGS.items() if path.name.lower().endswith(endings)
        )
    check_file(path)
    with path.open("rb") as file:
        start = file.read(8)
    if group[0].key is None and holds_frames(path, "forces", "reference_forces"):
        return "frames"
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            return kind
    name = path.name.lower()
    if path.suffix.lower() in {".npy", ".npz", *HDF5_ENDINGS}:
        return "array"
    if name.endswith(_ENDINGS["frames"]):
        return "frames"
    if name.endswith((*_ENDINGS["long-table"], ".txt", ".dat", ".json", ".out", ".log")):
        return "long-table"
    raise InputError(
        f"{path}: cannot tell what it is", hint="see the formats: ltau ingest --list-formats"
    )


def _as_runs(places: Sequence[Place], options: LogOptions) -> list[list[Place]]:
    """Each argument is a run, except that per-epoch files named one by one are one run."""
    places = [_alone(place) for place in places]
    paths = [place.path for place in places]
    if len(places) > 1 and options.format != "array" and all(path.is_file() for path in paths):
        names = [path.name.lower() for path in paths]
        if all(name.endswith(".npy") for name in names) and is_per_epoch(paths):
            return [list(places)]
        if all(name.endswith(_ENDINGS["frames"]) for name in names):
            return [list(places)]
        if all(name.endswith(_ENDINGS["long-table"]) for name in names) and not has_epochs(
            paths[-1], options
        ):
            return [list(places)]
    return [[place] for place in places]


def _alone(place: Place) -> Place:
    """Return the one file of a folder without per-epoch files."""
    if not place.path.is_dir():
        return place
    files = list(_with_endings(place.path, _READABLE))
    return Place(files[0]) if len(files) == 1 and not has_number(files[0]) else place


def _open(
    group: Sequence[Place],
    kind: str,
    options: LogOptions,
    files: Files,
    stack: contextlib.ExitStack,
) -> list[LoggedRun]:
    place = group[0]
    if kind == "array":
        return open_arrays(place, options, stack)
    if kind.endswith("table") and len(group) == 1 and place.path.is_file():
        return open_table(place.path, options, files.table)
    numbered = _numbered(group, kind, options)
    if kind == "epoch-arrays":
        return [
            open_epoch_arrays(
                numbered, options, lambda path: stack.enter_context(open_array(Place(path)))
            )
        ]
    if kind == "frames":
        return [open_evaluated(numbered, options, files.frames)]
    return [open_epoch_tables(numbered, options, files.table)]


def _numbered(group: Sequence[Place], kind: str, options: LogOptions) -> NumberedFiles:
    path = group[0].path
    # The quantity of frames is chosen inside them, not by file names.
    quantity = None if kind == "frames" else options.quantity
    if path.is_dir():
        endings = _ENDINGS[kind if kind in _ENDINGS else "long-table"]
        return find_numbered(_with_endings(path, endings), where=str(path), quantity=quantity)
    if len(group) == 1 and kind in ("frames", "epoch-arrays"):
        with contextlib.suppress(InputError):
            return find_numbered([path], where=str(path))
        return NumberedFiles(path.name, [0], [path])
    return find_numbered((p.path for p in group), where=str(path.parent), quantity=quantity)


def _with_endings(folder: Path, endings: tuple[str, ...]) -> Iterator[Path]:
    return (path for path in list_folder(folder) if path.name.lower().endswith(endings))


def _join(runs: list[LoggedRun], place: Place, kind: str, options: LogOptions) -> ErrorLog:
    filled = [run for run in runs if run.epochs]
    labels: dict[str, Array] = {}
    for run in filled:
        if run.n_samples != filled[0].n_samples:
            raise InputError(
                f"{run.names[0]} has {run.n_samples:,} samples, {filled[0].names[0]} has "
                f"{filled[0].n_samples:,}",
                hint="all runs of an ensemble must hold the same samples",
            )
        if "sample_id" in filled[0].labels:
            run.labels.setdefault("sample_id", np.arange(run.n_samples))
        elif "sample_id" in run.labels:
            labels["sample_id"] = np.arange(run.n_samples)
        for name, values in run.labels.items():
            if not np.array_equal(labels.setdefault(name, values), values):
                raise InputError(
                    f"{run.names[0]} has other values of {name} than {filled[0].names[0]}",
                    hint="all runs of an ensemble must hold the same samples in the same order",
                )

    def read(start: int, stop: int) -> Singles:
        return np.concatenate([run.read(start, stop) for run in filled])

    rows = [(number, run, i) for number, run in enumerate(runs) for i in range(len(run.epochs))]
    return ErrorLog(
        files=list(dict.fromkeys(path for run in filled for path in run.files)),
        place=place,
        format=runs[0].format or kind,
        epochs=[run.epochs[i] for _, run, i in rows],
        runs=[number for number, _, _ in rows],
        names=[run.names[i] for _, run, i in rows],
        n_samples=filled[0].n_samples if filled else 0,
        read=read,
        ends_early=all(run.ends_early for run in filled),
        labels=labels,
        quantity=options.quantity or runs[0].quantity,
        signed=all(run.signed for run in filled),
        units=runs[0].units,
        knows_held_out=all(run.knows_held_out for run in filled),
        notes=sum((run.notes for run in runs), Counter()),
        remarks=[line for run in runs for line in run.remarks],
    )
