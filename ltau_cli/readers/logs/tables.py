"""Error logs as text: CSV or TSV, and JSON lines; long or wide; one file or one per epoch."""

import contextlib
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.array_types import Array, Singles
from ltau_cli.epochs import ALL_EPOCHS, choose_epochs
from ltau_cli.errors import InputError
from ltau_cli.readers.arrays import is_utf8
from ltau_cli.readers.logs.long_rows import LongRows, WordsError, counts_from_zero
from ltau_cli.readers.logs.numbered import NumberedFiles
from ltau_cli.readers.logs.run import (
    LoggedRun,
    empty_run,
    magnitudes,
    refuse_repeated,
    remarks_on_shape,
)
from ltau_cli.readers.scratch import Slots
from ltau_cli.readers.tables import (
    INDEX_NAMES,
    SAMPLE_NAMES,
    Row,
    Table,
    batched,
    to_number,
    to_numbers,
)
from ltau_cli.settings import LogOptions

KNOWN_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "epoch": ("epoch", "epochs", "step", "iteration"),
    "sample": SAMPLE_NAMES,
    "error": ("error", "errors", "err", "force_error", "energy_error", "abs_error", "loss"),
    "run": ("run", "seed", "member"),
    "frame": (
        "frame", "frame_id", "structure", "structure_id", "molecule", "mol", "config", "system",
        "image", "snapshot",
    ),
}  # fmt: skip
ATOMS = ("atom", "atom_id", "atom_index", "atom_idx")  # which may count within each frame
# Of a whole epoch: no errors of samples.
_PROGRESS = re.compile(
    r"(^|[^a-z])(loss|lr|learning.?rate|rmse|mae|mse|r2|val|valid(ation)?|train(ing|er)?|test|time"
    r"|wall|acc(uracy)?|grad|norm|batch)([^a-z]|$)"
)
_NUMBERED = re.compile(r"((?:[^\d+.-]\D*)?)(\d+)(?:\.0+)?")  # a name that ends in a number

ReadRows = Callable[[Path, int | None, LogOptions], LongRows]


def open_table(path: Path, options: LogOptions, read: ReadRows) -> list[LoggedRun]:
    """Read one CSV, TSV or JSON-lines file of all epochs, and runs if it has such a column."""
    table = _LogTable(path, options)
    if table.is_wide:
        return [_wide(table, options)]
    return _pivot(read(path, None, options), [path], options, where=str(path))


def read_rows(path: Path, epoch: int | None, options: LogOptions) -> LongRows:
    """Read a long table; ``epoch`` is that of all its rows, if not None."""
    return _LogTable(path, options, epoch=epoch).read_long()


def open_epoch_tables(numbered: NumberedFiles, options: LogOptions, read: ReadRows) -> LoggedRun:
    """Read one CSV, TSV or JSON-lines file per epoch."""
    with contextlib.suppress(WordsError):
        return _epoch_tables(numbered, options, read, words=False)
    return _epoch_tables(numbered, options, read, words=True)


def _epoch_tables(
    numbered: NumberedFiles, options: LogOptions, read: ReadRows, *, words: bool
) -> LoggedRun:
    chosen = choose_epochs(numbered.epochs, options.epochs)
    if not chosen:
        return empty_run()
    files, long = [numbered.files[row] for row in chosen], LongRows(options, words=words)
    for row, path in zip(chosen, files, strict=True):
        epoch = numbered.epochs[row]
        if words:
            rows = _LogTable(path, options, epoch=epoch).read_long(words=True)
        else:
            rows = read(path, epoch, options)
        if long.counts and long.paired != rows.paired:
            raise InputError(f"{path} names its samples by other columns than {files[0]}")
        long.paired = rows.paired
        long.extend(rows)
    options = replace(options, epochs=ALL_EPOCHS)
    (result,) = _pivot(long, files, options, where=str(files[0].parent))
    return result


def has_epochs(path: Path, options: LogOptions) -> bool:
    """Whether a table itself says which epoch a row belongs to."""
    columns = _LogTable(path, options, epoch=0).columns
    return "epoch" in columns or "sample" not in columns


