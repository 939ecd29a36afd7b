"""Rows of a long table, (run, epoch, sample, error), on their way to their slots."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Array, Integers
from ltau_cli.readers.logs.run import magnitudes
from ltau_cli.readers.scratch import Scratch, Slots
from ltau_cli.settings import LogOptions

_BLOCK = 1 << 20  # rows that are put in their slots together
_ROW = np.dtype([("run", "i4"), ("epoch", "i4"), ("sample", "i8"), ("error", "f4")])
_FRAME_BITS = 32  # of a frame and an atom in one number, those of the atom
_RUN_KEY = 1 << 32  # times a run, plus an epoch: sorts by both


@dataclass(frozen=True)
class Samples:
    """The samples of a long table, (n,) each."""

    ids: Array  # int64 or str
    places: Integers  # where each of the distinct ids stands among them
    structure: Integers | None = None  # the frame of each, where two columns name it


class WordsError(Exception):
    """An id that is no whole number, in a table of numbers: then all its ids are words."""


class LongRows:
    """Rows of a long table, in the order of the file; ``counts`` are those of each (run, epoch).

    Ids are whole numbers, or with ``words`` words, in the order in which they appear; another kind
    is a ``WordsError``. Those that are ``paired`` are a frame and an atom of it.
    """

    def __init__(self, options: LogOptions, *, words: bool, paired: bool = False) -> None:
        self.counts: Counter[tuple[int, int]] = Counter()
        self.paired = paired
        self._options = options
        self._words: dict[str, int] | None = {} if words else None
        self._numbers = _Numbers()
        self._scratch = Scratch()

    def add(
        self, runs: list[int], epochs: list[int], frames: list[str], samples: list[str],
        errors: npt.ArrayLike,
    ) -> None:  # fmt: skip
        """Append rows; their frames are left alone unless the ids are paired."""
        rows = np.empty(len(samples), dtype=_ROW)
        rows["run"], rows["epoch"] = runs, epochs
        rows["error"] = magnitudes(np.asarray(errors), self._options, vectors=False)
        if self._words is None:
            rows["sample"] = _whole_numbers(samples)
            if self.paired:
                rows["sample"] = _pairs(_whole_numbers(frames), rows["sample"])
            self._numbers.add(rows["sample"])
        else:
            if self.paired:
                samples = [f"{frame}/{own}" for frame, own in zip(frames, samples, strict=True)]
            rows["sample"] = self._places_of(samples, self._words)
        self.counts.update(zip(runs, epochs, strict=True))
        self._scratch.write(rows, self._scratch.size)

    def extend(self, other: LongRows) -> None:
        """Append the rows of another one, whose ids are words if the own ones are."""
        if self._words is None and other._words is not None:
            raise WordsError
        for rows in other._blocks():
            if self._words is None:
                self._numbers.add(rows["sample"])
            else:
                rows["sample"] = self._places_of(other._words or (), self._words)[rows["sample"]]
            self._scratch.write(rows, self._scratch.size)
        self.counts.update(other.counts)

    def to_arrays(self) -> dict[str, Array]:
        """Return the rows, and the words that are their ids, as arrays."""
        arrays = {"rows": np.concatenate([np.empty(0, _ROW), *self._blocks()])}
        arrays |= {} if self._words is None else {"words": np.array(list(self._words))}
        return arrays | ({"paired": np.ones(1)} if self.paired else {})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], options: LogOptions) -> LongRows:
        """Return rows that :meth:`to_arrays` gave."""
        own = cls(options, words="words" in arrays, paired="paired" in arrays)
        rows = arrays["rows"]
        if own._words is None:
            own._numbers.add(rows["sample"])
        else:
            own._words = {str(word): place for place, word in enumerate(arrays["words"])}
        own._scratch.write(rows, 0)
        keys, n_rows = np.unique(_keys_of(rows), return_counts=True)
        for key, n in zip(keys.tolist(), n_rows.tolist(), strict=True):
            own.counts[divmod(key, _RUN_KEY)] = n
        return own

    def samples(self) -> Samples:
        """Distinct ids: numbers in increasing order, words as they appear; pairs frame by frame."""
        ids = self._numbers.all() if self._words is None else np.array(list(self._words))
        if not self.paired or not len(ids):
            return Samples(ids, np.arange(len(ids)))
        if self._words is None:
            frames, own = ids >> _FRAME_BITS, ids & (1 << _FRAME_BITS) - 1
        else:
            frames, own = np.array([word.rsplit("/", 1) for word in self._words]).T
            with contextlib.suppress(WordsError):
                own = _whole_numbers(own.tolist())
        if len(np.unique(own)) == len(own):  # they name the atoms alone
            order = np.argsort(own) if own.dtype.kind == "i" else np.arange(len(own))
            return Samples(own[order], np.argsort(order))
        _, first, inverse = np.unique(frames, return_index=True, return_inverse=True)
        structure = np.argsort(np.argsort(first))[inverse]
        order = np.argsort(structure, kind="stable")
        names = np.array([f"{frame}/{atom}" for frame, atom in zip(frames, own, strict=True)])
        return Samples(names[order], np.argsort(order), structure[order])

    def put(self, slots: Slots, starts: Mapping[tuple[int, int], int], places: Integers) -> int:
        """Put the errors in their slots; return how many found theirs filled by an earlier one.

        ``starts`` is the first slot of each (run, epoch) that is wanted, ``places`` (n_samples,)
        are those of :meth:`samples`.
        """
        known = sorted(self.counts)
        keys = np.array([run * _RUN_KEY + epoch for run, epoch in known])
        start_of = np.array([starts.get(key, -1) for key in known])
        ids = self._numbers.all() if self._words is None else np.arange(len(places))
        counted = counts_from_zero(ids)
        n_repeated = 0
        for rows in self._blocks():
            start = start_of[np.searchsorted(keys, _keys_of(rows))]
            rows, start = rows[start >= 0], start[start >= 0]
            place = rows["sample"] if counted else np.searchsorted(ids, rows["sample"])
            n_repeated += len(rows) - slots.put(start + places[place], rows["error"])
        return n_repeated

    def _blocks(self) -> Iterator[Array]:
        """Yield the rows, block by block."""
        n = self._scratch.size // _ROW.itemsize
        for first in range(0, n, _BLOCK):
            rows = np.empty(min(_BLOCK, n - first), dtype=_ROW)
            self._scratch.read(rows, first * _ROW.itemsize)
            yield rows

    @staticmethod
    def _places_of(samples: Iterable[str], words: dict[str, int]) -> Integers:
        return np.array([words.setdefault(word, len(words)) for word in samples], dtype=np.int64)


class _Numbers:
    """Distinct whole numbers, gathered from many arrays."""

    def __init__(self) -> None:
        self._known = np.empty(0, dtype=np.int64)
        self._coming: list[Integers] = []
        self._n_coming = 0

    def add(self, numbers: Integers) -> None:
        """Add those that are new; they wait until so many have come that sorting pays."""
        if len(self._known):
            place = np.searchsorted(self._known, numbers)
            place[place == len(self._known)] = 0
            numbers = numbers[self._known[place] != numbers]
        self._coming.append(numbers)
        self._n_coming += len(numbers)
        if self._n_coming > max(len(self._known), _BLOCK):
            self.all()

    def all(self) -> Integers:
        """Return them in increasing order."""
        self._known = np.unique(np.concatenate([self._known, *self._coming]))
        self._coming, self._n_coming = [], 0
        return self._known


def _keys_of(rows: Array) -> Integers:
    """Run and epoch of each row as one number."""
    keys: Integers = rows["run"] * np.int64(_RUN_KEY) + rows["epoch"]
    return keys


def _whole_numbers(samples: list[str]) -> Integers:
    try:
        try:
            return np.array(list(map(int, samples)), dtype=np.int64)
        except ValueError:
            return np.array(list(map(_whole, samples)), dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise WordsError from error


def _pairs(frames: Integers, atoms: Integers) -> Integers:
    for numbers in (frames, atoms):
        if ((numbers < 0) | (numbers >= 1 << _FRAME_BITS - 1)).any():
            raise WordsError
    return (frames << _FRAME_BITS) | atoms


def _whole(text: str) -> int:
    """Read ``7`` or ``7.0``; raises ValueError for anything else."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer() or abs(number) > 2**53:
            raise ValueError(text) from None
        return int(number)


def counts_from_zero(ids: Array) -> bool:
    """Whether the ids are the places of the samples."""
    return ids.dtype.kind in "iu" and bool((ids == np.arange(len(ids))).all())
