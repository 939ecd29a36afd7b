"""Typed objects to plain JSON and back, with a check of every value."""

import contextlib
import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Between:
    """Numbers from ``low`` to ``high``, or a list of so many entries."""

    low: float
    high: float | None = None

    def __str__(self) -> str:
        return f"at least {self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"


Count = Annotated[int, Between(0)]
Positive = Annotated[int, Between(1)]
Share = Annotated[float, Between(0, 1)]


def to_plain(value: Any) -> Any:
    """Return what JSON can hold: numpy's values as Python's, paths as text, NaN as None.

    Of a dataclass, a field with a default is left out where it has just that, and so is one that
    its ``repr`` leaves out; ``from_`` stands for ``from``.
    """
    if is_dataclass(value):
        return {f.name.rstrip("_"): to_plain(entry) for f, entry in told_fields(value)}
    if hasattr(value, "tolist"):
        return to_plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): to_plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def told_fields(value: Any) -> list[tuple[Field[Any], Any]]:
    """Fields of a dataclass, with their values, that are told; see :func:`to_plain`."""
    pairs = [(f, getattr(value, f.name)) for f in fields(value) if f.repr]
    return [
        (f, entry)
        for f, entry in pairs
        if entry != (f.default if f.default_factory is MISSING else f.default_factory())
    ]


def load_json(text: str) -> Any:
    """Read JSON; NaN and infinity, which Python's reader takes, are a ValueError."""
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def from_plain(value: Any, of: Any, place: str = "") -> Any:
    """Return what JSON holds as an object of a type; a ValueError names the first wrong ``place``.

    The type is a dataclass or TypedDict, a container, a plain type, a union of them, or one of them
    annotated with :class:`Between`. What an object has beside the declared keys is ignored
    (dataclass) or kept (TypedDict).
    """
    origin, arguments = get_origin(of), get_args(of)
    if origin is Annotated:
        found = from_plain(value, arguments[0], place)
        size = len(found) if isinstance(found, list) else found
        for rule in (one for one in arguments[1:] if isinstance(one, Between)):
            if not (rule.low <= size and (rule.high is None or size <= rule.high)):
                raise ValueError(f"{place} is not {rule}")
        return found
    if origin in (Union, types.UnionType):
        for one in arguments:
            with contextlib.suppress(ValueError):
                return from_plain(value, one, place)
        raise ValueError(f"{place} is not as it should be")
    if origin is Literal:
        if not isinstance(value, str) or value not in arguments:
            raise ValueError(f"{place} is not one of " + ", ".join(arguments))
        return value
    if origin in (list, tuple):
        return _read_list(value, origin, arguments, place)
    if origin is dict or is_dataclass(of) or hasattr(of, "__required_keys__"):
        return _read_object(value, of, place)
    return Path(_plain(value, str, place)) if of is Path else _plain(value, of, place)


def _read_list(value: Any, origin: Any, kinds: tuple[Any, ...], place: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{place} is not a list")
    if origin is tuple and len(value) != len(kinds):
        raise ValueError(f"{place} is not a list of {len(kinds)}")
    of_each = kinds if origin is tuple else kinds * len(value)
    return [
        from_plain(entry, kind, f"{place}[{number}]")
        for number, (entry, kind) in enumerate(zip(value, of_each, strict=True))
    ]


def _read_object(value: Any, of: Any, place: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{place} is not an object")
    origin = get_origin(of)
    if origin is dict:
        kinds, required = dict.fromkeys(value, get_args(of)[1]), frozenset[str]()
    else:
        kinds, required = _keys(of)
    found = {}
    for name, kind in kinds.items():
        key, inside = name.rstrip("_"), f"{place}.{name.rstrip('_')}".lstrip(".")
        if key in value:
            found[name] = from_plain(value[key], kind, inside)
        elif name in required:
            raise ValueError(f"{inside} is missing")
    return value | found if hasattr(of, "__required_keys__") or origin is dict else of(**found)


@cache
def _keys(of: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """Types of the fields by name, and the names of those that must be there."""
    hints = get_type_hints(of, include_extras=True)
    if not is_dataclass(of):
        return hints, of.__required_keys__
    required = {f.name for f in fields(of) if f.default is f.default_factory is MISSING}
    return {f.name: hints[f.name] for f in fields(of)}, frozenset(required)


def _plain(value: Any, of: Any, place: str) -> Any:
    if of is Any:
        return value
    if isinstance(value, bool):
        fits = of is bool
    elif of is float:
        fits = isinstance(value, int | float) and abs(value) < math.inf
    elif of is int:  # what an int64 holds
        fits = isinstance(value, int) and abs(value) < 1 << 63
    else:
        fits = isinstance(value, of)
    if not fits:
        raise ValueError(f"{place} is not {'null' if of is types.NoneType else of.__name__}")
    return value
