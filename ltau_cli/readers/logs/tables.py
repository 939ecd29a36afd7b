"""Error logs as text: CSV or TSV, and JSON lines; long or wide; one file or one per epoch."""

from __future__ import annotations

import contextlib
import csv
import gzip
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
import numpy.typing as npt

from ltau_cli.errors import InputError
from ltau_cli.readers.labels import is_number, is_utf8
from ltau_cli.readers.logs.long_rows import LongRows, WordsError, counts_from_zero
from ltau_cli.readers.logs.numbered import NumberedFiles
from ltau_cli.readers.logs.run import (
    LoggedRun,
    empty_run,
    left_for_next_time,
    magnitudes,
    still_written,
)
from ltau_cli.readers.place import check_file
from ltau_cli.readers.scratch import Cells
from ltau_cli.readers.source import damage_named
from ltau_cli.settings import LogOptions

KNOWN_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "epoch": ("epoch", "epochs", "step", "iteration"),
    "sample": ("sample", "sample_id", "id", "atom", "atom_id", "index", "idx"),
    "error": ("error", "errors", "err", "force_error", "energy_error", "abs_error", "loss"),
    "run": ("run", "seed", "member"),
}
_MISSING_WORDS = {"", "nan", "na", "n/a", "none", "null"}
_BATCH = 1 << 12  # lines that are parsed together


ReadRows = Callable[[Path, int | None, LogOptions], LongRows]


def open_table(path: Path, run: int, options: LogOptions, read: ReadRows) -> list[LoggedRun]:
    """Read one CSV, TSV or JSON-lines file of all epochs, and runs if it has such a column.

    Raises
    ------
    InputError
        Naming the file, the line and the column.
    """
    table = _Table(path, options, growing=options.growing)
    if table.is_wide:
        return [_wide(table, run, options)]
    long = table.read_long() if options.growing else read(path, None, options)
    return _pivot(long, [path], run, options, where=str(path))


def read_rows(path: Path, epoch: int | None, options: LogOptions) -> LongRows:
    """Read a long table that is complete; ``epoch`` is that of all its rows, if not None.

    Raises
    ------
    InputError
        Naming the file, the line and the column.
    """
    return _Table(path, options, epoch=epoch).read_long_only()


def open_epoch_tables(
    numbered: NumberedFiles, run: int, options: LogOptions, read: ReadRows
) -> LoggedRun:
    """Read one CSV, TSV or JSON-lines file per epoch.

    Raises
    ------
    InputError
        Naming the file, the line and the column.
    """
    with contextlib.suppress(WordsError):
        return _epoch_tables(numbered, run, options, read, words=False)
    return _epoch_tables(numbered, run, options, read, words=True)


def _epoch_tables(
    numbered: NumberedFiles, run: int, options: LogOptions, read: ReadRows, *, words: bool
) -> LoggedRun:
    rows = options.select(run, numbered.epochs)
    long, left = LongRows(options, words=words), []
    for row in rows:
        path = numbered.files[row]
        maybe_growing = options.growing and row == len(numbered.files) - 1
        own = None
        try:
            if words or maybe_growing:
                table = _Table(path, options, epoch=numbered.epochs[row], growing=maybe_growing)
                own = table.read_long_only(words=words)
            else:
                own = read(path, numbered.epochs[row], options)
        except InputError:
            if not maybe_growing:
                raise
        n = 0 if own is None else own.counts.total()
        short = n < options.expected and still_written(path)
        if own is None or (maybe_growing and (short or n == 0)):
            left.append(left_for_next_time(path))
        else:
            long.extend(own)
    files = [numbered.files[row] for row in rows][: len(rows) - len(left)]
    if not files:
        return replace(empty_run(), warnings=left)
    known = replace(options, epochs=LogOptions.epochs, every=1, stored=None)
    (result,) = _pivot(long, files, run, known, where=str(files[0].parent))
    result.warnings += left
    return result


def has_epochs(path: Path, options: LogOptions) -> bool:
    """Whether a table itself says which epoch a row belongs to."""
    columns = _Table(path, options, epoch=0).columns
    return "epoch" in columns or "sample" not in columns


