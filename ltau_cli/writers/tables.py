"""Columns to tables: CSV, TSV, JSON lines and .npz."""

import csv
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO, TextIO

import numpy as np

from ltau_cli.array_types import Array

Columns = Mapping[str, Array]

DIGITS = 7  # of floats; float32 has no more


def write_table(
    stream: TextIO, names: Sequence[str], blocks: Iterable[Columns], *, delimiter: str = ","
) -> int:
    """Write a header and one line per row, block by block; return how many rows.

    Floats are written with seven digits, bool as 0 and 1, text as it is.
    """
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    writer.writerow(names)
    n = 0
    for block in blocks:
        columns = [_as_text(block[name]) for name in names]
        writer.writerows(zip(*columns, strict=True))
        n += len(columns[0])
    return n


def write_json_lines(stream: TextIO, names: Sequence[str], blocks: Iterable[Columns]) -> int:
    """Write one JSON object per row; see :func:`write_table`."""
    n = 0
    for block in blocks:
        columns = [_as_json(block[name]) for name in names]
        for row in zip(*columns, strict=True):
            stream.write(json.dumps(dict(zip(names, row, strict=True))) + "\n")
        n += len(columns[0])
    return n


def write_npz(
    stream: BinaryIO, n: int, columns: Iterable[tuple[str, np.dtype[Any], Iterable[Array]]]
) -> None:
    """Write columns in the layout of ``numpy.savez``, none of which has to fit into memory.

    The same ``n`` rows give the same bytes: the members carry no date. A column is a name, a dtype
    and blocks of (n_block,) arrays; the stream need not be seekable.
    """
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, dtype, blocks in columns:
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                header = {"descr": dtype.str, "fortran_order": False, "shape": (n,)}
                np.lib.format.write_array_header_1_0(member, header)
                for block in blocks:
                    member.write(np.ascontiguousarray(block, dtype).tobytes())


def _as_text(values: Array) -> list[str]:
    if values.dtype.kind == "f":
        return [f"{value:.{DIGITS}g}" for value in values.tolist()]
    if values.dtype.kind == "U":
        return list(values.tolist())
    return [str(int(value)) for value in values.tolist()]


def _as_json(values: Array) -> list[Any]:
    if values.dtype.kind == "f":
        return [float(text) for text in _as_text(values)]
    return list(values.tolist())
