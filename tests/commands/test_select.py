"""``ltau select``: frames to label next."""

import json

import ase.io
import h5py
import numpy as np
import pytest

from tests.helpers import ARTIFACT, COMPUTE, INPUT, SAMPLE, USAGE, check, names

FRAMES = SAMPLE / "test_300K.xyz"
N_FRAMES, NATOMS = 25, 55


@pytest.fixture
def largest(pipeline):
    """Largest expected error of each frame."""
    with h5py.File(pipeline.scores) as file:
        return file["expected_error"][...].reshape(N_FRAMES, NATOMS).max(axis=1).astype(float)


@pytest.fixture
def select(pipeline, ltau, tmp_path):
    """Run ``ltau select`` on the scores; the chosen frames are in ``chosen.txt``."""
    return lambda *words: ltau("select", pipeline.scores, "-o", tmp_path / "chosen.txt", *words)


@pytest.fixture
def chosen(tmp_path):
    """Read what was chosen."""
    return lambda: np.loadtxt(tmp_path / "chosen.txt", dtype=int, ndmin=1).tolist()


def test_the_most_uncertain_frames(select, chosen, largest):
    result = select("-n", 4)
    assert result.code == 0, result.err
    assert chosen() == np.argsort(-largest, kind="stable")[:4].tolist()
    assert "chosen.txt: 4 of 25 frames" in result.out
    uncertain = f"its largest expected_error, {largest.min():.3g} to {largest.max():.3g} eV/Å"
    assert uncertain in result.out
    assert "trust bounds" not in result.out
    assert "the largest were taken" in result.out


@pytest.mark.parametrize("by", ["mean", "0.9"])
def test_other_statistics_and_columns(by, pipeline, select, chosen):
    assert select("-n", 3, "--by", by, "--column", "relative_distance").code == 0
    with h5py.File(pipeline.scores) as file:
        values = file["relative_distance"][...].reshape(N_FRAMES, NATOMS).astype(float)
    of = values.mean(axis=1) if by == "mean" else np.sort(values, axis=1)[:, 49]  # 50th of 55
    assert chosen() == np.argsort(-of, kind="stable")[:3].tolist()


def test_calibrated_errors_come_first(pipeline, ltau, tmp_path):
    out = tmp_path / "c.txt"
    result = ltau("select", pipeline.calibrated, "-n", 1, "-o", out, "--json")
    assert json.loads(result.out)["column"] == "calibrated_error"


def test_trust_bounds(select, chosen, largest):
    low, high = np.sort(largest)[[5, 15]].tolist()
    result = select("-n", 25, "--trust-low", repr(low), "--trust-high", repr(high))
    assert "10 frames within the trust bounds" in result.out
    assert "warning: only 10 frames are within the trust bounds" in result.err
    order = np.argsort(-largest, kind="stable").tolist()
    assert chosen() == [i for i in order if low <= largest[i] < high]


def test_more_than_there_are(select, chosen):
    result = select("-n", N_FRAMES + 1)
    assert f"warning: only {N_FRAMES} frames are there\n" in result.err
    assert len(chosen()) == N_FRAMES


def test_near_copies_are_not_chosen(pipeline, ltau, tmp_path):
    """A pool where the most uncertain frame is there 30 times, a little shaken."""
    rows = np.load(pipeline.descriptors).reshape(N_FRAMES, NATOMS, -1)
    words = ("-m", pipeline.model, "--natoms", tmp_path / "natoms.npy")
    rng = np.random.default_rng(0)
    copies = rows[6] + rng.normal(scale=1e-5, size=(30, *rows[6].shape))
    pool = np.concatenate([rows, copies]).reshape(-1, rows.shape[-1]).astype(np.float32)
    np.save(tmp_path / "pool.npy", pool)
    np.save(tmp_path / "natoms.npy", np.full(N_FRAMES + 30, NATOMS))
    ltau.ok("score", tmp_path / "pool.npy", *words, "-o", tmp_path / "s.h5")
    out = tmp_path / "c.txt"
    words = ("select", tmp_path / "s.h5", "-n", 10, "-o", out, "-f")
    ltau.ok(*words)
    same = {6, *range(N_FRAMES, N_FRAMES + 30)}
    assert same.issuperset(np.loadtxt(out, dtype=int))
    result = ltau(*words, "--descriptors", tmp_path / "pool.npy", "--json")
    table = json.loads(result.out)
    frames = [row["frame"] for row in table["chosen"]]
    assert frames == np.loadtxt(out, dtype=int).tolist()
    assert len(same.intersection(frames)) == 1
    assert table["mean_distance"] > table["random_distance"]
    first = max(table["chosen"], key=lambda row: row["value"])
    assert first == table["chosen"][0]