class _Table:
    """A table with a header; rows come as mappings from role to value.

    Parameters
    ----------
    path : Path
    options : LogOptions
    epoch : int, optional
        Epoch of every row of a per-epoch file.
    growing : bool
        The file may still be written: leave out a last line that is not finished.
    """

    def __init__(
        self,
        path: Path,
        options: LogOptions,
        *,
        epoch: int | None = None,
        growing: bool = False,
    ) -> None:
        self.path = path
        self.epoch = epoch
        self._growing = growing
        self._options = options
        check_file(path)
        self.is_json = _is_json(path)
        first = self._first_row()
        self.columns = _find_columns(first, options.columns, path)
        self.header = first
        self._at = {role: first.index(name) for role, name in self.columns.items()}
        self.is_wide = "sample" not in self.columns and self._looks_wide(first)
        if options.format in ("wide-table", "long-table"):
            self.is_wide = options.format == "wide-table"
        if not self.is_wide:
            needed = {"sample", "error"} | ({"epoch"} if epoch is None else set())
            lacking = sorted(needed - set(self.columns))
            if lacking:
                raise InputError(
                    f"{path} has no column {lacking[0]}; it has: " + ", ".join(first[:8]),
                    hint=f"name it: --column {lacking[0]}=NAME",
                )

    def _first_row(self) -> list[str]:
        with damage_named(self.path, "a table"), self._open() as file:
            if self.is_json:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        return list(self._parse(line, number))
                raise InputError(f"{self.path} is empty")
            header = next(csv.reader(file, delimiter=self._delimiter()), [])
        if not header:
            raise InputError(f"{self.path} is empty")
        return [cell.strip() for cell in header]

    def _looks_wide(self, header: Sequence[str]) -> bool:
        if self.is_json:
            return "error" in self.columns
        if all(is_number(cell) for cell in header) and len(header) <= 4:
            if self._options.format == "wide-table":
                return True
            raise InputError(
                f"{self.path} has no header and only {len(header)} columns",
                hint="add the header epoch,sample,error, or --format wide-table if each line is "
                "an epoch",
            )
        return "error" not in self.columns and len(header) > 1

    def _delimiter(self) -> str:
        with self._open() as file:
            line = file.readline()
        found = max("\t,;", key=line.count)
        return found if line.count(found) else (" " if " " in line.strip() else ",")

    def _open(self) -> TextIO:
        if self.path.suffix == ".gz":
            return cast(TextIO, gzip.open(self.path, "rt", encoding="utf-8-sig", newline=""))
        return self.path.open(encoding="utf-8-sig", newline="")

    def _parse(self, line: str, number: int) -> dict[str, Any]:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.path}, line {number}: not JSON") from error
        if not isinstance(value, dict):
            raise InputError(f"{self.path}, line {number}: each line must be one JSON object")
        return value

    def lines(self) -> Iterator[tuple[int, list[Any]]]:
        """Yield (line number, cells in the order of the header); the header is left out."""
        with damage_named(self.path, "a table"), self._open() as file:
            yield from self._json_lines(file) if self.is_json else self._csv_lines(file)

    def _finished(self, file: TextIO) -> Iterable[str]:
        """Lines; without a last one that lacks its end, if the file may still be written."""
        return (line for line in file if line.endswith("\n")) if self._growing else file

    def _json_lines(self, file: TextIO) -> Iterator[tuple[int, list[Any]]]:
        for number, line in enumerate(self._finished(file), 1):
            if line.strip():
                entry = self._parse(line, number)
                yield number, [entry.get(name) for name in self.header]

    def _csv_lines(self, file: TextIO) -> Iterator[tuple[int, list[Any]]]:
        reader = self._csv_reader(file)
        for row in reader:
            if row and len(row) != len(self.header):
                raise InputError(
                    f"{self.path}, line {reader.line_num}: {len(row)} columns, the first line has "
                    f"{len(self.header)}"
                )
            if row:
                yield reader.line_num, row

    def _csv_reader(self, file: TextIO) -> Any:
        lines = self._finished(file)
        reader = csv.reader(lines, delimiter=self._delimiter(), skipinitialspace=True)
        if not all(is_number(cell) for cell in self.header):
            next(reader)
        return reader

    def read_long(self, *, words: bool = False) -> LongRows:
        """Read all rows of a long table; with ``words``, take no id as a number."""
        if not words:
            with contextlib.suppress(WordsError):
                return self._read_long(words=False)
        return self._read_long(words=True)

    def read_long_only(self, *, words: bool = False) -> LongRows:
        """Read all rows; refuse a wide table."""
        if self.is_wide:
            raise InputError(f"{self.path}: a per-epoch table needs the columns sample and error")
        return self.read_long(words=words)

    def _read_long(self, *, words: bool) -> LongRows:
        try:
            return self._read_plain(words=words)
        except (ValueError, TypeError, OverflowError, InputError):
            return self._read_line_by_line(words=words)

    def _read_line_by_line(self, *, words: bool) -> LongRows:
        """Read rows that may be wrong, to name the line of the first that is."""
        long = LongRows(self._options, words=words)
        lines = self.lines()
        while batch := list(itertools.starmap(self._parts, itertools.islice(lines, _BATCH))):
            runs, epochs, samples, errors = map(list, zip(*batch, strict=True))
            long.add(runs, epochs, samples, errors)
        return long

    def _parts(self, number: int, row: list[Any]) -> tuple[int, int, str, float]:
        """Run, epoch, sample and error of a row."""
        at, place = self._at, (self.path, number)
        value, sample = row[at["error"]], row[at["sample"]]
        if isinstance(value, list):
            if not value:
                raise InputError(f"{self.path}, line {number}: the error is an empty list")
            vector = np.array([[_number(v, "error", place) for v in value]])
            value = float(magnitudes(vector, self._options, vectors=True)[0])
        if sample is None or str(sample).strip() == "":
            raise InputError(f"{self.path}, line {number}: the sample has no id")
        if not is_utf8(str(sample)):
            raise InputError(f"{self.path}, line {number}: the sample's id is not UTF-8")
        error = _number(value, "error", place)
        epoch = self.epoch
        if epoch is None:
            epoch = _integer(row[at["epoch"]], "epoch", place)
        return (
            _integer(row[at["run"]], "run", place) if "run" in at else 0,
            epoch,
            str(sample),
            error,
        )

    def _read_plain(self, *, words: bool) -> LongRows:
        """Read rows that are right, many at once; raises what it may if one is not."""
        long, at = LongRows(self._options, words=words), self._at
        place = (self.path, 0)

        def integers(cells: tuple[Any, ...], role: str) -> list[int]:
            known = {cell: _integer(cell, role, place) for cell in set(cells)}
            return [known[cell] for cell in cells]

        for columns in self._plain_columns():
            cells, n = columns[at["sample"]], len(columns[0])
            samples = list(map(str, cells))
            if None in cells or not all(map(str.strip, samples)) or not is_utf8("".join(samples)):
                raise ValueError
            runs = integers(columns[at["run"]], "run") if "run" in at else [0] * n
            fixed = self.epoch
            epochs = integers(columns[at["epoch"]], "epoch") if fixed is None else [fixed] * n
            long.add(runs, epochs, samples, _numbers(columns[at["error"]], "error", place))
        return long

    def _plain_columns(self) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the columns of some rows after the other."""
        with damage_named(self.path, "a table"), self._open() as file:
            rows: Iterator[list[Any]]
            if self.is_json:
                rows = (row for _, row in self._json_lines(file))
            else:
                rows = filter(None, self._csv_reader(file))
            while batch := list(itertools.islice(rows, _BATCH)):
                if len(batch[0]) != len(self.header):
                    raise ValueError
                yield list(zip(*batch, strict=True))


def _pivot(
    long: LongRows, files: list[Path], run: int, options: LogOptions, *, where: str
) -> list[LoggedRun]:
    """Spread a long table over epochs and samples; of a repeated cell the last row counts."""
    if not long.counts:
        raise InputError(f"{where} is empty: it holds no rows")
    ids = long.ids()
    cells = Cells()
    starts: dict[tuple[int, int], int] = {}  # first cell of each (run, epoch) that is read
    results = []
    for number, own in enumerate(sorted({own for own, _ in long.counts})):
        epochs = sorted(epoch for which, epoch in long.counts if which == own)
        counts = [long.counts[own, epoch] for epoch in epochs]
        chosen = options.select(run + number, epochs)
        left = []
        if (
            options.growing
            and chosen
            and chosen[-1] == len(epochs) - 1
            and still_written(files[-1])
            and counts[-1] < max(options.expected, *counts[:-1], 0)
        ):
            chosen = chosen[:-1]
            left = [left_for_next_time(files[-1])]
        rows = [cells.extend_unset(len(ids)) for _ in chosen]
        starts |= {(own, epochs[i]): start for i, start in zip(chosen, rows, strict=True)}
        result = LoggedRun(
            epochs=[epochs[i] for i in chosen],
            names=[f"{where}, epoch {epochs[i]}" for i in chosen],
            files=files,
            n_samples=len(ids),
            read=partial(cells.columns, rows),
            warnings=left,
        )
        if not counts_from_zero(ids):
            result.labels["sample_id"] = ids
        results.append(result)
    results[0].notes["duplicated ids"] += long.put(cells, starts, ids)
    return results


def _wide(table: _Table, run: int, options: LogOptions) -> LoggedRun:
    epoch_at = table.header.index(table.columns["epoch"]) if "epoch" in table.columns else -1
    cells = Cells()
    epochs: list[int] = []
    n = 0
    for number, row in table.lines():
        place = (table.path, number)
        epochs.append(_integer(row[epoch_at], "epoch", place) if epoch_at >= 0 else len(epochs))
        if table.is_json:
            row = row[table.header.index(table.columns["error"])]
            if not isinstance(row, list):
                raise InputError(f"{table.path}, line {number}: the errors must be a list")
        elif epoch_at >= 0:
            del row[epoch_at]
        errors = _numbers(row, "error", place)
        n = len(errors) if len(epochs) == 1 else n
        if len(errors) != n:
            raise InputError(
                f"{table.path}, line {number}: {len(errors)} errors, the first epoch has {n}"
            )
        cells.extend(magnitudes(errors, options, vectors=False))
    if n == 0:
        raise InputError(f"{table.path} is empty: it holds no errors")
    order = sorted(range(len(epochs)), key=lambda i: epochs[i])
    chosen = [order[i] for i in options.select(run, [epochs[i] for i in order])]
    return LoggedRun(
        epochs=[epochs[i] for i in chosen],
        names=[f"{table.path}, epoch {epochs[i]}" for i in chosen],
        files=[table.path],
        n_samples=n,
        read=partial(cells.columns, [i * n for i in chosen]),
    )


def _find_columns(header: Sequence[str], named: Mapping[str, str], path: Path) -> dict[str, str]:
    columns = {}
    wanted = {name for names in KNOWN_COLUMNS.values() for name in names}
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
    return columns


def _is_json(path: Path) -> bool:
    endings = [ending.lower() for ending in path.suffixes]
    return any(ending in (".jsonl", ".ndjson", ".json") for ending in endings)


def _number(cell: Any, column: str, place: tuple[Path, int]) -> float:
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in _MISSING_WORDS):
        return math.nan
    try:
        if isinstance(cell, bool):
            raise TypeError
        return float(cell)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{place[0]}, line {place[1]}: the {column} is {cell!r:.40}, not a number"
        ) from error


def _numbers(cells: Sequence[Any], column: str, place: tuple[Path, int]) -> npt.NDArray[np.float64]:
    try:
        if bool in set(map(type, cells)):
            raise TypeError
        return np.fromiter(map(float, cells), np.float64, len(cells))
    except (TypeError, ValueError, OverflowError):  # a missing or a wrong one
        numbers = (_number(cell, column, place) for cell in cells)
        return np.fromiter(numbers, np.float64, len(cells))


def _integer(cell: Any, column: str, place: tuple[Path, int]) -> int:
    number = _number(cell, column, place)
    if not (math.isfinite(number) and number == int(number) and abs(number) < 2**31):
        raise InputError(
            f"{place[0]}, line {place[1]}: the {column} is {cell!r:.40}, not a whole number"
        )
    return int(number)
