"""Shards of scored rows."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ltau_cli.artifacts.scores import cut


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.data())
def test_a_shard_never_cuts_a_structure(sizes, data):
    structure = np.repeat(np.arange(len(sizes)), sizes)
    count = data.draw(st.integers(1, len(sizes)))
    parts = [cut(i, count, len(structure), structure) for i in range(count)]
    assert parts[0].first == 0
    assert parts[-1].last == len(structure)
    for part, following in itertools.pairwise(parts):
        assert part.last == following.first
        assert structure[part.last - 1] != structure[part.last]
    assert all(part.n > 0 for part in parts)


def test_rows_without_structures_are_cut_evenly():
    assert [cut(i, 3, 10, None).n for i in range(3)] == [3, 3, 4]
    interleaved = np.array([0, 1] * 5)
    assert [cut(i, 3, 10, interleaved).n for i in range(3)] == [3, 3, 4]
