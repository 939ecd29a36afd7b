"""The prediction's own trajectory: ``ltau describe --trajectory``, and what follows from it."""

import json
import pickle
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.mixing import SumCalculator

import ltau_cli
from ltau_cli.core.calibration.maps import PRIORS
from ltau_cli.errors import InputError, UsageError
from ltau_cli.readers.logs.numbered import NumberedFiles
from ltau_cli.stages.trajectory import choose_kept
from tests import oracles
from tests.helpers import INPUT, check, contents

# Weights are two numbers: a force is the position times the first, bent by the second.
NETWORK = """
import numpy as np

def describe(frames, weights="final.txt"):
    scale, bend = np.loadtxt(weights)
    x = np.concatenate([f.positions for f in frames])
    middles = np.concatenate([f.positions - f.positions.mean(axis=0) for f in frames])
    for frame in frames:
        frame.positions += 100  # a network may change what it gets
    norms = np.linalg.norm(middles, axis=1)
    return {"descriptors": np.stack([norms, norms**2], axis=1),
            "forces": scale * x + bend * np.sin(3 * x)}

def without_forces(frames, weights=None):
    return {"descriptors": describe(frames)["descriptors"]}
"""
KEPT = {4: (0.8, 0.3), 8: (0.9, 0.2), 10: (0.95, 0.1), 12: (0.97, 0.08), 20: (1.0, 0.01)}


def write_frames(name, n, size, seed):
    """Frames of four atoms whose reference forces are off by the bend of the weights kept last."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n):
        frame = Atoms("Cu2Au2", rng.normal(0, size * rng.lognormal(0, 0.3), (4, 3)))
        error = 0.02 * rng.lognormal(0, 0.2, (4, 1)) * rng.normal(size=(4, 3))
        frame.arrays["REF_forces"] = frame.positions + error * (1 + frame.positions**2)
        frames.append(frame)
    ase.io.write(name, frames)


@pytest.fixture
def place(tmp_path, monkeypatch, ltau):
    """A folder with a network, weights of it beside a log, frames and a model."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NETWORK)
    Path("final.txt").write_text("1.0 0.0")
    Path("logs").mkdir()
    for name, n, size, seed in (("train", 15, 1, 0), ("val", 24, 1, 1), ("pool", 5, 2, 2)):
        write_frames(f"{name}.xyz", n, size, seed)
    for epoch, weights in KEPT.items():
        Path(f"logs/weights_epoch_{epoch}.txt").write_text("{} {}".format(*weights))
        errors = 0.05 * np.random.default_rng(epoch).lognormal(0, 0.5, 60)
        np.save(f"logs/force_errors_epoch_{epoch}.npy", errors)
    ltau.ok("ingest", "logs", "--natoms", write_natoms(15))
    describe(ltau, "train")
    ltau.ok("fit", "errors.h5", "train.h5")
    return tmp_path


def write_natoms(n):
    np.save("natoms.npy", np.full(n, 4))
    return "natoms.npy"


def describe(ltau, name, *words, function="describe", output=None):
    return ltau(
        "describe", f"{name}.xyz", "--network", f"python:net.py:{function}", "-o",
        output or f"{name}.h5", *words,
    )  # fmt: skip


def test_what_is_stored(place, ltau):
    done = describe(ltau, "val", "--trajectory", "logs/")
    assert "trajectory: the weights of the epochs 8, 10, 12" in done.out
    found = contents("val.h5")
    x = np.concatenate([frame.positions for frame in ase.io.read("val.xyz", ":")])
    kept = np.stack([a * x + b * np.sin(3 * x) for a, b in (KEPT[8], KEPT[10], KEPT[12])])
    np.testing.assert_allclose(found["forces"], x)
    np.testing.assert_allclose(found["trajectory"], oracles.trajectory(x, kept))
    describe(ltau, "val", "--trajectory", "logs/weights*", "--batch-size", 5, output="again.h5")
    for name, values in contents("again.h5").items():
        np.testing.assert_array_equal(values, found[name])


@pytest.mark.parametrize(
    ("epochs", "number", "wanted"),
    [
        (range(80), 4, [27, 35, 44, 52]),
        ([27, 35, 42, 50, 57, 65, 72, 79], 4, [27, 35, 42, 50]),
        ([27, 35, 42, 50, 57, 65, 72, 79], 1, [27]),
        ([3, 6, 9], 8, [3, 6]),
        ([7], 4, [7]),
    ],
)
def test_which_weights_are_chosen(epochs, number, wanted):
    found = NumberedFiles("#", list(epochs), [Path(f"{epoch}.pt") for epoch in epochs])
    chosen = choose_kept(found, number)
    assert chosen.epochs == wanted
    assert [int(path.stem) for path in chosen.files] == wanted


