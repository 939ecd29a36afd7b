"""What the tests of ``ltau record`` share: training files, runs, and the log of a run."""

import os
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

SAMPLE = Path(__file__).parent.parent.parent.parent / "sample_data"
BIN = Path(sys.executable).parent


def training_frames(n=14):
    """Frames of 55 atoms, an isolated atom first and one among them."""
    frames = ase.io.read(SAMPLE / "train.xyz", f"::{72 // n}")[:n]
    for place, symbol in ((0, "Cu"), (5, "Au")):
        atom = Atoms(symbol)
        atom.info |= {"config_type": "IsolatedAtom", "REF_energy": 3.5}
        atom.arrays["REF_forces"] = np.zeros((1, 3))
        frames.insert(place, atom)
    return frames


def run(*command, folder, record=True, output="logs", check=True, threads=1, keep=0):
    """Run a training command in ``folder``, with or without ``ltau record``."""
    recorded = [BIN / "ltau", "record", "--keep", keep, "-o", output, "--"] if record else []
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        [*map(str, recorded), *map(str, command)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0 or not check, done.stdout[-2000:] + done.stderr[-4000:]
    return done


def log_of(folder):
    """All epochs of a log, (n_epochs, n) float32."""
    files = sorted(folder.glob("errors_epoch_*.npy"), key=lambda p: int(p.stem.split("_")[-1]))
    return np.stack([np.load(path) for path in files])


def errors_of(calculator, frames):
    """Errors of the forces of all atoms, and signed ones of energies per atom of all frames."""
    forces, energies = [], []
    for frame in frames:
        atoms = frame.copy()
        atoms.calc = calculator
        difference = atoms.get_forces() - frame.arrays["REF_forces"]
        forces.append(np.linalg.norm(difference, axis=1))
        energies.append((atoms.get_potential_energy() - frame.info["REF_energy"]) / len(frame))
    return np.concatenate(forces), np.array(energies)


def assert_same_where_logged(log, errors, rtol=1e-5, atol=1e-7):
    """Every logged value is the error of its own atom (or frame)."""
    errors = np.broadcast_to(errors, log.shape)
    logged = np.isfinite(log)
    assert logged.any()
    np.testing.assert_allclose(log[logged], errors[logged], rtol=rtol, atol=atol)


# Of the trainers that are scripts: twelve frames, four of them held out; the script evaluates.


def train_by_script(script, place, lr, **how):
    (place / "train.py").write_text(script.replace("{file!r}", repr(str(SAMPLE / "train.xyz"))))
    return run(sys.executable, "train.py", lr, folder=place, **how)


def frames():
    return ase.io.read(SAMPLE / "train.xyz", "::6")


def evaluate(folder, _frames):
    wanted = np.load(folder / "evaluated.npz")
    return wanted["forces"], wanted["energies"]


def check(folder, n_seen, held_out):
    assert (n_seen == 8).all()
    assert len(held_out) == 4
