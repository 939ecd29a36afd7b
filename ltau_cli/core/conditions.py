"""Simple comparisons that rows are chosen or results judged by, such as ``ood_pvalue < 0.01``."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ltau_cli.array_types import Bools
from ltau_cli.errors import UsageError

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_PATTERN = re.compile(
    r"\s*(?P<column>[^\s<>=!]+)\s*(?P<sign>[<>=!]+)\s*(?P<value>[^\s<>=!]([^<>=!]*[^\s<>=!])?)\s*"
)


@dataclass(frozen=True)
class Condition:
    """``column sign value``; the value is a number, or text for a column of text."""

    column: str
    sign: str
    value: float | str

    @classmethod
    def parse(cls, text: str, labels: Collection[str] = ()) -> Condition:
        """Read ``COLUMN OP NUMBER``, or ``COLUMN == TEXT`` for one of the columns ``labels``."""
        found = _PATTERN.fullmatch(text)
        if found is None or found["sign"] not in _OPERATORS:
            raise UsageError(
                f"{text!r} is not COLUMN OP NUMBER with one of " + " ".join(_OPERATORS),
                hint="for example: 'ood_pvalue < 0.01'",
            )
        column, sign, value = found["column"], found["sign"], found["value"]
        if column in labels:
            if sign not in ("==", "!="):
                raise UsageError(f"{text!r}: {column} holds text, which is compared by == or !=")
            return cls(column, sign, value)
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UsageError(f"{text!r}: {value} is not a number that is finite")
        return cls(column, sign, number)

    def holds(self, columns: Mapping[str, Any]) -> Bools:
        """Return (n,) bool: the rows where it holds; of single numbers, whether it does."""
        holds: Bools = _OPERATORS[self.sign](columns[self.column], self.value)
        return holds


def check_columns(
    wanted: Collection[str], there: Collection[str], name: object, what: str = "column"
) -> None:
    """Refuse columns that are not there."""
    for column in wanted:
        if column not in there:
            shown = [c for c in there if not c.startswith("cdf_")]
            raise UsageError(f"{name} has no {what} {column}", hint="it has: " + ", ".join(shown))
