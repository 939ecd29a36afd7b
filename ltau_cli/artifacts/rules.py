"""What must hold of the values of a dataset, beyond their dtype; the schema says where."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np

from ltau_cli.array_types import Array

Sizes = Mapping[str, int]


class Rule(ABC):
    """A property of values; ``str(rule)`` names it in messages and in the docs."""

    of_all: ClassVar[bool] = False  # whether it can be seen only where all rows are read

    @abstractmethod
    def holds(self, values: Array, sizes: Sizes) -> bool:
        """Whether it holds; ``sizes`` are those of the named dimensions. NaN breaks no rule."""


def numbered(rule: Any, number: int) -> Any:
    """Put a number in the place of ``*`` in the names of dimensions."""
    names = {f.name: getattr(rule, f.name) for f in fields(rule)}
    return replace(
        rule, **{k: v.replace("*", str(number)) for k, v in names.items() if isinstance(v, str)}
    )


@dataclass(frozen=True)
class Within(Rule):
    """Values from ``low`` to ``high``; a name stands for the size of that dimension."""

    low: float
    high: float | str | None = None

    def holds(self, values: Array, sizes: Sizes) -> bool:
        """See :class:`Rule`."""
        high = sizes[self.high] if isinstance(self.high, str) else self.high
        return not ((values < self.low).any() or (high is not None and (values > high).any()))

    def __str__(self) -> str:
        return f"at least {self.low:g}" if self.high is None else f"{self.low:g} to {self.high}"


@dataclass(frozen=True)
class Above(Rule):
    """Values greater than ``low``."""

    low: float

    def holds(self, values: Array, sizes: Sizes) -> bool:
        """See :class:`Rule`."""
        return not (values <= self.low).any()

    def __str__(self) -> str:
        return f"above {self.low:g}"


@dataclass(frozen=True)
class Number(Rule):
    """Numbers of what a dimension counts, from 0; with ``none``, -1 stands for none of them."""

    of: str
    none: bool = False

    def holds(self, values: Array, sizes: Sizes) -> bool:
        """See :class:`Rule`."""
        return not ((values < -int(self.none)).any() or (values >= sizes[self.of]).any())

    def __str__(self) -> str:
        return f"{-int(self.none)} to {self.of}-1"


@dataclass(frozen=True)
class Growing(Rule):
    """Values that increase along the last dimension; with ``strictly``, none twice."""

    strictly: bool = True

    def holds(self, values: Array, sizes: Sizes) -> bool:
        """See :class:`Rule`."""
        before, after = values[..., :-1], values[..., 1:]
        return not (after <= before if self.strictly else after < before).any()

    def __str__(self) -> str:
        return "increasing" if self.strictly else "never decreasing"


@dataclass(frozen=True)
class Offsets(Rule):
    """Where each part begins, then where the last one ends: from 0 to the size of ``of``."""

    of_all = True

    of: str
    strictly: bool = False

    def holds(self, values: Array, sizes: Sizes) -> bool:
        """See :class:`Rule`."""
        ends = len(values) > 0 and values[0] == 0 and values[-1] == sizes[self.of]
        return bool(ends) and Growing(self.strictly).holds(values, sizes)

    def __str__(self) -> str:
        return f"{Growing(self.strictly)}, from 0 to {self.of}"


@dataclass(frozen=True)
class Permutation(Rule):
    """Each number from 0 to the size of ``of``, less one, once."""

    of_all = True

    of: str

    def holds(self, values: Array, sizes: Sizes) -> bool:
        """See :class:`Rule`."""
        if len(values) != sizes[self.of] or not Number(self.of).holds(values, sizes):
            return False
        return bool((np.bincount(values, minlength=len(values)) == 1).all())

    def __str__(self) -> str:
        return f"each of 0 to {self.of}-1 once"


@dataclass(frozen=True)
class Covariance(Rule):
    """Symmetric matrices without a negative eigenvalue, in the last two dimensions."""

    of_all = True

    def holds(self, values: Array, sizes: Sizes) -> bool:
        """See :class:`Rule`."""
        known = np.nan_to_num(values)
        room = 1e-9 * np.abs(known).max(initial=0.0)
        if (np.abs(known - known.swapaxes(-1, -2)) > room).any():
            return False
        return not (np.linalg.eigvalsh(known) < -room).any()

    def __str__(self) -> str:
        return "a covariance: symmetric, no negative eigenvalue"


@dataclass(frozen=True)
class SomeInEachRow(Rule):
    """Rows of which none is all 0."""

    def holds(self, values: Array, sizes: Sizes) -> bool:
        """See :class:`Rule`."""
        return bool(values.any(axis=-1).all())

    def __str__(self) -> str:
        return "no row is all 0"


@dataclass(frozen=True)
class Tree(Rule):
    """Two children of each node: later nodes of their own, or of a leaf minus its range of entries.

    So a search comes to an end, visits a node once, and finds the entries of a leaf. The first
    child of a leaf is 0 or less.
    """

    of_all = True

    entries: str  # what the leaves hold, by the name of its dimension

    def holds(self, values: Array, sizes: Sizes) -> bool:
        """See :class:`Rule`."""
        node = np.arange(len(values))
        first, second = values.T.astype(np.int64)
        inner = first > 0
        if (values[inner] <= node[inner, None]).any() or (values[inner] >= len(values)).any():
            return False
        if (np.bincount(values[inner].ravel()) > 1).any():
            return False
        start, stop = -first[~inner], -second[~inner]
        return bool(len(values)) and not ((stop < start) | (stop > sizes[self.entries])).any()

    def __str__(self) -> str:
        return f"later nodes, or minus a range of 0 to {self.entries}"
