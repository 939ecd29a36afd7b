"""``ltau describe``, by a network of one's own; see also ``tests/packages/installed``."""

import json
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms

import ltau_cli
from ltau_cli.errors import LtauWarning
from ltau_cli.packages.mace import describe as mace
from ltau_cli.packages.network import Network
from ltau_cli.packages.python import describe as own
from ltau_cli.readers.frames import about
from tests.helpers import INPUT, OUTPUT, SAMPLE, USAGE, check, contents, names, same

# Force is half the position and one more per call; the descriptors are distances from the middle.
MODEL = """
import numpy as np

calls = []

def describe(frames):
    calls.append(len(frames))
    middles = [f.positions - f.positions.mean(axis=0) for f in frames]
    norms = np.concatenate([np.linalg.norm(m, axis=1) for m in middles])
    return {
        "descriptors": np.stack([norms, norms**2], axis=1),
        "forces": np.concatenate([f.positions for f in frames]) / 2,
        "energy": np.array([float(len(f)) for f in frames]),
    }

def dies(frames):
    if len(calls) == 2:
        raise SystemError
    return describe(frames)

def without_forces(frames):
    return {"descriptors": describe(frames)["descriptors"]}

def wrong_shape(frames):
    return {"descriptors": np.ones((3, 2))}

def not_finite(frames):
    return {"descriptors": describe(frames)["descriptors"] * np.nan}

def no_dict(frames):
    return 3
"""


