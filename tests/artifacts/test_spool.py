"""Finished rows of a stopped job."""

from __future__ import annotations

import contextlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ltau_cli.artifacts.spool import open_spool
from ltau_cli.errors import OutputError

ROW = np.dtype([("x", "<f4"), ("y", "<f8", (2,))])


@given(
    blocks=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    cut=st.integers(0, 2000),
    junk=st.binary(max_size=30),
)
def test_a_spool_gives_back_what_was_finished_or_nothing(blocks, cut, junk, tmp_path_factory):
    """Whatever a crash does to the end of the file: no row is ever wrong."""
    target = tmp_path_factory.mktemp("spool") / "scores.h5"
    rows = np.zeros(sum(blocks), ROW)
    rows["x"] = np.arange(len(rows))
    rows["y"] = rows["x"][:, None] * [2, 3]
    with contextlib.suppress(OutputError), open_spool(target, {"a": 1}, ROW) as spool:
        for last in np.cumsum(blocks):
            spool.append(rows[spool.rows : last])
        raise OutputError("as on a full disk")
    path = target.with_name(".scores.h5.part")
    content = path.read_bytes()
    path.write_bytes(content[: max(0, len(content) - cut)] + (b"" if cut else junk))
    with open_spool(target, {"a": 1}, ROW) as spool:
        assert spool.rows == (0 if cut else len(rows))
        for first, block in spool.blocks(7):
            np.testing.assert_array_equal(block, rows[first : first + 7])
        spool.append(rows[-1:])
        assert spool.rows == (1 if cut else len(rows) + 1)
        *_, (_, last) = spool.blocks(3)
        np.testing.assert_array_equal(last[-1], rows[-1])
    assert not path.exists()
