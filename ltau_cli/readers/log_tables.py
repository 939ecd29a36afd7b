"""Error logs as text: CSV or TSV, and JSON lines; long or wide; one file or one per epoch."""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np

from ltau_cli.errors import InputError
from ltau_cli.readers.arrays import damage_named
from ltau_cli.readers.log import (
    LoggedRun,
    LogOptions,
    empty_run,
    keep_all,
    left_for_next_time,
    magnitudes,
    scratch,
    still_written,
)
from ltau_cli.readers.numbered import NumberedFiles

KNOWN_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "epoch": ("epoch", "epochs", "step", "iteration"),
    "sample": ("sample", "sample_id", "id", "atom", "atom_id", "index", "idx"),
    "error": ("error", "errors", "err", "force_error", "energy_error", "abs_error", "loss"),
    "run": ("run", "seed", "member"),
}
_MISSING_WORDS = {"", "nan", "na", "n/a", "none", "null"}


@dataclass
class _Long:
    """Columns of a long table, grown row by row."""

    epoch: array[int] = field(default_factory=lambda: array("q"))
    run: array[int] = field(default_factory=lambda: array("q"))
    sample: list[Any] = field(default_factory=list)
    error: array[float] = field(default_factory=lambda: array("d"))

    def extend(self, other: _Long) -> None:
        """Append the rows of another one."""
        self.epoch.extend(other.epoch)
        self.run.extend(other.run)
        self.sample.extend(other.sample)
        self.error.extend(other.error)


def open_table(path: Path, run: int, options: LogOptions) -> list[LoggedRun]:
    """Read one CSV, TSV or JSON-lines file of all epochs, and runs if it has such a column.

    Raises
    ------
    InputError
        Naming the file, the line and the column.
    """
    table = _Table(path, options, growing=options.growing)
    if table.is_wide:
        return [_wide(table, run, options)]
    return _long(table, run, options)


def open_epoch_tables(numbered: NumberedFiles, run: int, options: LogOptions) -> LoggedRun:
    """Read one CSV, TSV or JSON-lines file per epoch.

    Raises
    ------
    InputError
        Naming the file, the line and the column.
    """
    rows = options.select(run, numbered.epochs)
    long, left = _Long(), []
    for row in rows:
        path = numbered.files[row]
        maybe_growing = options.growing and row == len(numbered.files) - 1
        own = _Long()
        try:
            table = _Table(path, options, epoch=numbered.epochs[row], growing=maybe_growing)
            if table.is_wide:
                raise InputError(f"{path}: a per-epoch table needs the columns sample and error")
            table.read_long(own)
        except InputError:
            if not maybe_growing:
                raise
            own = _Long()
        short = len(own.error) < options.expected and still_written(path)
        if maybe_growing and (short or not own.error):
            left.append(left_for_next_time(path))
        else:
            long.extend(own)
    files = [numbered.files[row] for row in rows][: len(rows) - len(left)]
    if not files:
        return replace(empty_run(), warnings=left)
    known = replace(options, select=keep_all, growing=False)
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
        self.is_json = _is_json(path)
        first = self._first_row()
        self.columns = _find_columns(first, options.columns, path)
        self.header = first
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
        if all(_is_number(cell) for cell in header) and len(header) <= 4:
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
        with contextlib.ExitStack() as stack:
            with damage_named(self.path, "a table"):
                file = stack.enter_context(self._open())
            rows = self._json_lines(file) if self.is_json else self._csv_lines(file)
            while True:
                with damage_named(self.path, "a table"):
                    row = next(rows, None)
                if row is None:
                    return
                yield row

    def _finished(self, file: TextIO) -> Iterator[str]:
        """Lines; without a last one that lacks its end, if the file may still be written."""
        return (line for line in file if line.endswith("\n") or not self._growing)

    def _json_lines(self, file: TextIO) -> Iterator[tuple[int, list[Any]]]:
        for number, line in enumerate(self._finished(file), 1):
            if line.strip():
                entry = self._parse(line, number)
                yield number, [entry.get(name) for name in self.header]

    def _csv_lines(self, file: TextIO) -> Iterator[tuple[int, list[Any]]]:
        delimiter = self._delimiter()
        reader = csv.reader(self._finished(file), delimiter=delimiter, skipinitialspace=True)
        if not all(_is_number(cell) for cell in self.header):
            next(reader)
        for row in reader:
            if row and len(row) != len(self.header):
                raise InputError(
                    f"{self.path}, line {reader.line_num}: {len(row)} columns, the first line has "
                    f"{len(self.header)}"
                )
            if row:
                yield reader.line_num, row

    def read_long(self, long: _Long) -> None:
        """Append all rows of a long table."""
        at = {role: self.header.index(name) for role, name in self.columns.items()}
        sample, error, epoch, run = (at.get(r, -1) for r in ("sample", "error", "epoch", "run"))
        fixed = self.epoch
        for number, row in self.lines():
            place = (self.path, number)
            value = row[error]
            if isinstance(value, list):
                vector = np.array([[_number(v, "error", place) for v in value]])
                value = float(magnitudes(vector, self._options, vectors=True)[0])
            if row[sample] is None or str(row[sample]).strip() == "":
                raise InputError(f"{self.path}, line {number}: the sample has no id")
            long.error.append(_number(value, "error", place))
            long.sample.append(row[sample])
            long.epoch.append(_integer(row[epoch], "epoch", place) if fixed is None else fixed)
            long.run.append(_integer(row[run], "run", place) if run >= 0 else 0)