class _LogTable(Table):
    """A table of errors, and what its columns hold; maybe all of one epoch."""

    def __init__(self, path: Path, options: LogOptions, *, epoch: int | None = None) -> None:
        super().__init__(path)
        self.epoch = epoch
        self._options = options
        self.columns = _find_columns(self.header, options.columns, path)
        self._at = {role: self.header.index(name) for role, name in self.columns.items()}
        self.is_wide = "sample" not in self.columns and self._looks_wide()
        if options.format in ("wide-table", "long-table"):
            self.is_wide = options.format == "wide-table"
        if self.is_wide and "epoch" not in self.columns and self.header[0] in INDEX_NAMES:
            self.columns["epoch"] = self.header[0]
        if not self.is_wide:
            needed = {"sample", "error"} | ({"epoch"} if epoch is None else set())
            lacking = sorted(needed - set(self.columns))
            if lacking:
                if "sample" in lacking:
                    self._refuse_progress(self.header)
                elif sum(map(bool, map(_NUMBERED.fullmatch, self.header))) > 2:
                    raise InputError(
                        f"{path} has the column {self.columns['sample']}, and columns of numbers",
                        hint="a wide table has one line for each epoch (column epoch) and one "
                        "column for each sample; else transpose it",
                    )
                raise InputError(
                    f"{path} has no column {lacking[0]}; it has: " + ", ".join(self.header[:8]),
                    hint=f"name it: --column {lacking[0]}=NAME",
                )

    def _looks_wide(self) -> bool:
        if self.is_json:
            lists = [name for name, entry in self.first.items() if isinstance(entry, list)]
            if len(lists) > 1 or (lists == ["loss"] and "epoch" not in self.columns):
                self._refuse_progress(lists)  # as keras keeps them
                raise InputError(
                    f"{self.path} holds several lists: {', '.join(lists[:5])}",
                    hint="keep that of the errors alone, or one line for each sample: "
                    '{"epoch": 0, "sample": 0, "error": 0.1}',
                )
            samples = [name for name in self.header if _NUMBERED.fullmatch(name)]
            return self.columns["error"] in lists if "error" in self.columns else len(samples) > 2
        if not (self.named or self.numbered) and len(self.header) <= 4:
            if self._options.format == "wide-table":
                return True
            raise InputError(
                f"{self.path} has no header and only {len(self.header)} columns",
                hint="add the header epoch,sample,error, or --format wide-table if each line is "
                "an epoch",
            )
        return "error" not in self.columns and len(self.header) > 1

    def _refuse_progress(self, names: Sequence[str]) -> None:
        found = [name for name in names if _PROGRESS.search(name.lower())]
        if found:
            raise InputError(
                f"{self.path} tells the course of a training ({', '.join(found[:4])}), not the "
                "error of each sample",
                hint="log each sample's error: ltau record -o logs -- TRAINING COMMAND, or "
                "ltau_cli.Recorder in your own loop",
            )

    def samples(self) -> tuple[list[int], Array]:
        """Places of the samples' columns of a wide table, by number, and the samples' ids."""
        header = list(self.header)
        if not (self.named or self.numbered):
            return list(range(len(header))), np.arange(len(header))
        if "run" in self.columns:
            raise InputError(
                f"{self.path}: a wide table with the column {self.columns['run']}",
                hint="give each run a file of its own, and name them one after the other",
            )
        epochs = (self.columns.get("epoch"), *KNOWN_COLUMNS["epoch"], *INDEX_NAMES)
        names = {
            at: name
            for at, name in enumerate(header)
            if name not in epochs and name.lower() not in epochs
        }
        found = {at: _NUMBERED.fullmatch(name) for at, name in names.items()}
        unknown = [names[at] for at, match in found.items() if match is None]
        if unknown:
            self._refuse_progress(unknown)
            if len(unknown) == len(names) and self._options.format == "wide-table":
                return list(names), np.array(unknown)
            raise InputError(
                f"{self.path}: the column {unknown[0]!r} is no sample's number, and nothing known",
                hint="name the columns by the samples' numbers, or leave it out; if every column "
                "but epoch is a sample: --format wide-table",
            )
        prefixes = {match[1].strip(" _-").lower() for match in found.values() if match}
        ids = {at: int(match[2]) for at, match in found.items() if match}
        if prefixes <= {*KNOWN_COLUMNS["epoch"]} and prefixes:
            raise InputError(
                f"{self.path}: its columns are epochs ({', '.join(list(names.values())[:3])}, ...)",
                hint="transpose it: one line for each epoch, one column for each sample",
            )
        if len(prefixes) > 1 or len(set(ids.values())) < len(ids):
            raise InputError(
                f"{self.path}: its columns name no samples: {', '.join(list(names.values())[:5])}",
                hint="name them by the samples' numbers, each once: 0,1,2,...",
            )
        places = sorted(ids, key=lambda at: ids[at])
        return places, np.array([ids[at] for at in places], dtype=np.int64)

    def read_long(self, *, words: bool = False) -> LongRows:
        """Read all rows of a long table; with ``words``, take no id as a number."""
        if self.is_wide:
            raise InputError(f"{self.path}: a per-epoch table needs the columns sample and error")
        if not words:
            with contextlib.suppress(WordsError):
                return self._read_long(words=False)
        return self._read_long(words=True)

    def _read_long(self, *, words: bool) -> LongRows:
        try:
            return self._read_plain(words=words)
        except (ValueError, TypeError, OverflowError, InputError):
            return self._read_line_by_line(words=words)

    def _read_line_by_line(self, *, words: bool) -> LongRows:
        """Read rows that may be wrong, to name the line of the first that is."""
        long = LongRows(self._options, words=words, paired="frame" in self._at)
        for batch in batched(itertools.starmap(self._parts, self.rows())):
            runs, epochs, frames, samples, errors = map(list, zip(*batch, strict=True))
            long.add(runs, epochs, frames, samples, errors)
        return long

    def _parts(self, line: int, row: Row) -> tuple[int, int, str, str, float]:
        """Run, epoch, frame, sample and error of a row."""
        at, path = self._at, self.path
        value, sample, frame = row[at["error"]], row[at["sample"]], row[at.get("frame", 0)]
        if isinstance(value, list):
            if not value:
                raise InputError(f"{path}, line {line}: the error is an empty list")
            vector = np.array([[to_number(v, "error", path, line) for v in value]])
            value = float(magnitudes(vector, self._options, vectors=True)[0])
        for name in (sample, frame) if "frame" in at else (sample,):
            if name is None or str(name).strip() == "":
                raise InputError(f"{path}, line {line}: the sample has no id")
            if not is_utf8(str(name)):
                raise InputError(f"{path}, line {line}: the sample's id is not UTF-8")
        error = to_number(value, "error", path, line)
        epoch = self.epoch
        if epoch is None:
            epoch = _integer(row[at["epoch"]], "epoch", path, line)
        return (
            _integer(row[at["run"]], "run", path, line) if "run" in at else 0,
            epoch,
            str(frame),
            str(sample),
            error,
        )

    def _read_plain(self, *, words: bool) -> LongRows:
        """Read rows that are right, many at once; raises what it may if one is not."""
        at = self._at
        long = LongRows(self._options, words=words, paired="frame" in at)

        def integers(entries: tuple[Any, ...], role: str) -> list[int]:
            known = {entry: _integer(entry, role, self.path, 0) for entry in set(entries)}
            return [known[entry] for entry in entries]

        def names(entries: tuple[Any, ...]) -> list[str]:
            texts = list(map(str, entries))
            if None in entries or not all(map(str.strip, texts)) or not is_utf8("".join(texts)):
                raise ValueError
            return texts

        for columns in self.batches():
            n = len(columns[0])
            samples = names(columns[at["sample"]])
            frames = names(columns[at["frame"]]) if "frame" in at else samples
            runs = integers(columns[at["run"]], "run") if "run" in at else [0] * n
            fixed = self.epoch
            epochs = integers(columns[at["epoch"]], "epoch") if fixed is None else [fixed] * n
            errors = to_numbers(columns[at["error"]], "error", self.path, [0] * n)
            long.add(runs, epochs, frames, samples, errors)
        return long


