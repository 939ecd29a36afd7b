"""Frames are read as they are meant or refused, with the line; through ``ltau describe``."""

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from tests.helpers import INPUT, check, contents

NETWORK = """
import numpy as np

def describe(frames):
    positions = np.concatenate([frame.positions for frame in frames])
    return {"descriptors": np.linalg.norm(positions, axis=1)[:, None], "forces": positions / 9}
"""
CELL = 'Lattice="9 0 0 0 9 0 0 0 9"'
COLUMNS = "Properties=species:S:1:pos:R:3:forces:R:3"
ROWS = "Cu 0 0 1 3 0 0\nO 0 2 0 0 4 0\nO 0 2 3 0 0 5\n"
BARE = "Cu 0 0 1\nO 0 2 0\nO 0 2 3\n"
WHOLE = f"3\n{CELL} {COLUMNS}\n{ROWS}"
FORCES = [[3, 0, 0], [0, 4, 0], [0, 0, 5]]


@pytest.fixture
def described(tmp_path, ltau):
    """Describe a text; what went to stderr, and what was stored."""
    (tmp_path / "own.py").write_text(NETWORK)

    def run(text, name="a.xyz", *words):
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
        out = tmp_path / "a.h5"
        network = f"python:{tmp_path}/own.py:describe"
        done = ltau("describe", tmp_path / name, "--network", network, "-o", out, "-f", *words)
        return done, contents(out) if done.code == 0 else None

    return run


@pytest.mark.parametrize("text", [
    WHOLE,
    f"\n{WHOLE}\n  \n",
    f"\ufeff{WHOLE}".replace("\n", "\r\n"),
    f"3\n{CELL.lower()} PROPERTIES=Species:S:1:Pos:R:3:Forces:R:3 PBC=T\n{ROWS}",
    f'3\n{CELL} {COLUMNS} stress="1 2 3 4 5 6" virial="1 0 0 0 1 0 0 0 1"\n{ROWS}',
    f'3\n{CELL} {COLUMNS} virial="1 2 3 4 5 6" note="stress=\\"1\\""\n{ROWS}',
])  # fmt: skip
def test_what_is_read_as_it_is_meant(text, described):
    done, found = described(text)
    assert done.err == "" or "reference energy" in done.err
    np.testing.assert_array_equal(found["reference_forces"], FORCES)
    np.testing.assert_array_equal(found["cell"], [9 * np.eye(3)])
    assert found["pbc"].all()