def test_calibrate_uses_it_with_a_prior_of_its_own(place, ltau):
    exponents = {}
    for name, words in (("with", ("--trajectory", "logs")), ("without", ())):
        describe(ltau, "val", *words, output=f"{name}.h5")
        ltau.ok("score", f"{name}.h5", "-o", f"s_{name}.h5")
        told = ltau.ok(
            "calibrate", f"s_{name}.h5", f"{name}.h5", "-o", f"{name}_c.h5", "--json"
        ).out
        exponents[name] = json.loads(told)["exponents"]
        describe(ltau, "pool", *words, output=f"pool_{name}.h5")
        ltau.ok("score", f"pool_{name}.h5", "--calibration", f"{name}_c.h5", "-o", f"o_{name}.h5")
        assert ("features" in contents(f"o_{name}.h5")) == (name == "with")
    for name, kind in (("with", "trained, trajectory"), ("without", "trained")):
        assert exponents[name].keys() == PRIORS[kind].keys()
    assert exponents["with"]["trajectory"] > 0.2
    # rows without it, and by other weights, are refused; what a calibration has no use for is not
    words = ("--calibration", "with_c.h5", "-o", "o.h5")
    check(ltau("score", "pool_without.h5", *words), INPUT, "the feature trajectory")
    describe(ltau, "pool", "--trajectory", "logs", "--kept", 2, output="two.h5")
    check(ltau("score", "two.h5", *words), INPUT, "other weights")
    ltau.ok("score", "two.h5", "--calibration", "without_c.h5", "-o", "other.h5")


def test_a_trajectory_from_an_array_has_the_same_prior(place, ltau):
    describe(ltau, "val", "--trajectory", "logs")
    np.save("values.npy", contents("val.h5")["trajectory"])
    ltau.ok("score", "val.h5", "-o", "s.h5")
    describe(ltau, "val", output="bare.h5")
    ltau.ok("score", "bare.h5", "--feature", "trajectory=values.npy", "-o", "t.h5")
    same = [json.loads(ltau.ok("calibrate", scores, "val.h5", "-o", f"c_{scores}", "--json").out)
            for scores in ("s.h5", "t.h5")]  # fmt: skip
    assert same[0]["exponents"] == same[1]["exponents"]


def test_what_cannot_be_a_trajectory(place, ltau):
    Path("empty").mkdir()
    words = ("val", "--trajectory")
    check(describe(ltau, *words, "empty", output="o.h5"), INPUT, "empty holds no weights")
    check(describe(ltau, *words, "nothing_*.pt", output="o.h5"), INPUT, "no such files", hint=False)
    nothing = describe(ltau, *words, "logs", function="without_forces", output="o.h5")
    check(nothing, INPUT, "needs forces", hint=False)


class Final(Calculator):
    """The forces of the final weights of the network."""

    implemented_properties = ("energy", "forces")

    def calculate(self, *arguments):
        super().calculate(*arguments)
        self.results = {"energy": 0.0, "forces": self.atoms.positions.copy()}


def test_live_tells_what_score_does(place, ltau):
    for name in ("val", "pool"):
        describe(ltau, name, "--trajectory", "logs", "--kept", 1)
    ltau.ok("score", "val.h5", "-o", "s.h5")
    ltau.ok("calibrate", "s.h5", "val.h5")
    ltau.ok("score", "pool.h5", "--calibration", "calibration.h5")
    frames = ase.io.read("pool.xyz", ":")

    def told(trajectory, network="python:net.py:describe"):
        live = ltau_cli.Live(Final(), descriptors=network, trajectory=trajectory)
        again = pickle.loads(pickle.dumps(live)) if isinstance(trajectory, str) else live
        return np.concatenate([again.get_property("calibrated_error", frame) for frame in frames])

    wanted, per_frame = contents("scores.h5")["calibrated_error"], contents("pool.h5")["trajectory"]
    np.testing.assert_array_equal(told("logs"), wanted)
    per_frame = iter(per_frame.reshape(len(frames), -1))
    np.testing.assert_array_equal(told(lambda frame: next(per_frame)), wanted)
    with pytest.raises(InputError, match="uses the trajectory"):
        told(None)
    Path("logs/weights_epoch_8.txt").write_text("0.9 0.25")
    with pytest.raises(InputError, match="other weights"):
        told("logs")
    with pytest.raises(UsageError, match="sum of calculators"):
        ltau_cli.Live(SumCalculator([Final(), Final()]), descriptors="python:net.py:describe",
                      trajectory="logs")  # fmt: skip
