"""Finished parts of a job that many processes work on, until its artifact is written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli import __version__
from ltau_cli.artifacts.provenance import stamp
from ltau_cli.artifacts.write import parts_of, remove_parts, to_json
from ltau_cli.errors import InputError, OutputError, writing
from ltau_cli.readers.place import Place

log = logging.getLogger("ltau")


class Parts:
    """Arrays in a hidden folder beside an artifact, each in a file of its own.

    A file appears under its name whole or not at all, and all processes that write it write the
    same bytes. So one that is there is finished, whoever wrote it and whatever became of him.

    Parameters
    ----------
    folder : Path
        It is there; a process that comes too late, for a job that was given up, cannot write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str) -> bool:
        """Whether the array is there."""
        return self._path(name).exists()

    def save(self, name: str, values: npt.ArrayLike) -> None:
        """Write an array; it is on disk when this returns.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        path = self._path(name)
        with writing(path):
            descriptor, temporary = tempfile.mkstemp(dir=self.folder, prefix=".")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    np.lib.format.write_array(file, np.asarray(values), allow_pickle=False)
                    file.flush()
                    os.fsync(descriptor)
                os.replace(temporary, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise

    def load(self, name: str) -> npt.NDArray[Any]:
        """Map an array into memory, read-only.

        Raises
        ------
        OutputError
            If it is not there or damaged.
        """
        path = self._path(name)
        try:
            return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError) as error:
            raise OutputError(
                f"{path} is damaged or gone: {error}",
                hint=f"give the command again after: rm -r {self.folder.parent}",
            ) from error

    def save_json(self, name: str, value: Any) -> None:
        """Write what is no array."""
        self.save(name, np.frombuffer(to_json(value).encode(), dtype=np.uint8))

    def load_json(self, name: str) -> Any:
        """Read what :meth:`save_json` wrote."""
        return json.loads(self.load(name).tobytes())

    def remove(self, name: str) -> None:
        """Remove an array that is needed no more."""
        with contextlib.suppress(OSError):
            self._path(name).unlink()

    @contextlib.contextmanager
    def kept(self, target: Path) -> Iterator[None]:
        """Say that finished parts are kept if the work with them fails, unless by its input."""
        try:
            yield
        except InputError:
            raise
        except BaseException:
            if any(self.folder.iterdir()):
                log.warning(
                    "%s: what the workers finished is kept; the same command goes on from there",
                    target,
                )
            raise

    def _path(self, name: str) -> Path:
        return self.folder / f"{name.replace('/', '.')}.npy"


@contextlib.contextmanager
def open_parts(target: Path, job: Mapping[str, Any]) -> Iterator[Parts]:
    """Open the parts of an artifact; those that an equal job has left are there, others go.

    Its writer holds the lock of the artifact, so no other process does this at the same time. The
    folder is removed when the artifact is complete, or if its input cannot be used.

    Parameters
    ----------
    target : Path
        The artifact.
    job : mapping
        All that the parts depend on.

    Raises
    ------
    OutputError
        If the folder cannot be made.
    """
    above = Path(os.path.abspath(parts_of(target)))
    about = to_json({"ltau_version": __version__, "job": job})
    folder = above / hashlib.sha256(about.encode()).hexdigest()[:16]
    with writing(target):
        for old in above.iterdir() if above.is_dir() else ():
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield Parts(folder)
    except InputError:
        remove_parts(target)
        raise
    finally:
        for empty in (folder, above):
            with contextlib.suppress(OSError):
                empty.rmdir()


def stamps_of(places: Sequence[Place]) -> list[Any]:
    """Tell files apart from those that are written to or replaced, without reading them."""
    return [[str(place.path.resolve()), place.key, *stamp(place.path.stat())] for place in places]