def make_frames(sizes=(3, 1, 4), key="REF_forces", seed=0):
    """Frames whose reference forces are half the positions, off by (0.3, 0.4, 0): 0.5 eV/Å."""
    rng = np.random.default_rng(seed)
    frames = []
    for i, n in enumerate(sizes):
        frame = Atoms(["Cu", "O", "H", "Au"][:n], rng.normal(0, 3, (n, 3)), cell=[9, 9, 9 + i])
        frame.pbc = [True, False, True]
        frame.info["config_type"] = f"kind{i % 2}"
        frame.info["REF_energy"] = n + 0.5 * n
        frame.arrays[key] = frame.positions / 2 + [0.3, 0.4, 0]
        frames.append(frame)
    return frames


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a model and frames."""
    monkeypatch.chdir(tmp_path)
    Path("model.py").write_text(MODEL)
    ase.io.write("frames.xyz", make_frames())
    return tmp_path


def describe(ltau, *words, function="describe", code=0):
    result = ltau("describe", *words, "--network", f"python:model.py:{function}")
    assert result.code == code, result.err
    return result


def test_what_is_stored(place, ltau):
    done = describe(ltau, "frames.xyz")
    assert "8 atoms in 3 frames, 2 features" in done.out
    assert "mean force error 0.5 eV/Å" in done.out
    assert "mean energy error 500 meV per atom" in done.out
    found, frames = contents("frames.h5"), make_frames()
    positions = np.concatenate([frame.positions for frame in frames])
    np.testing.assert_allclose(found["positions"], positions, atol=1e-8)
    np.testing.assert_allclose(found["forces"], positions / 2, atol=1e-8)
    np.testing.assert_allclose(
        found["reference_forces"] - found["forces"], np.tile([0.3, 0.4, 0], (8, 1)), atol=1e-7
    )
    assert found["species"].tolist() == ["Cu", "O", "H", "Cu", "Cu", "O", "H", "Au"]
    assert found["structure"].tolist() == [0, 0, 0, 1, 2, 2, 2, 2]
    assert found["config_type"].tolist() == ["kind0"] * 3 + ["kind1"] + ["kind0"] * 4
    assert found["natoms"].tolist() == [3, 1, 4]
    assert found["frame"].tolist() == [0, 1, 2]
    assert found["energy"].tolist() == [3, 1, 4]
    assert found["reference_energy"].tolist() == [4.5, 1.5, 6]
    assert found["cell"][:, 2, 2].tolist() == [9, 10, 11]
    assert found["pbc"].tolist() == [[True, False, True]] * 3
    assert found["descriptors"].dtype == np.float32
    assert found["descriptors"][3].tolist() == [0, 0]


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_batches_change_nothing(place, ltau, batch):
    describe(ltau, "frames.xyz", "-o", "a.h5")
    describe(ltau, "frames.xyz", "-o", "again.h5")
    assert Path("a.h5").read_bytes() == Path("again.h5").read_bytes()
    describe(ltau, "frames.xyz", "-o", "b.h5", "--batch-size", batch)
    one, other = contents("a.h5"), contents("b.h5")
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_several_files_are_one_set(place, ltau):
    ase.io.write("more.xyz", make_frames((2, 2), seed=1))
    describe(ltau, "frames.xyz", "more.xyz")
    found = contents("frames.h5")
    assert found["natoms"].tolist() == [3, 1, 4, 2, 2]
    assert found["structure"].max() == 4


def test_isolated_atoms_are_left_out_and_told(place, ltau):
    alone = Atoms("H", info={"config_type": "IsolatedAtom", "REF_energy": -13.6})
    ase.io.write("frames.xyz", [alone, *make_frames()])
    done = describe(ltau, "frames.xyz")
    assert "left out 1 frames of isolated atoms" in done.err
    assert contents("frames.h5")["frame"].tolist() == [1, 2, 3]
    done = describe(ltau, "frames.xyz", "--isolated", "--force")
    assert "left out" not in done.err
    assert "1 of 4 frames have no REF_forces" in done.err
    found = contents("frames.h5")
    assert found["natoms"].tolist() == [1, 3, 1, 4]
    assert np.isnan(found["reference_forces"][0]).all()
    assert np.isfinite(found["reference_forces"][1:]).all()


@pytest.mark.parametrize("key", ["forces", "original_dataset_forces", "dft_forces"])
def test_common_names_of_references(place, ltau, key):
    ase.io.write("frames.xyz", make_frames(key=key))
    assert f"(norm of the difference to {key})" in describe(ltau, "frames.xyz").out


def test_a_name_of_ones_own(place, ltau):
    ase.io.write("frames.xyz", make_frames(key="wb97x"))
    assert "no reference forces" in describe(ltau, "frames.xyz").out
    done = describe(ltau, "frames.xyz", "--reference-key", "wb97x", "--force")
    assert "mean force error 0.5 eV/Å" in done.out


def test_a_model_without_forces(place, ltau):
    describe(ltau, "frames.xyz", function="without_forces")
    assert {"forces", "energy"}.isdisjoint(contents("frames.h5"))


def test_a_stopped_call_goes_on(place, ltau, monkeypatch):
    describe(ltau, "frames.xyz", "-o", "whole.h5", "--batch-size", 1)
    with pytest.raises(SystemError):
        ltau("describe", "frames.xyz", "--network", "python:model.py:dies", "--batch-size", 1)
    assert not Path("frames.h5").exists()
    again = ltau("describe", "frames.xyz", "--network", "python:model.py:dies", "--batch-size", 1)
    assert " of 8 atoms are there already; going on" in again.err
    assert again.code == 0
    one, other = contents("whole.h5"), contents("frames.h5")
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    assert not list(place.glob(".frames*"))


def test_resume_skips_what_is_up_to_date(place, ltau):
    describe(ltau, "frames.xyz")
    assert "up to date" in describe(ltau, "frames.xyz", "--resume").out
    done = describe(ltau, "frames.xyz", "--resume", "--batch-size", 2)
    assert "out of date" in done.err
    assert "up to date" in describe(ltau, "frames.xyz", "--resume", "--batch-size", 2).out


@pytest.mark.parametrize(("function", "said"), [
    ("wrong_shape", "gives descriptors of shape (3, 2) for 3 frames with 8 atoms"),
    ("not_finite", "NaN or infinite"),
    ("no_dict", "does not return a dict with descriptors"),
    ("nothing", "has no function nothing"),
])  # fmt: skip
def test_a_function_that_does_not_do(place, ltau, function, said):
    result = describe(ltau, "frames.xyz", function=function, code=INPUT)
    check(result, INPUT, said, hint="hint:" in result.err)
    assert not Path("frames.h5").exists()


@pytest.mark.parametrize(("model", "code", "said"), [
    ("my.model", USAGE, "does not begin with a package"),
    ("orb:my.model", USAGE, "does not begin with a package"),
    ("python:model.py", USAGE, "names no function"),
    ("python:other.py:describe", INPUT, "other.py: no such file"),
    ("mace:my.model", INPUT, "cannot import mace"),
    ("mace:*.pt", INPUT, "*.pt: no such files"),
])  # fmt: skip
def test_a_model_that_is_none(place, ltau, model, code, said):
    result = ltau("describe", "frames.xyz", "--network", model)
    check(result, code, said, hint="hint:" in result.err)


def test_targets_are_not_replaced(place, ltau):
    describe(ltau, "frames.xyz")
    describe(ltau, "frames.xyz", code=OUTPUT)
    describe(ltau, "frames.xyz", "-o", "frames.xyz", "--force", code=OUTPUT)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A model artifact fitted on described frames of the sample data, and a described test set."""
    folder = tmp_path_factory.mktemp("described")
    model = folder / "m.py"
    model.write_text(
        Path("docs/own_model.py").read_text()
        + "\nwhole = describe\n\ndef describe(frames):\n    told = whole(frames)\n"
        "    told['forces'] += 0.02 * told['descriptors'][:, :3]\n    return told\n"
    )
    for name in ("train", "test_300K"):
        ltau_cli.describe(SAMPLE / f"{name}.xyz", f"python:{model}:describe", folder / f"{name}.h5")
    ltau_cli.ingest(SAMPLE / "logs", folder / "errors.h5")
    settings = ltau_cli.FitSettings(k=10, loo="structure", index="exact")
    with pytest.warns(LtauWarning, match="rank correlation of -0.1. only.*another training"):
        ltau_cli.fit(
            folder / "errors.h5", folder / "train.h5", folder / "model.h5", settings=settings
        )
    ltau_cli.score(folder / "test_300K.h5", folder / "model.h5", folder / "scores.h5")
    return folder


