"""Neighbors of the atoms of a frame: those of ASE's list."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list
from hypothesis import given
from hypothesis import strategies as st

from ltau_cli.readers.frames import neighbors_of


def counts(frame, cutoff):
    table = np.zeros((len(frame), len(frame)), dtype=int)
    np.add.at(table, neighbors_of(frame, cutoff), 1)
    return table


def wanted(frame, cutoff):
    table = np.zeros((len(frame), len(frame)), dtype=int)
    np.add.at(table, neighbor_list("ij", frame, cutoff), 1)
    return table


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 12),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    cutoff=st.floats(0.5, 9),
)
def test_they_are_those_of_ase(seed, n, pbc, cutoff):
    rng = np.random.default_rng(seed)
    cell = 4 * np.eye(3) + rng.uniform(-1.5, 1.5, (3, 3))
    frame = Atoms(["Cu"] * n, rng.uniform(-6, 9, (n, 3)), cell=cell, pbc=pbc)
    assert np.array_equal(counts(frame, cutoff), wanted(frame, cutoff))


@pytest.mark.parametrize("pbc", [False, (True, False, False)])
def test_a_cell_may_have_no_vectors_where_it_is_not_periodic(pbc):
    frame = Atoms("Cu3", [[0, 0, 0], [0, 0, 2], [2.5, 0, 0]], cell=[3, 0, 0], pbc=pbc)
    assert np.array_equal(counts(frame, 3.1), wanted(frame, 3.1))


def test_a_crystal_has_its_shells():
    copper = bulk("Cu", a=3.6)
    assert len(copper) == 1
    assert counts(copper, 2.6)[0, 0] == 12
    assert counts(copper, 3.7)[0, 0] == 18


def test_an_atom_alone_has_none():
    assert [len(side) for side in neighbors_of(Atoms("Cu"), 6.0)] == [0, 0]
