"""Totals of structures."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ltau_cli.core.structures import StructureTotals


@given(st.integers(1, 7))
def test_structure_totals_do_not_depend_on_the_blocks(block):
    rng = np.random.default_rng(0)
    structure, values = rng.integers(0, 4, 40), rng.random(40)
    whole = StructureTotals(4)
    whole.add(structure, values)
    parts = StructureTotals(4)
    for start in range(0, 40, block):
        parts.add(structure[start : start + block], values[start : start + block])
    for name in ("total", "largest"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    np.testing.assert_allclose(whole.total[2], values[structure == 2].sum())
