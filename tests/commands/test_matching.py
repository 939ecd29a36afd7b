"""What two files know of the same rows is matched, or compared, in every command."""

import json

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms

from ltau_cli.matching import fingerprint, next_structure
from ltau_cli.packages import hooks
from ltau_cli.packages.frame_log import FrameFile, FrameLog
from tests.helpers import INPUT, check, contents, save, write_long

NETWORK = """
import numpy as np

def describe(frames):
    away = np.concatenate([f.positions - f.positions.mean(axis=0) for f in frames])
    z = np.concatenate([f.numbers for f in frames])
    return {"descriptors": np.c_[away, z], "forces": 0.9 * REFERENCE(frames) + SHIFT}
"""
REFERENCE = "(lambda frames: np.concatenate([f.arrays['REF_forces'] for f in frames]))"


def network(path, shift="0"):
    """Write a network whose errors are a tenth of the reference forces, without ``shift``."""
    path.write_text(NETWORK.replace("REFERENCE", REFERENCE).replace("SHIFT", shift))
    return f"python:{path}:describe"


def make_frames(n=30, seed=0):
    """Frames of two to five atoms, of two species."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        natoms = int(rng.integers(2, 6))
        frame = Atoms(rng.choice(["C", "H"], natoms), rng.normal(0, 3, (natoms, 3)))
        frame.arrays["REF_forces"] = rng.normal(0, rng.gamma(2, 1, (natoms, 1)), (natoms, 3))
        frames.append(frame)
    return frames


def write_frames(path, frames):
    ase.io.write(path, frames, format="extxyz", columns=["symbols", "positions", "REF_forces"])
    return path


def record(folder, frames, monkeypatch, n_epochs=4):
    """Let a trainer of single precision record its errors, which shrink to those of `network`."""
    monkeypatch.setattr(hooks, "folder", str(folder))
    file = FrameFile("train")
    for frame in frames:
        file.add(frame.numbers, frame.positions.astype(np.float32))
    log = FrameLog("a trainer", [file], range(len(frames)), energies=False)
    size = np.linalg.norm(np.concatenate([f.arrays["REF_forces"] for f in frames]), axis=1)
    for epoch in range(n_epochs):
        log.record(np.arange(len(frames)), (0.1 + 0.5 / (epoch + 1)) * size, None)
        log.end_epoch()
    return folder


@pytest.fixture
def trained(tmp_path, ltau, monkeypatch):
    """Recorded and described frames; the describer reads them in the order that is asked for."""
    frames = make_frames()
    ltau.ok("ingest", record(tmp_path / "logs", frames, monkeypatch), "-o", "e.h5")

    def describe(name, order, **more):
        path = write_frames(tmp_path / f"{name}.xyz", [frames[i] for i in order])
        named = network(tmp_path / f"{more.get('shift', 'n')}.py".replace("*", ""), **more)
        ltau.ok("describe", path, "--network", named, "-o", f"{name}.h5")
        return f"{name}.h5"

    return frames, describe


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def model_of(path):
    """What a model says of each sample, whatever the order of the points."""
    with h5py.File(path) as file:
        found = {name: file[name][...] for name in ("loo_distance", "loo_expected_error", "point")}
        found["descriptors"] = file["descriptors"][...][found["point"]]
    return found


@pytest.mark.parametrize("words", [(), ("--shards", 2), ("--shards", 2, "--workers", 1)])
def test_fit_finds_recorded_frames_in_any_order(words, trained, ltau, tmp_path):
    frames, describe = trained
    order = np.random.default_rng(1).permutation(len(frames))
    for name, own in (("same", range(len(frames))), ("shuffled", order)):
        done = ltau.ok("fit", "e.h5", describe(name, own), "-k", 5, "-o", f"m_{name}.h5", *words,
                       "--scale", "none", "--json", "-q")  # fmt: skip
        assert done.err == ""
        assert json.loads(done.out)["network_rank_correlation"] == pytest.approx(1)
    wanted, got = model_of("m_same.h5"), model_of("m_shuffled.h5")
    for name in wanted:
        np.testing.assert_allclose(got[name], wanted[name], rtol=1e-5, err_msg=name)


def test_some_of_the_frames(trained, ltau):
    frames, describe = trained
    told = ltau.ok(
        "fit", "e.h5", describe("all", range(len(frames))), "-k", 5, "-o", "m_all.h5"
    ).out
    assert "errors of the last epoch and the network's own: rank correlation 1\n" in told
    some = [7, 3, 20, 21, 22, 25, 1, 9]
    done = ltau.ok("fit", "e.h5", describe("some", some), "-k", 5, "-o", "m.h5", "--json")
    n = sum(len(frames[i]) for i in some)
    assert json.loads(done.out)["n_samples"] == n
    assert "left out 22 frames, the first is frame 0, which some.h5" in done.err
    frames += make_frames(3, seed=5)
    describe("more", range(33))
    done = ltau.ok("fit", "e.h5", "more.h5", "-k", 5, "-o", "m.h5", "-f")
    assert "left out 3 frames, the first is frame 30, which e.h5 does not have" in done.err


def test_other_frames_are_refused(trained, ltau):
    frames, describe = trained
    frames[4].positions[0, 0] += 0.01
    result = ltau("fit", "e.h5", describe("moved", range(30)), "-o", "m.h5")
    check(result, INPUT, "moved.h5", "e.h5", "1 frames, the first is frame 4")
    result = ltau("fit", "e.h5", "moved.h5:descriptors", "-o", "m.h5")  # as the user will have it
    assert result.code == 0, result.err


def test_frames_that_are_there_twice(tmp_path, ltau, monkeypatch):
    frames = make_frames(20)
    frames += [frames[3].copy(), frames[3].copy()]
    ltau.ok("ingest", record(tmp_path / "logs", frames, monkeypatch), "-o", "e.h5")
    path, named = write_frames(tmp_path / "r.xyz", frames[::-1]), network(tmp_path / "n.py")
    ltau.ok("describe", path, "--network", named, "-o", "r.h5")
    done = ltau("fit", "e.h5", "r.h5", "-k", 5, "-o", "m.h5")
    assert (done.code, done.err) == (0, "")


def test_a_fingerprint_survives_text_and_single_precision():
    rng = np.random.default_rng(0)
    for _ in range(500):
        species, positions = ["Si"] * 64, rng.uniform(-40, 40, (64, 3))
        known = fingerprint(species, positions.astype(np.float32))
        text = np.array([[float(f"{x:.8f}") for x in row] for row in positions])
        assert any(np.equal(known, fingerprint(species, text)))
        moved = positions + np.array([0.002, 0, 0])
        assert not any(np.equal(known, fingerprint(species, moved)))
        assert not any(np.equal(known, fingerprint(["C", *species[1:]], positions)))


@pytest.mark.parametrize("start", [0, 1, 1000])
@pytest.mark.parametrize("stated", ["both", "as text", "descriptors"])
def test_fit_matches_ids(start, stated, tmp_path, ltau):
    rng = np.random.default_rng(0)
    log, x, order = rng.random((4, 40)), rng.random((40, 3)), rng.permutation(40)
    if stated != "descriptors":
        rows = [(e, i + start, log[e, i]) for e in range(4) for i in order.tolist()]
        path = write_long(tmp_path / "log.csv", rows)
    else:
        path, start = save(tmp_path / "log.npy", log), min(start, 1)
    ids = order + start
    ids = np.array([f"{number:06}" for number in ids]) if stated == "as text" else ids
    np.savez("shuffled.npz", descriptors=x[order], sample_id=ids)
    save(tmp_path / "x.npy", x)
    ltau.ok("ingest", path, "-o", "e.h5")
    for name in ("x.npy", "shuffled.npz"):
        done = ltau("fit", "e.h5", name, "-k", 5, "-o", f"{name}.h5")
        assert (done.code, done.err) == (0, "")
    wanted, got = model_of("x.npy.h5"), model_of("shuffled.npz.h5")
    for name in wanted:
        np.testing.assert_allclose(got[name], wanted[name], rtol=1e-5, err_msg=name)


def test_names_beside_other_numbers_are_refused(tmp_path, ltau):
    rng = np.random.default_rng(0)
    rows = [(e, i + 1, rng.random()) for e in range(3) for i in range(8)]
    ltau.ok("ingest", write_long(tmp_path / "log.csv", rows), "-o", "e.h5")
    np.savez("x.npz", descriptors=rng.random((8, 2)), sample_id=[f"mol-{i}" for i in range(8)])
    check(ltau("fit", "e.h5", "x.npz", "-k", 2, "-o", "m.h5"), INPUT, "in two ways", "1, and mol-0")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"sample_id": [0, 1, 2, 3, 3, 5, 6, 7]}, ["sample_id 3 is there more than once"]),
        ({"sample_id": [0, 1, 2, 3, 9, 5, 6, 7]}, ["1 rows, the first is sample_id 4"]),
        ({"species": list("CCHHHHHC")}, ["species", "1 of 8, the first is row 0 (C, and H)"]),
        ({"natoms": [4, 4]}, ["structure", "1 of 8, the first is row 3 (0, and 1)"]),
        ({"structure": list("aabbbbbb")}, ["structure", "1 of 8, the first is row 2"]),
        ({"group": [0, 1, 1, 1, 1, 1, 1, 1]}, ["group", "1 of 8, the first is row 0"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(labels, said, tmp_path, ltau):
    rng = np.random.default_rng(0)
    rows = [(e, i, rng.random()) for e in range(3) for i in range(8)]
    log = write_long(tmp_path / "log.csv", rows)
    np.savez("known.npz", natoms=[3, 5], group=np.ones(8, int))
    words = ("--natoms", "known.npz", "--group", "known.npz")
    ltau.ok("ingest", log, "-o", "e.h5", *words)
    with h5py.File("e.h5", "r+") as file:
        file["species"] = np.array(list("HCHHHHHC"), "S1")
    np.savez("x.npz", descriptors=rng.random((8, 2)), **labels)
    check(ltau("fit", "e.h5", "x.npz", "-k", 2, "-o", "m.h5"), INPUT, "x.npz", *said)


def test_labels_that_name_the_same_otherwise(tmp_path, ltau):
    rng = np.random.default_rng(0)
    np.savez("log.npz", a=rng.random((3, 8)))
    np.savez("known.npz", group=[1, 6, 1, 1, 6, 6, 1, 6])
    ltau.ok("ingest", "log.npz", "-o", "e.h5", "--group", "known.npz")
    np.savez("x.npz", descriptors=rng.random((8, 2)), group=list("HCHHCCHC"))
    done = ltau("fit", "e.h5", "x.npz", "-k", 2, "-o", "m.h5")
    assert (done.code, done.err) == (0, "")


@pytest.fixture
def scored(trained, ltau):
    """Scores of described frames, and the same frames in another order."""
    frames, describe = trained
    ltau.ok("fit", "e.h5", describe("train", range(30)), "-k", 5, "-o", "model.h5")
    for name, order in (("new", range(30)), ("back", range(29, -1, -1))):
        describe(name, order)
    ltau.ok("score", "new.h5", "-o", "s.h5")
    return frames, describe


def test_true_errors_of_frames_in_another_order(scored, ltau):
    wanted, got = (ltau("evaluate", "s.h5", name, "--json") for name in ("new.h5", "back.h5"))
    assert got.code == 0, got.err
    assert json.loads(got.out) == json.loads(wanted.out)
    describe = scored[1]
    result = ltau("evaluate", "s.h5", describe("few", range(29)))
    check(result, INPUT, "few.h5", "no true errors for 1 frames, the first is frame 29", "s.h5")


@pytest.mark.parametrize("command", ["calibrate", "evaluate"])
def test_true_errors_of_another_network(command, scored, ltau):
    _, describe = scored
    other = describe("other", range(30), shift="0.01*1")
    check(ltau(command, "s.h5", other), INPUT, "other.h5", "another network")


def test_a_table_is_matched_by_the_names_that_ingest_knows(scored, tmp_path, ltau):
    errors = contents("e.h5")["errors"][-1].astype(float)
    order = np.random.default_rng(2).permutation(len(errors))
    save(tmp_path / "t.npy", errors)
    wanted = json.loads(ltau("evaluate", "s.h5", "t.npy", "--json").out)
    for name in ("row", "sample", "atom_id", "Index"):
        rows = [f"{i},{errors[i]}" for i in order]
        (tmp_path / "t.csv").write_text("\n".join([f"{name},error", *rows]) + "\n")
        assert json.loads(ltau("evaluate", "s.h5", "t.csv", "--json").out) == wanted
    for form in ("{:05}", "{}"):  # as text, and from 1
        rows = [f"{form.format(i + (form == '{}'))},{errors[i]}" for i in order]
        (tmp_path / "t.csv").write_text("\n".join(["id,error", *rows]) + "\n")
        assert json.loads(ltau("evaluate", "s.h5", "t.csv", "--json").out) == wanted
    atoms = [f"{i % 3},{error}" for i, error in enumerate(errors)]  # of its frame: no id
    (tmp_path / "t.csv").write_text("\n".join(["atom,error", *atoms]) + "\n")
    assert json.loads(ltau("evaluate", "s.h5", "t.csv", "--json").out) == wanted


def test_what_is_given_beside_described_rows_is_compared(scored, tmp_path, ltau):
    frames, _ = scored
    natoms = np.array([len(frame) for frame in frames])
    save(tmp_path / "natoms.npy", natoms)
    save(tmp_path / "other.npy", natoms[::-1].copy())
    ltau.ok("score", "new.h5", "--natoms", "natoms.npy", "-o", "o.h5")
    result = ltau("score", "new.h5", "--natoms", "other.npy", "-o", "o.h5", "-f")
    check(result, INPUT, "other.npy", "new.h5", "structure")
    result = ltau("score", "new.h5", "--frames", "back.xyz", "-o", "o.h5", "-f")
    check(result, INPUT, "back.xyz", "new.h5")
    for frame in frames:
        frame.arrays["mine"] = frame.arrays["REF_forces"]
    feature = {}
    for name in ("new", "back"):
        own = frames if name == "new" else frames[::-1]
        ase.io.write(
            f"f_{name}.xyz", own, format="extxyz", columns=["symbols", "positions", "mine"]
        )
        words = ("--feature", f"mine=f_{name}.xyz:mine", "-o", "o.h5", "-f")
        ltau.ok("score", "new.h5", *words)
        feature[name] = contents("o.h5")["features"]
    np.testing.assert_array_equal(feature["new"], feature["back"])
    x = contents("new.h5")
    save(tmp_path / "plain.npy", x["descriptors"])  # then the labels of --group are compared
    save(tmp_path / "group.npy", x["species"].astype(str))
    words = ("plain.npy", "--group", "group.npy", "--feature", "mine=f_back.xyz:mine")
    check(ltau("score", *words, "-o", "o.h5", "-f"), INPUT, "f_back.xyz", "species")


@pytest.mark.parametrize(
    "command", [("export", "s.h5", "-o", "o.xyz"), ("select", "s.h5", "-n", 3, "-o", "o.txt")]
)
def test_frames_in_another_order(command, scored, ltau):
    scored[1]("swapped", [1, 0, *range(2, 30)])
    result = ltau(*command, "--frames", "swapped.xyz")
    check(result, INPUT, "swapped.xyz", "s.h5")
    ltau.ok(*command, "--frames", "new.xyz")


def test_a_log_of_another_training_is_told(trained, tmp_path, ltau):
    _, describe = trained
    n = contents("e.h5")["errors"].shape[1]
    log = save(tmp_path / "log.npy", np.random.default_rng(3).random((4, n)))
    ltau.ok("ingest", log, "-o", "other.h5")
    done = ltau.ok("fit", "other.h5", describe("train", range(30)), "-k", 5, "-o", "m.h5")
    assert "warning: the last errors in other.h5 and those of the network in train.h5" in done.err


@pytest.mark.parametrize("roll", [0, 5])
def test_frames_of_one_molecule_in_another_order_are_told(roll, tmp_path, ltau):
    """Where an atom's site alone says much of its error, also in the frames of another order."""
    rng = np.random.default_rng(0)
    error = np.exp(rng.normal(0, 1, (1, 20)) + rng.normal(0, 0.5, (60, 20)))
    save(tmp_path / "log.npy", np.stack([2 * error.ravel(), error.ravel()]))
    forces = np.zeros((1200, 3))
    forces[:, 0] = np.roll(error, roll, axis=0).ravel()
    natoms, zero = np.full(60, 20), np.zeros((1200, 3))
    np.savez(
        "x.npz", descriptors=rng.random((1200, 2)), natoms=natoms, forces=forces,
        reference_forces=zero,
    )  # fmt: skip
    assert ltau("ingest", "log.npy", "-o", "e.h5", "--natoms", "x.npz").code == 0
    done = ltau("fit", "e.h5", "x.npz", "-k", 5, "-o", "m.h5")
    assert done.code == 0, done.err
    assert ("the rows are in another order" in done.err) == bool(roll)
    assert done.err.count("warning: ") == bool(roll)


def test_the_next_structure():
    assert next_structure(np.array([5, 5, 5, 2, 2, 7])).tolist() == [3, 4, -1, 5, -1, -1]
