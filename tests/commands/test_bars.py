"""``ltau bars``: a network that others trained, and labeled frames."""

import shutil

import ase.io
import numpy as np
import pytest

from ltau_cli.readers.frames import label_atoms
from ltau_cli.readers.place import Place
from ltau_cli.stages.bars import _folds, _kinds
from tests.helpers import COMPUTE, INPUT, OUTPUT, SAMPLE, check, contents, names

NETWORK = ("--network", "python:own_model.py:describe")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The bars of the sample data by the network of the docs, whose errors are EMT's own."""
    folder = tmp_path_factory.mktemp("bars")
    shutil.copy(SAMPLE.parent / "docs" / "own_model.py", folder)
    labels = "\n".join(str(i // 6) for i in range(72))
    (folder / "draws.txt").write_text(labels)
    return folder


@pytest.fixture
def bars(made, ltau, monkeypatch):
    monkeypatch.chdir(made)
    if not (made / "bars").exists():
        ltau.ok("bars", SAMPLE / "train.xyz", *NETWORK, "--draws", "draws.txt",
                "--test", SAMPLE / "test_300K.xyz")  # fmt: skip
    return made / "bars"


def test_it_ends_in_files_that_the_other_commands_take(bars, ltau, tmp_path):
    assert names(bars) == [
        "calibration.h5", "draws.npy", "errors.h5", "kinds.h5", "labeled.h5", "model.h5",
        "scores.h5", "test_300K.h5", "test_300K_scores.h5", "verdict.txt",
    ]  # fmt: skip
    verdict = (bars / "verdict.txt").read_text().splitlines()
    assert [line.partition(":")[0] for line in verdict] == ["labeled", "test_300K"]
    done = ltau.ok("evaluate", bars / "test_300K_scores.h5", bars / "test_300K.h5")
    assert "ltau" in done.out
    ltau.ok("score", bars / "test_300K.h5", "-m", bars / "model.h5", "--calibration",
            bars / "calibration.h5", "-o", tmp_path / "s.h5")  # fmt: skip
    again, before = contents(tmp_path / "s.h5"), contents(bars / "test_300K_scores.h5")
    np.testing.assert_array_equal(again["error_bound"], before["error_bound"])


def test_every_labeled_frame_is_scored_by_the_others(bars, ltau, tmp_path):
    """No row is near itself: the numbers are those of a model without its draw."""
    scores, train = contents(bars / "scores.h5"), contents(bars / "labeled.h5")
    assert not scores["in_training"].any()
    draws = np.load(bars / "draws.npy")
    fold = next(_folds(draws))
    own = np.isin(train["structure"], np.flatnonzero(fold))
    errors = np.linalg.norm(train["forces"] - train["reference_forces"], axis=1)
    known = contents(bars / "model.h5")
    x = (train["descriptors"] - known["descriptor_shift"]) @ known.get(
        "descriptor_transform", np.eye(train["descriptors"].shape[1])
    )
    row = int(np.flatnonzero(own)[5])
    # By hand in the space of the whole model, which differs in scaling from that of the others.
    apart = np.linalg.norm(x[~own] - x[row], axis=1)
    near = errors[~own][np.argsort(apart)[:30]].mean()
    assert scores["expected_error"][row] == pytest.approx(near, rel=0.25)


def test_a_second_call_replaces_nothing_and_a_killed_one_goes_on(bars, ltau):
    words = ("bars", SAMPLE / "train.xyz", *NETWORK, "--draws", "draws.txt")
    check(ltau(*words), OUTPUT, "bars holds the bars of an earlier call")
    when = (bars / "labeled.h5").stat().st_mtime_ns
    (bars / "verdict.txt").unlink()
    ltau.ok(*words, "--test", SAMPLE / "test_300K.xyz")
    assert (bars / "labeled.h5").stat().st_mtime_ns == when


def test_what_cannot_be_judged_is_said(made, ltau, tmp_path, monkeypatch):
    monkeypatch.chdir(made)
    frames = ase.io.read(SAMPLE / "train.xyz", ":6")
    for frame in frames:
        frame.info.pop("REF_energy")
        frame.arrays.pop("REF_forces")
    ase.io.write(tmp_path / "bare.xyz", frames)
    check(ltau("bars", tmp_path / "bare.xyz", *NETWORK, "-o", tmp_path / "a"), INPUT,
          "bare.xyz has no reference forces")  # fmt: skip
    (tmp_path / "one.txt").write_text("a\n" * 72)
    check(ltau("bars", SAMPLE / "train.xyz", *NETWORK, "--draws", tmp_path / "one.txt", "-o",
               tmp_path / "b"), COMPUTE, "were drawn together")  # fmt: skip
    (tmp_path / "few.txt").write_text("a\nb\n")
    done = ltau("bars", SAMPLE / "train.xyz", *NETWORK, "--draws", tmp_path / "few.txt",
                "-o", tmp_path / "c")  # fmt: skip
    check(done, INPUT, "few.txt has 2 labels, there are 72 frames", hint=False)


def test_elements_that_were_never_calibrated_on_are_named(bars, ltau, tmp_path):
    frames = ase.io.read(SAMPLE / "test_300K.xyz", ":2")
    for frame in frames:
        frame.symbols[3] = "Ni"
        frame.arrays = {name: frame.arrays[name] for name in ("numbers", "positions")}
        frame.info.clear()
    ase.io.write(tmp_path / "new.xyz", frames)
    ltau.ok("describe", tmp_path / "new.xyz", *NETWORK, "-o", tmp_path / "new.h5")
    done = ltau.ok("score", tmp_path / "new.h5", "-m", bars / "model.h5", "--calibration",
                   bars / "calibration.h5", "-o", tmp_path / "s.h5")  # fmt: skip
    assert "never calibrated on: Ni; their bounds are nominal" in done.err
    assert "nominal 90 %" in done.out


@pytest.mark.parametrize(("kinds", "species", "n"), [
    (["a", "a", "b", "b"], ["H", "H", "H", "H"], 2),  # config_type
    ([""] * 4, ["H", "H", "O", "O"], 2),  # composition
    ([""] * 4, ["H"] * 4, 0),  # too few to cluster
    (["a"] * 9 + ["b"], ["H"] * 10, 0),  # what is left says nothing of the other
])  # fmt: skip
def test_kinds_of_frames(kinds, species, n):
    labels = label_atoms(
        [([s], k, (i, i)) for i, (s, k) in enumerate(zip(species, kinds, strict=True))]
    )
    found = _kinds(labels, Place("none.h5"), np.ones(len(kinds), dtype=np.int64))
    assert (0 if found is None else len(np.unique(found))) == n
