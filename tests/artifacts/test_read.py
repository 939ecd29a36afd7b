"""Artifacts that are damaged, of another kind or version: one clear line."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.helpers import ARTIFACT, INPUT, check

DATA = Path(__file__).parents[1] / "data"


def test_artifact_of_the_wrong_kind(small, tmp_path, ltau):
    result = ltau("fit", small["model"], small["x"], "-o", tmp_path / "o.h5")
    check(result, ARTIFACT, small["model"], "kind model", "an errors artifact")


def edited(path, tmp_path, edit):
    copy = tmp_path / "edited.h5"
    shutil.copy(path, copy)
    with h5py.File(copy, "r+") as file:
        edit(file)
    return copy


def test_newer_version_says_upgrade(small, tmp_path, ltau):
    path = edited(small["model"], tmp_path, lambda f: f.attrs.modify("format_version", 99))
    result = ltau("score", small["x"], "-m", path, "-o", tmp_path / "o.h5")
    check(result, ARTIFACT, path, "version 99")
    assert "upgrade ltau" in result.err
    path = edited(small["model"], tmp_path, lambda f: f.attrs.modify("kind", "atlas"))
    check(ltau("info", path), ARTIFACT, path, "unknown kind")


def test_plain_hdf5_and_other_files(small, tmp_path, ltau):
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["x"] = [1.0]
    check(ltau("info", tmp_path / "plain.h5"), ARTIFACT, "no artifact of ltau", hint=False)
    result = ltau("score", small["x"], "-m", tmp_path / "plain.h5", "-o", tmp_path / "o.h5")
    check(result, ARTIFACT, "no artifact of ltau")
    check(ltau("info", small["x"]), ARTIFACT, "not an HDF5 file")
    check(ltau("info", tmp_path), ARTIFACT, "folder", hint=False)
    check(ltau("info", tmp_path / "none.h5"), INPUT, "no such file", hint=False)
    result = ltau("score", small["x"], "-m", tmp_path / "none.h5", "-o", tmp_path / "o.h5")
    check(result, INPUT, "none.h5: no such file")
    assert "ltau fit" in result.err


def replace(name, values, **options):
    def edit(file):
        del file[name]
        if options:
            file.create_dataset(name, data=values, **options)
        else:
            file[name] = values

    return edit


def test_pairs_are_pairs(tmp_path, ltau):
    def edit(file):
        replace("fingerprint", file["fingerprint"][:, :1])(file)

    path = edited(DATA / "described-1.h5", tmp_path, edit)
    check(ltau("info", path), ARTIFACT, path, "size 1 along two, not 2")


@pytest.mark.parametrize(("edit", "words"), [
    (lambda f: f.pop("counts"), "counts is missing"),
    (replace("loo_distance", np.ones(20)), "loo_distance has dtype float64"),
    (replace("loo_distance", np.ones((20, 1), "f4")), "2 dimensions"),
    (replace("loo_distance", np.ones(19, "f4")), "size 19"),
    (replace("bin_edges", np.ones(7)), "n_bins"),
    (replace("mean_error", np.full(20, np.nan, "f4")), "20 values that are not finite"),
    (replace("counts", h5py.ExternalLink("/etc/passwd", "x")), "not followed"),
    (replace("counts", h5py.SoftLink("/point")), "not followed"),
    (replace("mean_error", None, shape=20, dtype="f4", external=[("/etc/passwd", 0, 80)]),
     "another file"),
    (lambda f: f.attrs.modify("parameters", "{"), "parameters"),
    *((lambda f, v=v: f.attrs.modify("format_version", v), "format_version") for v in (0, -1)),
    (lambda f: f.attrs.pop("format_version"), "format_version"),
    (replace("mean_error", None, shape=(1 << 40,), dtype="f4", chunks=(1024,), compression="gzip"),
     "are stored"),
    (lambda f: (f.pop("counts"), f.create_group("counts")), "not a dataset"),
])  # fmt: skip
def test_damaged_artifacts(edit, words, small, tmp_path, ltau):
    path = edited(small["model"], tmp_path, edit)
    result = ltau("score", small["x"], "-m", path, "-o", tmp_path / "o.h5")
    check(result, ARTIFACT, path, words)


def test_artifact_that_is_cut_short(small, tmp_path, ltau):
    path = tmp_path / "cut.h5"
    path.write_bytes(small["model"].read_bytes()[:3000])
    check(ltau("score", small["x"], "-m", path, "-o", tmp_path / "o.h5"), ARTIFACT, path)
