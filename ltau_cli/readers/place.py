"""A file, or an array in it, as users name it; every file that is read is looked at here first."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ltau_cli.errors import InputError, LtauError

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True)
class Place:
    """A file, and where the array is inside it: ``file.h5:/group/data`` or ``file.npz:name``."""

    path: Path
    key: str | None = None

    @classmethod
    def parse(cls, text: str | Path) -> Place:
        """Split at the last colon that follows an existing file."""
        path = Path(text)
        if is_there(path):
            return cls(path)
        before, colon, key = str(text).rpartition(":")
        if colon and is_there(Path(before)) and not Path(before).is_dir():
            return cls(Path(before), key)
        raise InputError(f"{text}: no such file")

    def __str__(self) -> str:
        return str(self.path) if self.key is None else f"{self.path}:{self.key}"


def is_there(path: Path) -> bool:
    """Whether there is anything of that name."""
    try:
        path.stat()
    except PermissionError as error:
        raise InputError(f"{path}: no permission to look into its folder") from error
    except (OSError, ValueError):  # no such file; or no file can have such a name
        return False
    return True


def check_file(
    path: Path, *, otherwise: type[LtauError] = InputError, hint: str | None = None
) -> None:
    """Refuse what is no file that can be read, and read again.

    A pipe would be read up by the look that tells its format, and cannot be hashed. What is there
    and is no file raises ``otherwise``; ``hint`` is the next step if nothing is there.
    """
    if not is_there(path):
        raise InputError(f"{path}: no such file", hint=hint)
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise otherwise(f"{path} is a folder; a file is needed here")
    if not stat.S_ISREG(mode):
        raise otherwise(
            f"{path} is {_KINDS.get(stat.S_IFMT(mode), 'no plain file')}; a file is needed here",
            hint="inputs are read more than once: save it to a file first",
        )
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except PermissionError as error:
        raise InputError(f"{path}: no permission to read it") from error
    except OSError as error:
        raise InputError(f"{path}: cannot read it: {error.strerror}") from error


def list_folder(path: Path) -> list[Path]:
    """Return what is in a folder, by name."""
    try:
        return sorted(path.iterdir())
    except OSError as error:
        raise InputError(f"{path}: cannot read the folder: {error.strerror}") from error
