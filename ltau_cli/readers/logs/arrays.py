"""Error logs as numeric arrays: one file per epoch, or all epochs in one array."""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from ltau_cli.array_types import Array, Singles
from ltau_cli.epochs import choose_epochs
from ltau_cli.errors import InputError
from ltau_cli.readers.arrays import HDF5_ENDINGS, as_labels, open_array, open_members, read_optional
from ltau_cli.readers.column import ROW_LABELS, row_labels
from ltau_cli.readers.hdf5 import in_hdf5, list_datasets, open_hdf5
from ltau_cli.readers.logs.numbered import NumberedFiles, find_numbered
from ltau_cli.readers.logs.run import (
    LoggedRun,
    check_lengths,
    empty_run,
    magnitudes,
    refuse_repeated,
    remarks_on_shape,
)
from ltau_cli.readers.place import Place
from ltau_cli.readers.scratch import Slots
from ltau_cli.readers.source import ArraySource
from ltau_cli.readers.tables import SAMPLE_NAMES
from ltau_cli.settings import UNITS, LogOptions, Quantity

RECORDED_LABELS = "samples.npz"  # which ltau record writes beside the epochs
ERROR_NAMES = ("errors", "error", "force_errors", "energy_errors")
EPOCH_NUMBER = r"((?:epoch|step|iter)[a-z]*[^a-z0-9]?)\d+"
EPOCH_CACHE = 1 << 20  # bytes of unpacked chunks, where each epoch is an array of its own
TABLE_BLOCK = 1 << 20  # rows of [id, error] that are put in their places together
# Patched NequIP <= 0.6 writes -1 for NaN and infinity, and 0 for a sample that was not visited.
OLD_NEQUIP = re.compile(r"epoch_#_(forces|energy)_errors\.npy")
OLD_NEQUIP_MISSING = (-1.0, 0.0)
# LLNL's logger for NequIP >= 0.7 ends each array at the largest id it has seen.
NEW_NEQUIP = re.compile(r"(train|val|test)?_?(force|energy)(s|ies)?_errors_epoch_#\.npy")


def open_epoch_arrays(
    numbered: NumberedFiles, options: LogOptions, opened: Callable[[Path], ArraySource]
) -> LoggedRun:
    """Open per-epoch arrays: (n,), (n, 3) error vectors, or (n, 2) of [id, error]."""
    if OLD_NEQUIP.fullmatch(numbered.pattern):
        options = replace(options, missing=(*options.missing, *OLD_NEQUIP_MISSING))
    result = empty_run()
    sources: list[ArraySource] = []
    for row in choose_epochs(numbered.epochs, options.epochs):
        source = opened(numbered.files[row])
        _check_epoch_shape(source)
        sources.append(source)
        result.epochs.append(numbered.epochs[row])
        result.files.append(source.place.path)
        result.names.append(str(source.place))
    if not sources:
        return result
    tables = {i for i, source in enumerate(sources) if _is_id_table(source)}
    slots = Slots()
    by_id = {i: _scatter(sources[i], slots, options, result.notes) for i in tables}
    lengths = [by_id[i][1] if i in tables else s.shape[0] for i, s in enumerate(sources)]
    result.ends_early = bool(tables) or bool(NEW_NEQUIP.fullmatch(numbered.pattern))
    result.n_samples = check_lengths(lengths, result.names, may_be_short=result.ends_early)
    if sources[0].place.key is None and "#" in numbered.pattern:
        _read_recorded_labels(result, numbered.files[0].with_name(RECORDED_LABELS))

    def read(start: int, stop: int) -> Singles:
        block = np.full((len(sources), stop - start), np.nan, dtype=np.float32)
        for i, (row, source) in enumerate(zip(block, sources, strict=True)):
            end = min(stop, lengths[i])
            if end <= start:
                continue
            if i in by_id:
                row[: end - start] = slots.columns([by_id[i][0]], start, end)[0]
            else:
                values = source.read(start, end)
                row[: end - start] = magnitudes(values, options, vectors=values.ndim == 2)
        return block

    result.read = read
    return result


def _read_recorded_labels(run: LoggedRun, path: Path) -> None:
    """Read what a recorder knows of the samples, if there is such a file beside the epochs."""
    if not path.is_file():
        return
    members = open_members(path, text=True)
    read = {name: source.read(0, source.shape[0]) for name, source in members.items()}
    run.remarks += [f"{path.parent}: {line}" for line in read.pop("remarks", ())]
    read.pop("checked", None)
    for name in map(str, read.pop("quantity", ())):
        if name not in UNITS:
            raise InputError(f"{path}: {name} is no quantity that ltau knows")
        run.quantity, run.signed = cast(Quantity, name), name == "energy"
    for name, values in read.items():
        n = int(values.sum()) if name == "natoms" else len(values)
        if n != run.n_samples:
            raise InputError(
                f"{path}: {name} is of {n:,} samples, {run.names[0]} of {run.n_samples:,}",
                hint="the labels beside the epochs are of the same samples",
            )
    run.labels |= row_labels(run.n_samples, read.get)
    for name in ("config_type", "formula"):
        if name in read:
            run.labels[name] = as_labels(read[name], path)
    if "magnitude" in read:
        run.labels["magnitude"] = read["magnitude"].astype(np.float32)
    run.knows_held_out = "held_out" in read
    if unknown := read.keys() - run.labels.keys() - {"natoms", "held_out", "other_reference"}:
        run.remarks.append(f"{path} holds {min(unknown)}, which is no label that ltau knows")


