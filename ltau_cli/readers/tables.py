"""Tables as text: CSV or TSV, also compressed, and JSON lines; headers are read here only."""

import csv
import gzip
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

import numpy as np

from ltau_cli.array_types import Floats
from ltau_cli.errors import InputError
from ltau_cli.readers.place import check_file
from ltau_cli.readers.source import damage_named

TABLE_ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".jsonl", ".jsonl.gz", ".ndjson")
_JSON_ENDINGS = {".jsonl", ".ndjson", ".json"}
INDEX_NAMES = ("", "Unnamed: 0")  # of the column that pandas writes before the others
_MISSING_WORDS = {"", "nan", "na", "n/a", "none", "null"}
SAMPLE_NAMES = ("sample", "sample_id", "id", "atom", "atom_id", "index", "idx")  # of columns
_COMMA = re.compile(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*")
_DOTTED = re.compile(r"(\d+)\.0*")  # a column's number, as pandas writes it among floats
_BATCH = 1 << 12  # lines that are parsed together
_LOOKED_AT = 10_000  # entries that tell whether a first line of numbers names the columns

T = TypeVar("T")
Row = list[Any]  # entries in the order of the header


class Table:
    """A table and the names of its columns: its header, or the first line if that is numbers.

    It is ``named`` by words, ``numbered`` where numbers name the columns (:func:`names_columns`),
    which ``has_header`` says is so. ``first`` is the first line of JSON lines.
    """

    def __init__(self, path: Path, *, has_header: bool = False) -> None:
        check_file(path)
        self.path = path
        self.first, self.header_lines = {}, 0  # type: dict[str, Any], int
        with damage_named(path, "a table"), self._open() as file:
            starts_like_json = file.read(1) == "{"
        self.is_json = starts_like_json or not _JSON_ENDINGS.isdisjoint(
            map(str.lower, path.suffixes)
        )
        self.header = self._first_row()
        is_comment = self.header[0].startswith("#")  # as numpy.savetxt writes a header
        if is_comment:
            self.header[0] = self.header[0].lstrip("# ")
            self.header = self.header[self.header[0] == "" :]
        self.named = self.is_json or not all(map(is_number, self.header))
        self.numbered = not self.named and (is_comment or has_header or self._is_numbered())

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Yield (line number, entries); the header is left out."""
        with damage_named(self.path, "a table"), self._open() as file:
            if self.is_json:
                yield from self._json_rows(file)
                return
            reader = self._reader(file)
            for row in filter(None, reader):
                if len(row) != len(self.header):
                    raise InputError(
                        f"{self.path}, line {reader.line_num}: {len(row)} columns, the first line "
                        f"has {len(self.header)}"
                    )
                yield reader.line_num, row

    def batches(self) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the columns of some rows after the others; fast.

        Where a row is wrong, a ValueError or InputError; :meth:`rows` names its line.
        """
        with damage_named(self.path, "a table"), self._open() as file:
            rows: Iterator[Row]
            rows = (row for _, row in self._json_rows(file)) if self.is_json else self._reader(file)
            for batch in batched(filter(None, rows)):
                if len(batch[0]) != len(self.header):
                    raise ValueError
                yield list(zip(*batch, strict=True))

    def entries_of(self, *names: str) -> tuple[list[int], list[Row]]:
        """Return the line numbers, and the entries of each column."""
        places = [self.header.index(name) for name in names]
        lines, entries = [], [[] for _ in names]  # type: tuple[list[int], list[Row]]
        for number, row in self.rows():
            lines.append(number)
            for own, at in zip(entries, places, strict=True):
                own.append(row[at])
        return lines, entries

    def _first_row(self) -> list[str]:
        with damage_named(self.path, "a table"), self._open() as file:
            if self.is_json:
                lines = ((number, line) for number, line in enumerate(file, 1) if line.strip())
                number, line = next(lines, (0, "{}"))
                self.first = self._parse(line, number)
                header = list(self.first)
            else:
                reader = self._reader(file, skip_header=False)
                header = next(filter(None, reader), [])
                self.header_lines = reader.line_num
        if not header:
            raise InputError(f"{self.path} is empty")
        return [entry.strip() for entry in header]

    def _is_numbered(self) -> bool:
        with damage_named(self.path, "a table"), self._open() as file:
            lines = filter(None, self._reader(file, skip_header=False))
            first = next(lines)
            told = names_columns(first, lines)
        if told is None:
            shown = ", ".join(first[:4]) + ", ..." * (len(first) > 4)
            raise InputError(
                f"{self.path}: line 1 ({shown}) may name the columns, or hold values",
                hint="write names as words (c0,c1,...), or values with a decimal point (0.0,1.0)",
            )
        return told

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

    def _json_rows(self, file: TextIO) -> Iterator[tuple[int, Row]]:
        for number, line in enumerate(file, 1):
            if line.strip():
                entry = self._parse(line, number)
                yield number, [entry.get(name) for name in self.header]

    def _reader(self, file: TextIO, *, skip_header: bool = True) -> Any:
        reader = csv.reader(file, delimiter=self._delimiter(), skipinitialspace=True)
        if skip_header and (self.named or self.numbered):
            next(filter(None, reader))
        return reader


def batched(rows: Iterable[T]) -> Iterator[list[T]]:
    """Yield some rows at a time."""
    rows = iter(rows)
    while batch := list(itertools.islice(rows, _BATCH)):
        yield batch


def names_columns(first: Sequence[str], rows: Iterable[Sequence[str]]) -> bool | None:
    """Whether a first line of numbers names the columns, as pandas does; None if it cannot be told.

    Names are distinct whole numbers without sign or decimal point. They are taken for names where
    they are 0..n-1 or 1..n and the lines below hold other numbers than whole ones; of more than
    three columns any will do, where most numbers below are not whole, as will 0.0, 1.0, ... n-1.
    """
    texts = [entry.strip() for entry in first]
    n = len(texts)
    dotted = [match[1] for match in map(_DOTTED.fullmatch, texts) if match]
    if n > 3 and dotted in (list(map(str, range(n))), list(map(str, range(1, n + 1)))):
        texts = dotted
    if not all(text.isascii() and text.isdigit() for text in texts) or len(set(texts)) < n:
        return False
    values: list[str] = []
    for row in rows:
        values += (text for text in map(str.strip, row) if text.lower() not in _MISSING_WORDS)
        if len(values) > _LOOKED_AT:
            break
    whole = _DOTTED.fullmatch if texts is dotted else str.isdigit
    share = sum(not whole(value) for value in values) / max(len(values), 1)
    numbers = list(map(int, texts))
    if n == 1:
        return None if texts == ["0"] and share == 1 else False
    if sorted(numbers) not in (list(range(n)), list(range(1, n + 1))):
        return n > 3 and share > 0.5
    in_order = numbers == sorted(numbers)
    return True if share > 0 and (n > 3 or (in_order and share == 1)) else None


def is_number(entry: str) -> bool:
    """Whether an entry reads as a number."""
    try:
        float(entry)
    except ValueError:
        return False
    return True


def to_number(entry: Any, column: str, path: Path, line: int) -> float:
    """Read an entry, NaN where it is missing."""
    if entry is None or (isinstance(entry, str) and entry.strip().lower() in _MISSING_WORDS):
        return math.nan
    try:
        if isinstance(entry, bool):
            raise TypeError
        return float(entry)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path}, line {line}: the {column} is {entry!r:.40}, not a number",
            hint="write a decimal point, not a comma" if _COMMA.fullmatch(str(entry)) else None,
        ) from error


def to_numbers(entries: Sequence[Any], column: str, path: Path, lines: Sequence[int]) -> Floats:
    """Read entries, each on a line of its own; see :func:`to_number`."""
    try:
        if bool in set(map(type, entries)):
            raise TypeError
        return np.fromiter(map(float, entries), np.float64, len(entries))
    except (TypeError, ValueError, OverflowError):  # a missing or a wrong one
        numbers = (
            to_number(entry, column, path, i) for entry, i in zip(entries, lines, strict=False)
        )
        return np.fromiter(numbers, np.float64, len(entries))