def test_chosen_frames_are_copied_in_the_order_of_choice(select, chosen, pipeline, tmp_path):
    out = tmp_path / "chosen.xyz"
    words = ("--descriptors", pipeline.descriptors, "--frames", FRAMES, "--write", out)
    result = select("-n", 5, *words)
    assert result.code == 0, result.err
    assert "mean distance between the chosen" in result.out
    own = ase.io.read(FRAMES, ":")
    for i, frame in zip(chosen(), ase.io.read(out, ":"), strict=True):
        assert frame.info["ltau_frame"] == i
        np.testing.assert_allclose(frame.positions, own[i].positions, atol=1e-8)
        np.testing.assert_allclose(
            frame.arrays["REF_forces"], own[i].arrays["REF_forces"], atol=1e-8
        )
        assert own[i].info.items() <= frame.info.items()


def test_frames_tell_the_atoms_that_the_scores_do_not(pipeline, ltau, largest, tmp_path):
    scores, out = tmp_path / "s.h5", tmp_path / "c.txt"
    ltau.ok("score", pipeline.descriptors, "-m", pipeline.model, "-o", scores)
    result = ltau("select", scores, "-n", 3, "-o", out)
    assert "3 of 1,375 rows" in result.out
    assert "rows are chosen" in result.out
    result = ltau("select", scores, "-n", 3, "-o", "-", "--frames", FRAMES)
    assert [int(line) for line in result.out.split()] == np.argsort(-largest)[:3].tolist()
    assert "standard output: 3 of 25 frames" in result.err
    assert "rows are chosen" not in result.err


@pytest.mark.parametrize(("words", "said", "hint"), [
    (("-n", "0"), "-n", True),
    ((), "-n", True),
    (("-n", "3", "--by", "min"), "neither max, mean nor a quantile", True),
    (("-n", "3", "--by", "1.5"), "neither max, mean nor a quantile", True),
    (("-n", "3", "--column", "error"), "no column error", True),
    (("-n", "3", "--write", "a.xyz"), "--write needs the frames", True),
    (("-n", "3", "--frames", FRAMES, "--write", "-"), "--write needs the name", True),
    (("-n", "3", "--trust-low", "2", "--trust-high", "1"), "not below --trust-high 1", False),
])  # fmt: skip
def test_options_that_cannot_be_meant(words, said, hint, select, tmp_path):
    check(select(*words), USAGE, said, hint=hint)
    assert names(tmp_path) == []


def test_two_results_want_one_place(pipeline, ltau, tmp_path):
    words = ("select", pipeline.scores, "-n", 3, "--frames", FRAMES)
    out = tmp_path / "a.xyz"
    check(ltau(*words, "-o", out, "--write", out), USAGE, "-o and --write", out, hint=False)
    check(ltau(*words, "-o", "-", "--json"), USAGE, "standard output")


def test_no_frame_within_the_bounds(select, largest, tmp_path):
    result = select("-n", 3, "--trust-low", 1000)
    check(result, COMPUTE, "no frame", f"{largest.min():.3g} to {largest.max():.3g}")
    assert names(tmp_path) == []


def test_inputs_that_do_not_match(select, pipeline, ltau, tmp_path):
    hot = SAMPLE / "train_descriptors.npy"
    check(select("-n", 3, "--descriptors", hot), INPUT, hot, "3,960 rows", "1,375")
    train = SAMPLE / "train.xyz"
    words = ("--frames", train, "--write", tmp_path / "a.xyz")
    check(select("-n", 3, *words), INPUT, train, "72 frames", "25 structures")
    check(ltau("select", pipeline.model, "-n", 3), ARTIFACT, "of kind model")
    assert names(tmp_path) == []


def test_scores_without_a_calibration_are_warned_about(pipeline, tmp_path, ltau):
    words = ("select", "-n", 2, "-o", tmp_path / "c.txt", "-f")
    said = f"{pipeline.scores} is not calibrated: what is far from the training set may look"
    assert said in ltau(*words, pipeline.scores).err
    assert ltau(*words, pipeline.scores, "--column", "relative_distance").err == ""