def _check_epoch_shape(source: ArraySource) -> None:
    if source.dtype.kind not in "fiub":
        raise InputError(f"{source.place} holds {source.dtype} values, not numbers")
    if len(source.shape) > 2 or (len(source.shape) == 2 and source.shape[1] not in (1, 2, 3)):
        raise InputError(
            f"{source.place} has shape {source.shape}; a per-epoch file holds (n_samples,) errors, "
            "(n_samples, 3) error vectors or (n_samples, 2) of [id, error]"
        )


def _is_id_table(source: ArraySource) -> bool:
    return len(source.shape) == 2 and source.shape[1] == 2


def _scatter(
    source: ArraySource, slots: Slots, options: LogOptions, notes: Counter[str]
) -> tuple[int, int]:
    """Put [id, error] rows, in any order, at their places; of a repeated id the last row counts.

    Returns the first slot, and the number of slots.
    """
    n_rows = source.shape[0]
    blocks = [slice(i, min(i + TABLE_BLOCK, n_rows)) for i in range(0, n_rows, TABLE_BLOCK)]
    n = 0
    for block in blocks:
        ids = source.read(block.start, block.stop)[:, 0]
        bad = np.flatnonzero(~(np.isfinite(ids) & (ids >= 0) & (ids == np.round(ids))))
        if len(bad):
            raise InputError(
                f"{source.place}: row {block.start + bad[0]} has no valid id ({ids[bad[0]]:g})",
                hint="the first column holds the sample's number, from 0",
            )
        n = max(n, int(ids.max()) + 1)
    if n > max(100 * n_rows, 1 << 24):
        raise InputError(
            f"{source.place}: id {n - 1:,} is far above the {n_rows:,} rows",
            hint="the first column holds the sample's number, from 0; the second its error",
        )
    start = slots.extend_unset(n)
    n_repeated = n_rows
    for block in blocks:
        table = source.read(block.start, block.stop)
        errors = magnitudes(table[:, 1], options, vectors=False)
        n_repeated -= slots.put(start + table[:, 0].astype(np.int64), errors)
    refuse_repeated(n_repeated, n_rows, source.place)
    notes["duplicated ids"] += n_repeated
    return start, n


def open_arrays(place: Place, options: LogOptions, stack: contextlib.ExitStack) -> list[LoggedRun]:
    """Open arrays of all epochs, (n_epochs, n) or (n_epochs, n, 3), or one array for each epoch.

    An .npz without numbered epochs holds one array per run.
    """
    path = place.path
    if path.suffix.lower() == ".npz" and place.key is None:
        members = open_members(path, text=True)
        if not members:
            raise InputError(f"{place} is empty: it holds no arrays")
        sizes = {
            name: len(one.shape)
            for name, one in members.items()
            if one.dtype.kind in "fiub" and name not in ROW_LABELS
        }
        epochs = _find_epochs(sizes, place, options)
        runs = [open_epoch_arrays(own, options, lambda at: members[at.as_posix()])
                for own in epochs]  # fmt: skip
        are_runs = "errors" not in sizes and sizes and (min(sizes.values()) > 1 or _are_runs(sizes))
        if not runs and are_runs:
            runs = [_one_array(members[name], options) for name in sorted(sizes, key=_natural)]
        if runs:
            return [
                _labelled(run, lambda name: members[name].all() if name in members else None)
                for run in runs
            ]
    elif path.suffix.lower() in HDF5_ENDINGS:
        file = stack.enter_context(open_hdf5(path))
        sizes = list_datasets(path, file)
        group = f"{(place.key or '').strip('/')}/".lstrip("/")
        within = {name: n for name, n in sizes.items() if name.startswith(group)}
        epochs = _find_epochs(within, place, options)

        def opened(at: Path) -> ArraySource:
            return in_hdf5(Place(path, at.as_posix()), file, kept=EPOCH_CACHE)

        if epochs:
            return [
                _labelled(
                    open_epoch_arrays(own, options, opened),
                    partial(read_optional, Place(path, _beside(own))),
                )
                for own in epochs
            ]
    source = stack.enter_context(open_array(place, names=ERROR_NAMES))
    return [_labelled(_one_array(source, options), partial(read_optional, source.place))]


def _labelled(run: LoggedRun, beside: Callable[[str], Array | None]) -> LoggedRun:
    """Add what arrays ``beside`` those of the errors say of the samples."""
    run.labels |= row_labels(run.n_samples, beside)
    return run