@pytest.mark.parametrize("between", ["\n", " \n\n"])
def test_frames_with_empty_lines_between_them(between, described, tmp_path, ltau):
    done, found = described(between.join([WHOLE] * 12))
    assert done.code == 0, done.err
    assert found["natoms"].tolist() == [3] * 12
    log = WHOLE.replace("forces:R:3", "REF_forces:R:3:pred_forces:R:3").replace("\nO", " 1 1 1\nO")
    log = log.replace("3 0 0 5", "3 0 0 5 1 1 1")
    (tmp_path / "eval_epoch_0.xyz").write_text(between.join([log] * 5))
    ltau.ok("ingest", tmp_path / "eval_epoch_0.xyz", "-o", tmp_path / "e.h5")
    assert contents(tmp_path / "e.h5")["errors"].shape == (1, 15)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{WHOLE}# end\n", "line 6: a frame begins with its number of atoms, not with '# end'"),
        (f"{WHOLE}4\n{CELL}\n{BARE}", "frame 1: on line 6 begins a frame of 4 atoms"),
        (f"2{WHOLE[1:]}", "line 5: a frame begins with its number of atoms"),
        (f"4{WHOLE[1:]}{WHOLE}", "frame 0, line 6: 1 columns"),
        (WHOLE.replace("\nO", "\n\nO", 1), "frame 0, line 4: 0 columns"),
        (f"3\n{CELL} {COLUMNS[:-11]}\n{ROWS}", "line 3: 7 columns, the header names 4"),
        (f"3\n{CELL}\n{ROWS}", "line 3: 7 columns, the header names 4"),
        (f"3\n{CELL} {COLUMNS}\n{BARE}", "line 3: 4 columns, the header names 7"),
        (f"3\n{CELL} {COLUMNS}:R\n{ROWS}", "is not NAME:TYPE:COLUMNS"),
        (f"3\n{CELL} Properties=species:S:1:forces:R:3\n{BARE}", "name no positions"),
        (f"3\n{CELL} Properties=id:S:1:pos:R:3\n{BARE}", "name no elements"),
        (f"3\n{CELL} {COLUMNS[:-11]}:fixed:L:3\n{ROWS}", "type L is neither T nor F"),
        (f"3\n{CELL} {CELL.lower()} {COLUMNS}\n{ROWS}", "has both Lattice and lattice"),
        (f'3\nlattice="9 9 9" {COLUMNS}\n{ROWS}', "lattice is not 9 numbers"),
        (f'3\n{CELL} {COLUMNS} stress="1 2 3"\n{ROWS}', "stress is array([1, 2, 3]), not 6 or 9"),
        (f'3\n{COLUMNS} pbc="T T T"\n{ROWS}', "frame 0 (line 1): it is periodic, but has no cell"),
        (f'3\nLattice="9 0 0 0 9 0 9 9 0" {COLUMNS}\n{ROWS}', "its cell does not span"),
        (WHOLE.replace("0 2 3", "0 2 nan"), "a position is NaN"),
        (WHOLE.replace("Cu", "Cu1"), "frame 0: it has the species 'Cu1'"),
        (WHOLE.replace("0 2 3", "0 2 " + "3.0D0" * 30), "D0'"),
        ("3\n i = 0, E = -1\nO .01 .02 0\nH 0 .01 0\nH 0 0 .03\n", "its columns are no positions"),
    ],
)  # fmt: skip
def test_what_is_refused(text, said, described):
    done, _ = described(text)
    check(done, INPUT, "a.xyz", said, hint="hint:" in done.err)


def test_forces_of_cp2k_are_no_positions(described):
    done, _ = described(f"3\n i = 0, E = -1\n{BARE}", "run-frc-1.xyz")
    check(done, INPUT, "run-frc-1.xyz", "by its name it holds forces or velocities")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("8\n\n" + "".join(f"Si 0 0 {i}\n" for i in range(8)), "no cell and no pbc are given"),
        (f"3\n{COLUMNS}\n{ROWS}", "no cell and no pbc are given"),
        ("64\nbox\n" + "".join(f"{'OHHH'[i % 4]} {i % 4 * 2} {i // 4 % 4 * 2} {i // 16 * 2}\n"
                               for i in range(64)), "a molecule of 64 atoms in vacuum"),
        (WHOLE.replace("Cu", "D"), "D is read as H"),
        (WHOLE.replace("Cu", "t"), "t is read as H"),
        ("2\nwith charges\nO 0 0 1 -1\nH 0 0 2 1\n", "5 columns, of which 4 are read"),
    ],
)  # fmt: skip
def test_what_is_told(text, said, described):
    done, found = described(text * 2)
    assert done.code == 0, done.err
    lines = [line for line in done.err.splitlines() if "frame 0" in line]
    assert len(lines) == 1
    assert said in lines[0]
    assert found["species"][0] in ("Si", "Cu", "O", "H")


@pytest.mark.parametrize("text", [
    f'3\n{COLUMNS} pbc="F F F"\n{ROWS}',
    "3\nwater\nO 0 0 0\nH 0 0 1\nH 0 1 0\n",
    f'3\nLattice="9 0 0 0 9 0 0 0 0" {COLUMNS} pbc="T T F"\n{ROWS}',
    "1\n\nCu 0 0 0\n",
])  # fmt: skip
def test_good_frames_bring_no_word(text, described):
    done, _ = described(text)
    assert (done.code, done.err) == (0, "")