def _long(table: _Table, run: int, options: LogOptions) -> list[LoggedRun]:
    long = _Long()
    table.read_long(long)
    return _pivot(long, [table.path], run, options, where=str(table.path))


def _pivot(
    long: _Long, files: list[Path], run: int, options: LogOptions, *, where: str
) -> list[LoggedRun]:
    """Spread a long table over epochs and samples; of a repeated cell the last row counts."""
    if not long.error:
        raise InputError(f"{where} is empty: it holds no rows")
    ids, sample = _sample_ids(long.sample)
    epoch = np.asarray(long.epoch)
    runs, run_of_row = np.unique(np.asarray(long.run), return_inverse=True)
    errors = np.asarray(long.error)
    results = []
    for number in range(len(runs)):
        own = run_of_row == number
        epochs, row, counts = np.unique(epoch[own], return_inverse=True, return_counts=True)
        chosen = options.select(run + number, epochs.tolist())
        left = []
        if (
            options.growing
            and chosen
            and chosen[-1] == len(epochs) - 1
            and still_written(files[-1])
        ):
            complete = max(options.expected, int(counts[:-1].max(initial=0)))
            if counts[-1] < complete:
                chosen = chosen[:-1]
                left = [left_for_next_time(files[-1])]
        values = scratch((len(epochs), len(ids)))
        values[row, sample[own]] = magnitudes(errors[own], options, vectors=False)
        result = LoggedRun(
            epochs=[int(epochs[i]) for i in chosen],
            names=[f"{where}, epoch {epochs[i]}" for i in chosen],
            files=files,
            n_samples=len(ids),
            read=lambda start, stop, v=values, c=chosen: np.asarray(v[:, start:stop])[c],  # type: ignore[misc]
            warnings=left,
        )
        read_rows = np.isin(row, chosen)
        cells = np.unique(row[read_rows] * len(ids) + sample[own][read_rows])
        result.notes["duplicated ids"] += int(read_rows.sum()) - len(cells)
        if not _counts_from_zero(ids):
            result.labels["sample_id"] = ids
        results.append(result)
    return results


def _sample_ids(samples: Sequence[Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Distinct ids, numbers in increasing order and words as they appear; the place of each row."""
    try:
        numbers = np.array([_whole(sample) for sample in samples], dtype=np.int64)
    except (ValueError, OverflowError):
        words = [str(sample) for sample in samples]
        places = {word: i for i, word in enumerate(dict.fromkeys(words))}
        return np.array(list(places)), np.array([places[word] for word in words])
    ids, place = np.unique(numbers, return_inverse=True)
    return ids, place


def _whole(sample: Any) -> int:
    """Read ``7``, ``"7"`` or ``"7.0"``; raises ValueError for anything else."""
    text = str(sample).strip()
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer() or abs(number) > 2**53:
            raise ValueError(text) from None
        return int(number)


def _counts_from_zero(ids: np.ndarray[Any, Any]) -> bool:
    return ids.dtype.kind in "iu" and bool((ids == np.arange(len(ids))).all())


def _wide(table: _Table, run: int, options: LogOptions) -> LoggedRun:
    epoch_at = table.header.index(table.columns["epoch"]) if "epoch" in table.columns else -1
    epochs: list[int] = []
    rows: list[np.ndarray[Any, Any]] = []
    for number, row in table.lines():
        place = (table.path, number)
        epochs.append(_integer(row[epoch_at], "epoch", place) if epoch_at >= 0 else len(epochs))
        cells: Iterable[Any]
        if table.is_json:
            cells = row[table.header.index(table.columns["error"])]
            if not isinstance(cells, list):
                raise InputError(f"{table.path}, line {number}: the errors must be a list")
        else:
            cells = (cell for i, cell in enumerate(row) if i != epoch_at)
        rows.append(np.array([_number(cell, "error", place) for cell in cells]))
        if len(rows[-1]) != len(rows[0]):
            raise InputError(
                f"{table.path}, line {number}: {len(rows[-1])} errors, the first epoch has "
                f"{len(rows[0])}"
            )
    if not rows or len(rows[0]) == 0:
        raise InputError(f"{table.path} is empty: it holds no errors")
    order = sorted(range(len(rows)), key=lambda i: epochs[i])
    chosen = [order[i] for i in options.select(run, [epochs[i] for i in order])]
    values = scratch((len(chosen), len(rows[0])))
    for target, i in enumerate(chosen):
        values[target] = magnitudes(rows[i], options, vectors=False)
    return LoggedRun(
        epochs=[epochs[i] for i in chosen],
        names=[f"{table.path}, epoch {epochs[i]}" for i in chosen],
        files=[table.path],
        n_samples=len(rows[0]),
        read=lambda start, stop: np.asarray(values[:, start:stop]),
    )


def _find_columns(header: Sequence[str], named: Mapping[str, str], path: Path) -> dict[str, str]:
    columns = {}
    lower = {name.lower(): name for name in reversed(header)}
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


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: Any, column: str, place: tuple[Path, int]) -> float:
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in _MISSING_WORDS):
        return math.nan
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{place[0]}, line {place[1]}: the {column} is {cell!r:.40}, not a number"
        ) from error


def _integer(cell: Any, column: str, place: tuple[Path, int]) -> int:
    number = _number(cell, column, place)
    if not (math.isfinite(number) and number == int(number) and abs(number) < 2**31):
        raise InputError(
            f"{place[0]}, line {place[1]}: the {column} is {cell!r:.40}, not a whole number"
        )
    return int(number)