def _pivot(
    long: LongRows, files: list[Path], options: LogOptions, *, where: str
) -> list[LoggedRun]:
    """Spread a long table over epochs and samples; of a repeated slot the last row counts."""
    if not long.counts:
        raise InputError(f"{where} is empty: it holds no rows")
    samples, slots = long.samples(), Slots()
    ids = samples.ids
    starts: dict[tuple[int, int], int] = {}  # first slot of each (run, epoch) that is read
    results = []
    for own in sorted({own for own, _ in long.counts}):
        epochs = sorted(epoch for which, epoch in long.counts if which == own)
        chosen = choose_epochs(epochs, options.epochs)
        rows = [slots.extend_unset(len(ids)) for _ in chosen]
        starts |= {(own, epochs[i]): start for i, start in zip(chosen, rows, strict=True)}
        result = LoggedRun(
            epochs=[epochs[i] for i in chosen],
            names=[f"{where}, epoch {epochs[i]}" for i in chosen],
            files=files,
            n_samples=len(ids),
            read=partial(slots.columns, rows),
        )
        result.labels["sample_id"] = ids
        if samples.structure is not None:
            result.labels["structure"] = samples.structure
        results.append(result)
    n_repeated = long.put(slots, starts, samples.places)
    refuse_repeated(n_repeated, sum(long.counts[key] for key in starts), where)
    results[0].notes["duplicated ids"] += n_repeated
    return results


