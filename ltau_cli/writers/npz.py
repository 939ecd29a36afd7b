"""Columns to an .npz file, one after the other, so that no column has to fit into memory."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt


class NpzWriter:
    """Writes columns into an open archive; see :func:`open_npz`."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def write(
        self, name: str, n: int, dtype: np.dtype[Any], blocks: Iterable[npt.NDArray[Any]]
    ) -> None:
        """Write a column (n,) of ``dtype`` that comes in ``blocks``."""
        with self._archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
            header = {"descr": dtype.str, "fortran_order": False, "shape": (n,)}
            np.lib.format.write_array_header_1_0(member, header)
            for block in blocks:
                member.write(np.ascontiguousarray(block, dtype).tobytes())


@contextlib.contextmanager
def open_npz(stream: BinaryIO) -> Iterator[NpzWriter]:
    """Open an .npz file for writing, in the layout of ``numpy.savez``.

    The same columns give the same bytes: the members carry no date.

    Parameters
    ----------
    stream : binary file
        Open for writing; need not be seekable. The file is whole when the block ends.
    """
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        yield NpzWriter(archive)
