"""Frames to extxyz."""

from __future__ import annotations

import io

import ase.io
import numpy as np
from ase import Atoms

from ltau_cli.writers.frames import annotate, write_frames


def make_frames():
    frames = []
    for i, symbols in enumerate(("Cu2", "AuCu2")):
        n = len(Atoms(symbols))
        frame = Atoms(symbols, positions=np.arange(3 * n).reshape(n, 3), cell=[9, 9, 9], pbc=True)
        frame.info["source"] = f"run {i}"
        frame.arrays["site"] = np.ones(n)
        frames.append(frame)
    return frames


def test_what_was_there_stays_and_the_same_name_is_replaced():
    frame = make_frames()[0]
    errors = np.array([0.25, 0.5])
    same = annotate(frame, {"error": errors, "site": errors}, {"largest": 0.5})
    assert same is frame
    assert frame.info == {"source": "run 0", "largest": 0.5}
    assert frame.arrays["site"].tolist() == [0.25, 0.5]
    errors[0] = 9  # the frame has a copy
    assert frame.arrays["error"].tolist() == [0.25, 0.5]


def test_frames_come_back():
    frames = [
        annotate(frame, {"error": np.arange(len(frame)) / 4, "known": np.ones(len(frame), bool)},
                 {"mean_error": 0.125, "n": 3, "flagged": True, "kind": "hot"})
        for frame in make_frames()
    ]  # fmt: skip
    stream = io.StringIO()
    assert write_frames(stream, iter(frames)) == 2
    stream.seek(0)
    for got, wanted in zip(ase.io.read(stream, ":", format="extxyz"), frames, strict=True):
        assert got.symbols.get_chemical_formula() == wanted.symbols.get_chemical_formula()
        np.testing.assert_allclose(got.positions, wanted.positions)
        for name in ("error", "known", "site"):
            np.testing.assert_array_equal(got.arrays[name], wanted.arrays[name])
        for name, value in wanted.info.items():
            assert got.info[name] == value
