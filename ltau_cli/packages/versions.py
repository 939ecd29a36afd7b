"""Versions of outside packages: those that were tested, and what is said of others.

A package's ``__init__.py`` has its name (``TITLE``), its ``DISTRIBUTION``, and for each part the
oldest and the newest version that were tested: ``RECORDED``, ``DESCRIBED``.
"""

from __future__ import annotations

import importlib.metadata
import re

from ltau_cli import packages
from ltau_cli.errors import ComputeError, InputError, LtauError

_RANGES = {"record": "RECORDED", "describe": "DESCRIBED"}
_INSTEAD = {
    "record": "install one of these; or train without ltau record, keep the checkpoints, and "
    "evaluate them: ltau describe",
    "describe": "install one of these, beside ltau or in an environment of its own",
}


def name(package: str) -> str:
    """Return the name of a package and its version, if it is installed."""
    return f"{getattr(packages.load(package), 'TITLE', package)} {found(package) or ''}".rstrip()


def found(package: str) -> str | None:
    """Return the version that is installed; None if none is, or none is known of."""
    distribution = getattr(packages.load(package), "DISTRIBUTION", package)
    try:
        return importlib.metadata.version(distribution).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def untested(package: str, part: str) -> str | None:
    """Return which versions were tested, in words, if the installed one is none of them."""
    tested, version = getattr(packages.load(package), _RANGES[part], None), found(package)
    if tested is None or version is None:
        return None
    oldest, newest = map(_numbers, tested)
    return None if oldest <= _numbers(version) <= newest else f"{' to '.join(tested)} were"


def refuse(package: str, part: str, where: str, error: BaseException) -> LtauError:
    """Return the refusal of a version that lacks what a part needs of it."""
    if isinstance(error, LtauError):
        return error
    tested = getattr(packages.load(package), _RANGES[part], None)
    kind = ComputeError if part == "record" else InputError
    return kind(
        f"{name(package)} cannot be used by ltau {part}: {where}{': ' * bool(where)}{error}",
        hint=(f"tested: {' to '.join(tested)}; " if tested else "") + _INSTEAD[part],
    )


def _numbers(version: str) -> tuple[int, ...]:
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, numbers[0].split("."))) if numbers else ()
