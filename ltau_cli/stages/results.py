"""What a stage tells when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


def only_if_asked() -> Any:
    """Return a field that is None, and not told, where it was not asked for."""
    return field(default=None, metadata={"only_if_asked": True})


@dataclass(frozen=True, repr=False)
class Result:
    """The result of a stage: fields of plain Python and numpy values."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, without those that were not asked for."""
        values = {f: getattr(self, f.name) for f in fields(self)}
        return {
            f.name: value
            for f, value in values.items()
            if value is not None or "only_if_asked" not in f.metadata
        }

    def __repr__(self) -> str:
        told = self.to_dict()
        width = max(map(len, told))
        lines = (f"  {name.ljust(width)}  {_short(value)}" for name, value in told.items())
        return "\n".join([type(self).__name__, *lines])


def _short(value: Any) -> str:
    """Show a value on one line."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(map(str, value)) + "}"
    if hasattr(value, "tolist"):
        value = value.tolist()
        return _short(value) if not isinstance(value, list) else _short_list(value)
    return _short_list(value) if isinstance(value, list | tuple) else str(value)


def _short_list(values: Any) -> str:
    shown = ["..." if isinstance(value, list | Mapping) else _short(value) for value in values[:6]]
    return "[" + ", ".join(shown) + (f", ... {len(values):,} in all]" if len(values) > 6 else "]")