def _wide(table: _LogTable, options: LogOptions) -> LoggedRun:
    path = table.path
    epoch_at = table.header.index(table.columns["epoch"]) if "epoch" in table.columns else -1
    in_lists = table.is_json and "error" in table.columns
    places, ids = ([], np.empty(0)) if in_lists else table.samples()
    slots = Slots()
    epochs: list[int] = []
    n = 0
    for line, row in table.rows():
        epochs.append(
            _integer(row[epoch_at], "epoch", path, line) if epoch_at >= 0 else len(epochs)
        )
        if in_lists:
            row = row[table.header.index(table.columns["error"])]
            if not isinstance(row, list):
                raise InputError(f"{path}, line {line}: the errors must be a list")
        else:
            row = [row[at] for at in places]
        errors = to_numbers(row, "error", path, [line] * len(row))
        n = len(errors) if len(epochs) == 1 else n
        if len(errors) != n:
            raise InputError(f"{path}, line {line}: {len(errors)} errors, the first epoch has {n}")
        slots.extend(magnitudes(errors, options, vectors=False))
    if n == 0:
        raise InputError(f"{path} is empty: it holds no errors")
    if not (table.named or table.numbered):
        _refuse_counter(path, slots.columns([i * n for i in range(len(epochs))], 0, min(n, 2)))
    order = sorted(range(len(epochs)), key=lambda i: epochs[i])
    chosen = [order[i] for i in choose_epochs([epochs[i] for i in order], options.epochs)]
    return LoggedRun(
        format="wide-table",
        remarks=remarks_on_shape(path, len(epochs), n),
        labels={} if in_lists or counts_from_zero(ids) else {"sample_id": ids},
        epochs=[epochs[i] for i in chosen],
        names=[f"{path}, epoch {epochs[i]}" for i in chosen],
        files=[path],
        n_samples=n,
        read=partial(slots.columns, [i * n for i in chosen]),
    )


def _refuse_counter(path: Path, values: Singles) -> None:
    """Refuse a table without header whose first column counts its lines; ``values`` (n, 2)."""
    first = values[:, 0]
    with np.errstate(invalid="ignore"):
        steps = np.unique(np.diff(first))
        whole, others_too = (bool((v % 1 == 0).all()) for v in (first, values[:, 1:]))
    if whole and not others_too and len(steps) == 1 and steps[0] > 0:
        raise InputError(
            f"{path} has no header, and its first column counts: {first[0]:g}, {first[1]:g}, ...: "
            "epochs?",
            hint="name the columns: epoch,0,1,2,...",
        )


def _find_columns(header: Sequence[str], named: Mapping[str, str], path: Path) -> dict[str, str]:
    columns = {}
    wanted = {name for names in (*KNOWN_COLUMNS.values(), ATOMS) for name in names}
    lower = {name.lower(): name for name in reversed(header) if name.lower() in wanted}
    for role, known in KNOWN_COLUMNS.items():
        if role in named:
            if named[role] not in header:
                raise InputError(
                    f"{path} has no column {named[role]}; it has: " + ", ".join(header[:8])
                )
            columns[role] = named[role]
        else:
            found = [lower[name] for name in known if name in lower]
            if found:
                columns[role] = found[0]
    if "sample" in named:  # then the user says which columns are the id
        columns = {role: name for role, name in columns.items() if role != "frame" or role in named}
    elif "sample" not in columns and "frame" in columns:
        columns["sample"] = columns["frame"]
    elif columns.get("sample", "").lower() in ("sample", "sample_id") and "frame" not in columns:
        atoms = [lower[name] for name in ATOMS if name in lower]
        if atoms:
            columns |= {"frame": columns["sample"], "sample": atoms[0]}
    if columns.get("frame") == columns.get("sample"):
        columns.pop("frame", None)
    return columns


def _integer(entry: Any, column: str, path: Path, line: int) -> int:
    number = to_number(entry, column, path, line)
    if not (math.isfinite(number) and number == int(number) and abs(number) < 2**31):
        raise InputError(f"{path}, line {line}: the {column} is {entry!r:.40}, not a whole number")
    return int(number)
