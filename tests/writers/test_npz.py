"""Columns to an .npz file."""

from __future__ import annotations

import io

import numpy as np

from ltau_cli.writers.npz import open_npz

COLUMNS = {
    "error": np.arange(7, dtype=np.float32) / 3,
    "row": np.arange(7)[::-1],
    "species": np.array(["Cu", "Au", "Cu", "Cu", "Au", "Å", ""]),
}


class Pipe(io.RawIOBase):
    """Takes bytes; cannot seek."""

    def __init__(self):
        self.taken = b""

    def writable(self):
        return True

    def write(self, data):
        self.taken += bytes(data)
        return len(data)


def write(stream, size):
    with open_npz(stream) as archive:
        for name, values in COLUMNS.items():
            blocks = (values[i : i + size] for i in range(0, len(values), size))
            archive.write(name, len(values), values.dtype, blocks)


def test_numpy_reads_the_columns_back():
    stream = io.BytesIO()
    write(stream, 3)
    stream.seek(0)
    with np.load(stream, allow_pickle=False) as loaded:
        assert loaded.files == list(COLUMNS)
        for name, values in COLUMNS.items():
            assert loaded[name].dtype == values.dtype
            np.testing.assert_array_equal(loaded[name], values)


def test_blocks_do_not_change_the_bytes():
    one, other = io.BytesIO(), io.BytesIO()
    write(one, 2)
    write(other, 7)
    assert one.getvalue() == other.getvalue()


def test_a_stream_that_cannot_seek():
    pipe = Pipe()
    write(pipe, 4)
    with np.load(io.BytesIO(pipe.taken), allow_pickle=False) as loaded:
        np.testing.assert_array_equal(loaded["row"], COLUMNS["row"])
