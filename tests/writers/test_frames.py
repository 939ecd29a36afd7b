"""Frames to extxyz."""

import io

import ase.io
import numpy as np
from ase import Atoms

from ltau_cli.writers.frames import annotate, property_name, write_frames


def make_frames():
    frames = []
    for i, symbols in enumerate(("Cu2", "AuCu2")):
        n = len(Atoms(symbols))
        frame = Atoms(symbols, positions=np.arange(3 * n).reshape(n, 3), cell=[9, 9, 9], pbc=True)
        frame.info["source"] = f"run {i}"
        frame.arrays |= {"site": np.ones(n), "ltau_site": np.ones(n)}
        frames.append(frame)
    return frames


def test_what_was_there_stays_and_the_same_name_is_replaced():
    frame = make_frames()[0]
    errors = np.array([0.25, 0.5])
    same = annotate(frame, {"error": errors, "site": errors}, {"largest": 0.5})
    assert same is frame
    assert frame.info == {"source": "run 0", "ltau_largest": 0.5}
    assert frame.arrays["ltau_site"].tolist() == [0.25, 0.5]
    assert frame.arrays["site"].tolist() == [1, 1]
    errors[0] = 9  # the frame has a copy
    assert frame.arrays["ltau_error"].tolist() == [0.25, 0.5]


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
        for name in ("ltau_error", "ltau_known", "site"):
            np.testing.assert_array_equal(got.arrays[name], wanted.arrays[name])
        for name, value in wanted.info.items():
            assert got.info[name] == value


def test_names_of_properties():
    assert property_name("quantile_0.95") == "ltau_quantile_95"
    assert property_name("error_bound_0.999") == "ltau_error_bound_99_9"
    assert property_name("error_bound_90") == "ltau_error_bound_90"
    assert property_name("uncertainty_1e-05") == "ltau_uncertainty_1e_05"


def test_numbers_have_the_digits_of_float32():
    frame = annotate(make_frames()[0], {}, {"mean": np.float32(0.1), "n": np.int64(3)})
    assert (frame.info["ltau_mean"], frame.info["ltau_n"]) == (0.1, 3)
