"""The rules of the schema, and how the values of a file are stored."""

import h5py
import numpy as np
import pytest

from ltau_cli.artifacts.rules import (
    Above,
    Growing,
    Number,
    Offsets,
    Permutation,
    SomeInEachRow,
    Tree,
    Within,
    numbered,
)
from tests.helpers import contents, same

SIZES = {"n": 4, "n_nodes": 5}
GOOD_TREE = [[1, 2], [3, 4], [0, -1], [-1, -3], [-3, -4]]


@pytest.mark.parametrize(("rule", "good", "bad"), [
    (Within(0), [0, 2.5, np.nan], [1, -1e-9]),
    (Within(0, 1), [0, 1, 0.5], [1.0000001]),
    (Within(1, "n"), [1, 4], [5]),
    (Above(0), [1e-300], [0]),
    (Number("n"), [0, 3], [4]),
    (Number("n"), [0], [-1]),
    (Number("n", none=True), [-1, 3], [-2]),
    (Growing(), [1, 2, 3], [1, 1, 2]),
    (Growing(), ["Cu", "O"], ["O", "Cu"]),
    (Growing(strictly=False), [[1, 1], [0, 5]], [[1, 2], [2, 1]]),
    (Offsets("n"), [0, 0, 4], [0, 2, 3]),
    (Offsets("n"), [0, 4], [1, 4]),
    (Offsets("n", strictly=True), [0, 1, 4], [0, 0, 4]),
    (Permutation("n"), [3, 0, 2, 1], [3, 0, 2, 2]),
    (Permutation("n"), [0, 1, 2, 3], [0, 1, 2]),
    (SomeInEachRow(), [[0, 1], [2, 0]], [[0, 1], [0, 0]]),
    (Tree("n"), GOOD_TREE, [[1, 2], [1, 4], *GOOD_TREE[2:]]),
    (Tree("n"), [[0, -4]], [[0, -5]]),
    (Tree("n"), GOOD_TREE, [[1, 2], [3, 3], *GOOD_TREE[2:]]),
    (Tree("n"), GOOD_TREE, [[1, 2], [3, 5], *GOOD_TREE[2:]]),
    (Tree("n"), GOOD_TREE, [[1, 2], [3, 4], [0, -1], [-3, -1], [-3, -4]]),
])  # fmt: skip
def test_rules_hold_of_good_values_only(rule, good, bad):
    assert rule.holds(np.array(good), SIZES)
    assert not rule.holds(np.array(bad), SIZES)
    assert str(rule)


def test_rules_of_a_numbered_dataset():
    assert numbered(Offsets("n_points_*", strictly=True), 3) == Offsets("n_points_3", strictly=True)
    assert numbered(Within(0, 1), 3) == Within(0, 1)


def repacked(path, copy, **options):
    """Copy an artifact with its datasets stored in another way."""
    with h5py.File(path) as old, h5py.File(copy, "w") as new:
        new.attrs.update(old.attrs)

        def put(name, item):
            if isinstance(item, h5py.Dataset):
                new.create_dataset(name, data=item[...], **options).attrs.update(item.attrs)

        old.visititems(put)
    return copy


@pytest.mark.parametrize("options", [{}, {"chunks": True, "compression": "gzip", "shuffle": True}])
def test_how_values_are_stored_makes_no_difference(options, small, tmp_path, ltau):
    errors, model = (
        repacked(small[name], tmp_path / f"{name}_copy.h5", **options)
        for name in ("errors", "model")
    )
    for one, other in ((small["errors"], errors), (small["model"], model)):
        name = "fit" if one == small["errors"] else "score"
        outs = tmp_path / "one.h5", tmp_path / "other.h5"
        for path, out in zip((one, other), outs, strict=True):
            words = (path, small["x"]) if name == "fit" else (small["x"], "-m", path)
            ltau.ok(name, *words, "-o", out, "-f")
        got, wanted = map(contents, outs)
        assert got.keys() == wanted.keys()
        for key in got:
            same(got[key], wanted[key])
