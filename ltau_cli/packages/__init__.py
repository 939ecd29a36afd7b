"""Other people's packages: a folder for each, under the name by which Python imports it.

``describe.py`` lets its networks describe frames, and finds the features of atoms in its
calculators; ``record.py`` logs its trainings. No other list of packages is kept than the folders;
what they share stands beside them. What is wrong with a file, a network or a training set is an
``InputError``, what cannot be meant a ``UsageError``.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType


def names(part: str) -> list[str]:
    """Return the packages that have a part: ``describe`` or ``record``."""
    return sorted(file.parent.name for file in Path(__file__).parent.glob(f"*/{part}.py"))


def load(package: str, part: str = "") -> ModuleType:
    """Import a part of a package, or what is known of it without importing anything else."""
    return importlib.import_module(f"{__name__}.{package}" + f".{part}" * bool(part))