def test_names_that_differ_by_case_are_known(described, tmp_path, ltau):
    text = WHOLE.replace("forces", "REF_Forces:R:3:Pred_forces").replace("\nO", " 1 1 1\nO")
    text = text.replace("3 0 0 5", "3 0 0 5 1 1 1")
    done, found = described(text)
    assert "(norm of the difference to REF_Forces)" in done.out
    np.testing.assert_array_equal(found["reference_forces"], FORCES)
    ltau.ok("ingest", tmp_path / "a.xyz", "-o", tmp_path / "e.h5")
    wanted = np.linalg.norm(np.subtract(FORCES, 1), axis=1)
    np.testing.assert_allclose(contents(tmp_path / "e.h5")["errors"], [wanted], rtol=1e-6)


# A force field's own forces


EMT_NETWORK = """
import numpy as np
from ase.calculators.emt import EMT

def describe(frames):
    forces = []
    for frame in frames:
        frame.calc = EMT()
        forces.append(frame.get_forces())
    forces = np.concatenate(forces)
    return {"descriptors": forces, "forces": forces}
"""


@pytest.fixture
def own(tmp_path, ltau):
    """Frames as a simulation writes them: with the forces of the calculator."""
    frames = []
    for seed in range(3):
        frame = bulk("Cu", cubic=True) * (2, 1, 1)
        frame.rattle(0.1, seed=seed)
        frame.calc = EMT()
        frame.calc = SinglePointCalculator(frame, forces=np.round(frame.get_forces(), 6), energy=1)
        frames.append(frame)
    (tmp_path / "emt.py").write_text(EMT_NETWORK)

    def run(*words):
        ase.io.write(tmp_path / "md.xyz", frames)
        network = f"python:{tmp_path}/emt.py:describe"
        return ltau(
            "describe", tmp_path / "md.xyz", "--network", network, "-o", tmp_path / "md.h5", *words
        )

    return frames, run


def test_the_forces_of_the_force_field_are_no_truth(own, tmp_path, ltau):
    frames, run = own
    check(run(), INPUT, "md.xyz", "the reference forces are the predicted ones")
    assert not (tmp_path / "md.h5").exists()
    assert "--reference-key" in run().err
    assert run("--reference-key", "none").code == 0
    assert "reference_forces" not in contents(tmp_path / "md.h5")
    for frame in frames:
        frame.arrays["dft"] = frame.calc.results["forces"] + 0.1
    done = run("--reference-key", "dft", "-f")
    assert "mean force error 0.173 eV/Å" in done.out
    for frame in frames:
        frame.arrays["pred_forces"] = frame.calc.results["forces"].round(5)
    ase.io.write(tmp_path / "eval_epoch_1.xyz", frames)
    out = tmp_path / "e.h5"
    result = ltau("ingest", tmp_path / "eval_epoch_1.xyz", "-o", out)
    check(result, INPUT, "eval_epoch_1.xyz", "the reference forces are the predicted ones")
    ltau.ok("ingest", tmp_path / "eval_epoch_1.xyz", "--reference-key", "dft", "-o", out)


def test_frames_with_scores_have_to_say_what_is_true(own, tmp_path, ltau):
    frames, run = own
    for frame in frames:
        frame.calc.results["forces"] += 0.1
        frame.arrays["ltau_expected_error"] = np.ones(len(frame))
    check(run(), INPUT, "md.xyz, frame 0: it carries scores (ltau_...)")
    assert run("--reference-key", "forces").code == 0
    for frame in frames:
        frame.arrays["pred_forces"] = np.zeros((len(frame), 3))
    ase.io.write(tmp_path / "eval_epoch_1.xyz", frames)
    words = ("ingest", tmp_path / "eval_epoch_1.xyz", "-o", tmp_path / "e.h5")
    check(ltau(*words), INPUT, "eval_epoch_1.xyz, frame 0: it carries scores")
    ltau.ok(*words, "--reference-key", "forces")
    for frame in frames:
        frame.arrays["REF_forces"] = np.ones((len(frame), 3))
    assert run("-f").code == 0
