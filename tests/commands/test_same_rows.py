"""True errors and frames of the very rows that were scored: compared by species and reference."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest

from ltau_cli.packages.network import NetworkName
from tests.helpers import INPUT, SAMPLE, check, contents

FRAMES = SAMPLE / "test_300K.xyz"
NETWORK = f"python:{Path('docs/own_model.py').resolve()}:describe"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Scores of described frames, and the same frames in another order."""
    import ltau_cli

    made = tmp_path_factory.mktemp("rows")
    frames = ase.io.read(FRAMES, ":")
    ase.io.write(made / "reversed.xyz", frames[::-1])
    for name, path in (("pool", FRAMES), ("other", made / "reversed.xyz")):
        ltau_cli.describe(path, NETWORK, made / f"{name}.h5")
    ltau_cli.describe(SAMPLE / "train.xyz", NETWORK, made / "train.h5")
    settings = ltau_cli.FitSettings(k=5)
    ltau_cli.ingest(made / "train.h5", made / "errors.h5", units="eV/Å")
    ltau_cli.fit(made / "errors.h5", made / "train.h5", made / "model.h5", settings=settings)
    ltau_cli.score(made / "pool.h5", made / "model.h5", made / "scores.h5")
    found = contents(made / "pool.h5")
    both = np.hstack([found["forces"], found["reference_forces"]])
    for name, rows in (("force_test.out", both), ("force_other.out", np.roll(both, 55, axis=0))):
        np.savetxt(made / name, rows, fmt="%.6g")
    np.savetxt(made / "detail.f.out", both[:, [3, 4, 5, 0, 1, 2]])
    return made


@pytest.mark.parametrize("truth", ["pool.h5", "force_test.out", "detail.f.out"])
def test_true_errors_of_these_rows(truth, folder, ltau):
    result = ltau("evaluate", folder / "scores.h5", folder / truth)
    assert result.code == 0, result.err
    assert "warning" not in result.err


def test_true_errors_of_these_frames_in_another_order(folder, ltau):
    truths = ("pool.h5", "other.h5")
    made = [ltau("evaluate", folder / "scores.h5", folder / truth) for truth in truths]
    assert made[0].code == made[1].code == 0
    assert made[0].out == made[1].out


@pytest.mark.parametrize("command", ["evaluate", "calibrate"])
def test_true_errors_of_other_rows(command, folder, ltau, tmp_path):
    out = ("-o", tmp_path / "c.h5") if command == "calibrate" else ()
    result = ltau(command, folder / "scores.h5", folder / "force_other.out", *out)
    check(
        result, INPUT, "force_other.out", "scores.h5", "reference force differs in 1,3", "of 1,375"
    )


def test_frames_of_another_order(folder, ltau, tmp_path):
    scores = folder / "scores.h5"
    for words in (
        ("export", scores, "-o", tmp_path / "a.xyz"),
        ("select", scores, "-n", 2, "-o", tmp_path / "chosen.txt"),
    ):
        for frames in ("reversed.xyz", "other.h5"):
            result = ltau(*words, "--frames", folder / frames)
            check(result, INPUT, frames, "scores.h5", "in another order, at 2")
        assert ltau(*words, "--frames", FRAMES).code == 0
        assert ltau(*words, "--frames", folder / "pool.h5", "--force").code == 0


def test_frames_of_other_species(folder, ltau, tmp_path):
    frames = ase.io.read(FRAMES, ":")
    symbols = frames[3].get_chemical_symbols()
    assert symbols[0] != symbols[-1]
    frames[3].symbols[[0, -1]] = symbols[-1], symbols[0]
    ase.io.write(tmp_path / "swapped.xyz", frames)
    words = ("export", folder / "scores.h5", "-o", tmp_path / "a.xyz", "--frames")
    check(ltau(*words, tmp_path / "swapped.xyz"), INPUT, "swapped.xyz")


def test_frames_are_described_first(folder, ltau, tmp_path):
    result = ltau("score", FRAMES, "-m", folder / "model.h5", "-o", tmp_path / "s.h5")
    check(result, INPUT, FRAMES, "it has no column of descriptors")
    assert f"ltau describe {FRAMES} --network" in result.err


def test_a_path_is_a_path_before_it_is_a_pattern(folder, ltau, tmp_path):
    place = tmp_path / "run [1] of *"
    place.mkdir()
    for epoch in range(3):
        (place / f"net_epoch-{epoch}.py").write_text(Path("docs/own_model.py").read_text())
    for name in ("frames [ab].xyz", "n [2].h5"):
        source = FRAMES if name.endswith("xyz") else folder / "pool.h5"
        (place / name).write_bytes(source.read_bytes())
    network = f"python:{place}/net_epoch-1.py:describe"
    out = place / "d [3].h5"
    assert ltau("describe", place / "frames [ab].xyz", "--network", network, "-o", out).code == 0
    words = ("score", f"{out}:descriptors", "-m", folder / "model.h5", "-o", place / "s[4].h5")
    assert ltau(*words, "--natoms", place / "n [2].h5").code == 0
    found = NetworkName.parse(f"mace:{place}/net_epoch-[02].py").checkpoints()
    assert found == [place / "net_epoch-0.py", place / "net_epoch-2.py"]
