"""A file, or an array in it, as users name it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ltau_cli.errors import InputError


@dataclass(frozen=True)
class Place:
    """A file, and where the array is inside it: ``file.h5:/group/data`` or ``file.npz:name``."""

    path: Path
    key: str | None = None

    @classmethod
    def parse(cls, text: str | Path) -> Place:
        """Split at the last colon that follows an existing file.

        Raises
        ------
        InputError
            If there is no such file.
        """
        path = Path(text)
        if path.exists():
            return cls(path)
        before, colon, key = str(text).rpartition(":")
        if colon and Path(before).is_file():
            return cls(Path(before), key)
        raise InputError(f"{text}: no such file")

    def __str__(self) -> str:
        return str(self.path) if self.key is None else f"{self.path}:{self.key}"