def _beside(epochs: NumberedFiles) -> str:
    """Name an array that would stand beside those of all epochs, whose groups may differ."""
    folders = [path.parent.as_posix() for path in epochs.files]
    return f"{os.path.commonpath(folders)}/errors".removeprefix("./")


def _find_epochs(
    sizes: Mapping[str, int], place: Place, options: LogOptions
) -> list[NumberedFiles]:
    """Find the arrays of each run that differ in the epoch alone; ``sizes`` are dimensions."""
    sets: dict[str, list[str]] = {}
    for name in sizes if "errors" not in sizes else ():
        sets.setdefault(re.sub(r"\d+", "#", name.lower()), []).append(name)
    sets = {
        pattern: names
        for pattern, names in sets.items()
        if len(names) > 1
        and (
            re.search(EPOCH_NUMBER, names[0].lower())
            or (not _are_runs(names) and all(sizes[name] == 1 for name in names))
        )
    }
    for names in sets.values():
        if Path(names[0]).name.lower().rstrip("s_0123456789") in SAMPLE_NAMES:
            raise InputError(
                f"{place} has ids in each epoch ({names[0]}), whose order may change",
                hint="write the errors in the order of the ids, and these once, as sample_id; or "
                "[id, error] arrays, (n, 2)",
            )
    sets = {p: names for p, names in sets.items() if p.rpartition("/")[2] in ERROR_NAMES} or sets
    runs: dict[str, list[str]] = {}
    for names in sets.values():
        for name in names:
            run = re.sub(EPOCH_NUMBER, r"\1#", name.lower())
            several = len(sets) > 1 or run == name.lower()  # which find_numbered tells
            runs.setdefault("" if several else run, []).append(name)
    return [
        find_numbered(map(Path, names), where=str(place), quantity=options.quantity, inside=True)
        for names in sorted(runs.values(), key=lambda names: _natural(names[0]))
    ]


def _are_runs(names: Iterable[str]) -> bool:
    return all(re.search("run|seed|member|model", name.lower()) for name in names)


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _one_array(source: ArraySource, options: LogOptions) -> LoggedRun:
    shape = source.shape
    if 0 in shape:
        raise InputError(f"{source.place} is empty: its shape is {shape}")
    if options.format != "array" and holds_one_epoch(source):
        return open_one_epoch(source, options)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 2, 3)):
        raise InputError(
            f"{source.place} has shape {shape}; an error log is (n_epochs, n_samples) or "
            "(n_epochs, n_samples, 3)",
            hint="transpose it if samples come first",
        )
    rows = choose_epochs(range(shape[0]), options.epochs)

    def read(start: int, stop: int) -> Singles:
        values = source.columns(start, stop)[rows]
        return magnitudes(values, options, vectors=len(shape) == 3)

    remarks = remarks_on_shape(source.place, shape[0], shape[1])
    if shape[1:] == (3,) and options.format != "array":
        remarks = [
            f"{source.place} is read as {shape[0]:,} epochs of 3 samples; if it holds the error "
            "vectors of one: --format epoch-arrays"
        ]
    return LoggedRun(
        epochs=list(rows),
        names=[f"{source.place}, row {row}" for row in rows],
        files=[source.place.path],
        n_samples=shape[1],
        read=read,
        remarks=remarks,
    )


def holds_one_epoch(source: ArraySource) -> bool:
    """Whether an array that stands alone holds one epoch, not a row for each.

    So do (n,) and (n, 1) magnitudes; (n, 3) vectors, of which at least a quarter of the numbers is
    negative; and (n, 2) of [id, error], with distinct whole numbers beside others.
    """
    shape = source.shape
    if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1 < shape[0]):
        return True
    if len(shape) != 2 or shape[1] not in (2, 3) or shape[0] == 1 or source.dtype.kind != "f":
        return False
    values = source.read(0, min(shape[0], TABLE_BLOCK))
    if shape[1] == 3:
        negative = values[values < 0]
        return len(negative) >= 0.25 * values.size and len(np.unique(negative)) > 1
    with np.errstate(invalid="ignore"):
        whole = values == np.round(values)
    return bool(whole[:, 0].all() and len(np.unique(values[:, 0])) == len(values)
                and not whole[:, 1].all())  # fmt: skip


def open_one_epoch(source: ArraySource, options: LogOptions) -> LoggedRun:
    """Take an array for the one epoch of a log; its number is that in the file's name, or 0."""
    path = source.place.path
    numbered = NumberedFiles(path.name, [0], [path])
    if source.place.key is None:
        with contextlib.suppress(InputError):
            numbered = find_numbered([path], where=str(path))
    run = open_epoch_arrays(numbered, options, lambda _path: source)
    run.remarks += [f"{source.place}, of shape {source.shape}, is read as a log of one epoch"]
    return run


def is_per_epoch(files: Sequence[Path]) -> bool:
    """Whether the last readable one of some .npy files holds a single epoch."""
    for path in reversed(files):
        with contextlib.suppress(InputError), open_array(Place(path)) as source:
            return len(source.shape) == 1 or (len(source.shape) == 2 and source.shape[1] in (2, 3))
    return False