def test_fit_takes_structures_from_it(sample):
    with ltau_cli.open_artifact(sample / "model.h5") as model:
        assert model.read("loo_group").tolist() == np.repeat(np.arange(72), 55).tolist()


def test_structures_and_groups_come_along(sample):
    with h5py.File(sample / "scores.h5") as scores, h5py.File(sample / "test_300K.h5") as frames:
        assert (scores["structure"][...] == frames["structure"][...]).all()
        assert (scores["group"][...] == frames["species"][...]).all()
        assert scores["structures/n_samples"][...].tolist() == [55] * 25


def test_true_errors_are_norms_of_force_differences(sample, ltau):
    with h5py.File(sample / "test_300K.h5") as frames:
        norms = np.linalg.norm(frames["forces"][...] - frames["reference_forces"][...], axis=1)
    np.save(sample / "norms.npy", norms)
    told = [
        json.loads(ltau("evaluate", sample / "scores.h5", sample / truth, "--json").out)
        for truth in ("test_300K.h5", "norms.npy")
    ]
    assert told[0][0]["predictors"] == told[1][0]["predictors"]
    ltau.ok("calibrate", sample / "scores.h5", sample / "test_300K.h5", "--group", "species",
            "-o", sample / "calibration.h5", "--force")  # fmt: skip


def test_it_is_taken_for_frames(sample, ltau, tmp_path):
    out, chosen = tmp_path / "scored.xyz", tmp_path / "chosen.xyz"
    pool = sample / "test_300K.h5"
    ltau.ok("export", sample / "scores.h5", "--frames", pool, "-o", out)
    given, got = ase.io.read(SAMPLE / "test_300K.xyz", ":"), ase.io.read(out, ":")
    assert len(got) == 25
    for one, other in zip(given, got, strict=True):
        np.testing.assert_allclose(other.positions, one.positions, atol=1e-8)
        np.testing.assert_allclose(other.arrays["REF_forces"], one.arrays["REF_forces"], atol=1e-8)
        assert other.get_chemical_symbols() == one.get_chemical_symbols()
        assert "ltau_expected_error" in other.arrays
    ltau.ok("select", sample / "scores.h5", "-n", 2, "--frames", pool, "--descriptors", pool,
            "--write", chosen, "-o", tmp_path / "chosen.txt")  # fmt: skip
    assert len(ase.io.read(chosen, ":")) == 2


