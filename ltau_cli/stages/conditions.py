"""Simple comparisons that rows are chosen or results judged by, such as ``ood_pvalue < 0.01``."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.errors import UsageError

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_PATTERN = re.compile(r"\s*(?P<column>[^\s<>=!]+)\s*(?P<sign>[<>=!]+)\s*(?P<number>\S+)\s*")


@dataclass(frozen=True)
class Condition:
    """``column sign number``."""

    column: str
    sign: str
    number: float

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read ``COLUMN OP NUMBER``.

        Raises
        ------
        UsageError
            If it is of another form.
        """
        found = _PATTERN.fullmatch(text)
        if found is None or found["sign"] not in _OPERATORS:
            raise UsageError(
                f"{text!r} is not COLUMN OP NUMBER with one of " + " ".join(_OPERATORS),
                hint="for example: 'ood_pvalue < 0.01'",
            )
        try:
            number = float(found["number"])
        except ValueError:
            number = math.nan
        if math.isnan(number):
            raise UsageError(f"{text!r}: {found['number']} is not a number")
        return cls(found["column"], found["sign"], number)

    def holds(self, columns: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
        """Return (n,) bool: the rows where it holds; of single numbers, whether it does."""
        holds: npt.NDArray[np.bool_] = _OPERATORS[self.sign](columns[self.column], self.number)
        return holds


def check_columns(
    wanted: Collection[str], there: Collection[str], name: object, what: str = "column"
) -> None:
    """Refuse columns that are not there.

    Raises
    ------
    UsageError
        With those that are.
    """
    for column in wanted:
        if column not in there:
            shown = [c for c in there if not c.startswith("cdf_")]
            raise UsageError(f"{name} has no {what} {column}", hint="it has: " + ", ".join(shown))