def test_it_says_itself_where_the_atoms_stand(sample, ltau, tmp_path):
    words = ("score", sample / "test_300K.h5", "-m", sample / "model.h5", "--cutoff", 4, "-o")
    ltau.ok(*words, tmp_path / "own.h5")
    frames = ("--frames", SAMPLE / "test_300K.xyz")
    ltau.ok(*words, tmp_path / "given.h5", *frames)
    own, given = (contents(tmp_path / name)["local_distance"] for name in ("own.h5", "given.h5"))
    np.testing.assert_array_equal(own, given)


def test_it_is_taken_for_natoms_groups_and_frames_at_ingest(sample, ltau, tmp_path):
    train = sample / "train.h5"
    for option, label in (("--natoms", "structure"), ("--frames", "species"), ("--group", "group")):
        out = tmp_path / f"{label}.h5"
        ltau.ok("ingest", SAMPLE / "logs", option, train, "-o", out)
        wanted = contents(train)["structure" if option == "--natoms" else "species"]
        assert contents(out)[label].tolist() == wanted.tolist()


def test_another_network_is_refused(sample, ltau, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(Path("docs/own_model.py").read_text())
    pool = tmp_path / "pool.h5"
    ltau_cli.describe(SAMPLE / "test_300K.xyz", f"python:{other}:describe", pool)
    out = tmp_path / "scores.h5"
    result = ltau("score", pool, "-m", sample / "model.h5", "-o", out)
    check(result, INPUT, pool, "was described by another network")
    whole = f"{pool}:descriptors"
    ltau.ok("score", whole, "-m", sample / "model.h5", "-o", out)


def test_another_artifact_is_no_descriptors(sample, ltau, tmp_path):
    result = ltau("score", sample / "scores.h5", "-m", sample / "model.h5", "-o", tmp_path / "s.h5")
    check(result, 4, "is of kind scores, but a described artifact is needed", hint=True)


@pytest.fixture
def checkpoints(place, monkeypatch, ltau):
    """Describe by checkpoints of epochs 0 to 6, whose forces are off by 4, 3.5, ... 1 eV/Å."""
    Path("checkpoints").mkdir()
    for epoch in range(7):
        Path(f"checkpoints/my_run-12_epoch-{epoch}.pt").touch()

    def load(file, device, layer):
        off = np.array([0.3, 0.4, 0]) * (8 - int(Path(file).stem.rpartition("-")[2]) - 1)

        def predict(frames):
            positions = np.concatenate([frame.positions for frame in frames])
            return positions, positions / 2 - off, None

        return Network(predict, Path(file))

    monkeypatch.setattr(mace, "load", load)
    words = ("describe", "frames.xyz", "--network", "mace:checkpoints/*.pt", "-o", "eval")
    return lambda *more: ltau(*words, *more)


def test_checkpoints_become_a_log(checkpoints, ltau):
    done = checkpoints("--epochs", "::3")
    assert done.code == 0, done.err
    assert "3 of 7 checkpoints (3 new)" in done.out
    ltau.ok("ingest", "eval", "-o", "errors.h5")
    found = contents("errors.h5")
    assert found["epoch"].tolist() == [0, 3, 6]
    same(found["fingerprint"], np.repeat([about(f)[2] for f in make_frames()], [3, 1, 4], axis=0))
    wanted = np.repeat([[4.0], [2.5], [1.0]], 8, axis=1)
    np.testing.assert_allclose(found["errors"], wanted, rtol=1e-6)


def test_checkpoints_are_ordered_by_the_number_in_their_ending(checkpoints):
    for path in Path("checkpoints").iterdir():  # as DeePMD-kit names them
        path.rename(path.with_name("model.ckpt-1" + path.stem.rpartition("-")[2] + "00.pt"))
    assert checkpoints("--epochs", "::300").code == 0
    files = [f"force_errors_epoch_{step}.npy" for step in (1000, 1300, 1600)]
    assert names(Path("eval")) == [*files, "samples.npz"]


@pytest.mark.parametrize(
    ("epochs", "kept"), [("::5", [0, 5, 6]), (":4:2", [0, 2, 3]), ("-2:", [5, 6])]
)
def test_the_last_checkpoint_is_always_in(epochs, kept, checkpoints):
    checkpoints("--epochs", epochs)
    files = [f"force_errors_epoch_{epoch}.npy" for epoch in kept]
    assert names(Path("eval")) == [*files, "samples.npz"]


def test_epochs_that_leave_no_checkpoint(checkpoints):
    said = "--epochs 7: leaves no checkpoint of checkpoints"
    check(checkpoints("--epochs", "7:"), INPUT, said)


def test_more_checkpoints_are_added_to_a_log(checkpoints):
    checkpoints()
    check(checkpoints(), OUTPUT, "force_errors_epoch_0.npy exists already")
    before = Path("eval/force_errors_epoch_3.npy").read_bytes()
    Path("checkpoints/my_run-12_epoch-7.pt").touch()
    assert "8 of 8 checkpoints (1 new)" in checkpoints("--resume").out
    assert Path("eval/force_errors_epoch_3.npy").read_bytes() == before


def test_checkpoints_of_two_runs_are_no_log(checkpoints):
    Path("checkpoints/other_run-13_epoch-3.pt").touch()
    check(checkpoints(), INPUT, "are of the same epoch")


def test_a_log_needs_references(checkpoints):
    ase.io.write("frames.xyz", make_frames(key="mine"))
    check(checkpoints(), INPUT, "no frame has reference forces")
    assert not Path("eval").exists()


def test_frames_without_references_are_missing_in_a_log(checkpoints):
    frames = make_frames()
    del frames[1].arrays["REF_forces"]
    ase.io.write("frames.xyz", frames)
    checkpoints()
    errors = np.load("eval/force_errors_epoch_0.npy")
    assert np.isnan(errors).tolist() == [False] * 3 + [True] + [False] * 4


@pytest.fixture
def two_heads(tmp_path, monkeypatch):
    """A network of two heads, of which the second is 1 eV/Å off."""
    (tmp_path / "own.py").write_text(MODEL)
    ase.io.write(tmp_path / "a.xyz", make_frames((3, 2)), format="extxyz")
    ase.io.write(tmp_path / "b.xyz", make_frames((4,), seed=1), format="extxyz")
    monkeypatch.chdir(tmp_path)
    load = own.load

    def with_heads(file, device, layer):
        network = load(file, device, layer)

        def predict(frames):
            descriptors, forces, energy = network.predict(frames)
            off = [np.full(len(f), f.info["head"] == "second", float) for f in frames]
            return descriptors, forces + np.concatenate(off)[:, None] * [1.0, 0, 0], energy

        return Network(predict, network.file, heads=("first", "second"))

    monkeypatch.setattr(own, "load", with_heads)


def test_the_head_is_named_or_asked_for(two_heads, ltau):
    words = ("describe", "a.xyz", "b.xyz", "--network", "python:own.py:describe", "-f")
    done = ltau(*words, "-o", "none.h5")
    check(done, INPUT, "has the heads first, second; frame 0 names none")
    check(ltau(*words, "--head", "third", "-o", "n.h5"), INPUT, "frame 0 names third")
    check(ltau(*words, *["--head", "first"] * 3, "-o", "n.h5"), USAGE, "given 3 times, there are 2")
    ltau.ok(*words, "--head", "first", "-o", "one.h5")
    done = ltau.ok(*words, "--head", "first", "--head", "second", "-o", "both.h5")
    assert "by the heads first (2 frames), second (1 frames)" in done.out
    apart = contents("both.h5")["forces"] - contents("one.h5")["forces"]
    np.testing.assert_allclose(apart[:, 0], [0] * 5 + [1] * 4)


def test_frames_name_their_head(two_heads, ltau):
    frames = ase.io.read("a.xyz", ":")
    for frame, head in zip(frames, ("second", "first"), strict=True):
        frame.info["head"] = head
    ase.io.write("a.xyz", frames, format="extxyz")
    ltau.ok("describe", "a.xyz", "--network", "python:own.py:describe", "-o", "own.h5")
    ltau.ok("describe", "a.xyz", "--network", "python:own.py:describe", "--head", "first", "-o",
            "first.h5")  # fmt: skip
    apart = contents("own.h5")["forces"] - contents("first.h5")["forces"]
    np.testing.assert_allclose(apart[:, 0], [1] * 3 + [0] * 2)
