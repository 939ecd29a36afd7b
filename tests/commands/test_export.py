"""``ltau export``: scores for other programs, read back by them."""

import csv
import gzip
import io
import json
import os
import resource
import subprocess
import sys

import ase.io
import h5py
import numpy as np
import pytest

from tests.helpers import ARTIFACT, INPUT, OUTPUT, SAMPLE, USAGE, check, finish, names, start

FRAMES = SAMPLE / "test_300K.xyz"
N, N_FRAMES, NATOMS = 1375, 25, 55


@pytest.fixture
def values(pipeline):
    """The datasets of the calibrated scores by name."""
    with h5py.File(pipeline.calibrated) as file:
        found = {name: item[...] for name, item in file.items() if isinstance(item, h5py.Dataset)}
        return found | {f"structures/{name}": v[...] for name, v in file["structures"].items()}


def read_csv(text, delimiter=","):
    rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    return {name: np.array(column, float) for name, *column in zip(*rows, strict=True)}


@pytest.mark.parametrize("more", [(), ("--threshold", 0.05, "--threshold", 0.1, "--cdf")])
def test_csv_is_what_score_writes_to_standard_output(more, pipeline, ltau, tmp_path):
    words = ("score", pipeline.descriptors, "-m", pipeline.model, "--natoms", pipeline.natoms)
    streamed = ltau(*words, *more, "-q", "-o", "-").out
    scores, out = tmp_path / "s.h5", tmp_path / "s.csv"
    ltau.ok(*words, *more, "-o", scores)
    ltau.ok("export", scores, "-o", out)
    assert out.read_text() == streamed
    result = ltau("export", scores)
    assert result.out == streamed
    assert result.err == "standard output: 1,375 rows as csv\n"


@pytest.mark.slow
def test_every_table_holds_the_same_rows(pipeline, values, ltau, tmp_path):
    for name in ("a.csv", "a.tsv", "a.CSV.gz", "a.jsonl", "a.jsonl.gz", "a.npz"):
        result = ltau.ok("export", pipeline.calibrated, "-o", tmp_path / name)
        kind = name.lower().split(".")[1]
        assert result.out == f"{tmp_path / name}: 1,375 rows as {kind}\n"
    with np.load(tmp_path / "a.npz") as file:
        exact = dict(file)
    np.testing.assert_array_equal(exact["row"], np.arange(N))
    for name in ("structure", "expected_error", "ood_pvalue", "calibrated_error", "in_calibration"):
        np.testing.assert_array_equal(exact[name], values[name])
        assert exact[name].dtype == values[name].dtype
    for j, level in enumerate(values["levels"]):
        np.testing.assert_array_equal(exact[f"error_bound_{level:g}"], values["error_bound"][:, j])
    np.testing.assert_array_equal(exact["uncertainty"], values["uncertainty"][:, 0])
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).decode().splitlines() == lines
    records = [json.loads(line) for line in lines]
    assert isinstance(records[0]["in_calibration"], bool)
    tables = [
        read_csv((tmp_path / "a.csv").read_text()),
        read_csv((tmp_path / "a.tsv").read_text(), "\t"),
        read_csv(gzip.decompress((tmp_path / "a.CSV.gz").read_bytes()).decode()),
        {name: np.array([record[name] for record in records]) for name in records[0]},
    ]
    for table in tables:
        assert list(table) == list(exact)
        for name, column in exact.items():
            np.testing.assert_allclose(table[name], column, rtol=1e-6)


def test_equal_scores_are_equal_files(pipeline, ltau, tmp_path):
    for name in ("a.npz", "a.csv.gz"):
        ltau.ok("export", pipeline.scores, "-o", tmp_path / name)
        first = (tmp_path / name).read_bytes()
        os.utime(pipeline.scores)
        ltau.ok("export", pipeline.scores, "-o", tmp_path / name, "--force")
        assert (tmp_path / name).read_bytes() == first


def test_npz_to_a_pipe(pipeline):
    words = [sys.executable, "-m", "ltau_cli", "export", str(pipeline.scores), "--format", "npz"]
    done = subprocess.run(words, capture_output=True, check=True)
    with np.load(io.BytesIO(done.stdout)) as file:
        assert file["row"].shape == (N,)


def test_columns_are_chosen_in_order(pipeline, ltau):
    result = ltau("export", pipeline.scores, "--columns", "ood_pvalue, row")
    assert result.out.splitlines()[0] == "ood_pvalue,row"
    check(
        ltau("export", pipeline.scores, "--columns", "row,error"), USAGE, "no column error",
        pipeline.scores,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["ood_pvalue < 0.01"], lambda v: v["ood_pvalue"] < 0.01),
        (["ood_pvalue<=0.05", "structure >= 3"],
         lambda v: (v["ood_pvalue"] <= 0.05) & (v["structure"] >= 3)),
        (["error_bound_0.9>0.07"], lambda v: v["error_bound"][:, 2] > 0.07),
        (["row==7"], lambda v: np.arange(N) == 7),
        (["in_calibration != 1"], lambda v: ~v["in_calibration"]),
        (["expected_error > 1e9"], lambda v: np.zeros(N, bool)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ending", ["csv", "npz"])
def test_rows_are_cut(where, expected, ending, pipeline, values, ltau, tmp_path):
    words = [word for text in where for word in ("--where", text)]
    out = tmp_path / f"a.{ending}"
    result = ltau("export", pipeline.calibrated, *words, "-o", out, "--columns", "row")
    rows = np.flatnonzero(expected(values))
    assert f": {len(rows):,} of 1,375 rows" in result.out
    found = np.load(out)["row"] if ending == "npz" else read_csv(out.read_text())["row"]
    np.testing.assert_array_equal(found, rows)


@pytest.mark.parametrize(
    ("text", "words"),
    [("ood_pvalue", "not COLUMN OP NUMBER"), ("ood_pvalue = 1", "not COLUMN OP NUMBER"),
     ("ood_pvalue < __import__('os')", "not a number"), ("ood_pvalue < nan", "not a number"),
     ("0.1 < ood_pvalue", "not a number"), ("", "not COLUMN OP NUMBER"),
     ("pvalue < 0.1", "no column pvalue"), ("a < 1 or b > 2", "not COLUMN OP NUMBER")],
)  # fmt: skip
def test_conditions_that_cannot_be_meant(text, words, pipeline, ltau, tmp_path):
    result = ltau("export", pipeline.scores, "--where", text, "-o", tmp_path / "a.csv")
    check(result, USAGE, words, hint=words != "not a number")
    assert names(tmp_path) == []


@pytest.fixture
def labelled(pipeline, ltau, tmp_path):
    """Scores with the species as text and the ids as numbers."""
    species = np.concatenate([f.get_chemical_symbols() for f in ase.io.iread(FRAMES)])
    ids = 1000 + np.arange(N)
    rows, out = tmp_path / "rows.npz", tmp_path / "labelled.h5"
    natoms = np.load(pipeline.natoms)
    vectors = np.load(pipeline.descriptors)
    np.savez(rows, descriptors=vectors, natoms=natoms, species=species, sample_id=ids)
    ltau.ok("score", rows, "-m", pipeline.model, "-o", out)
    return out, species, ids


def test_labels_are_columns(labelled, ltau, tmp_path):
    scores, species, ids = labelled
    for ending in ("npz", "csv", "jsonl", "tsv"):
        ltau.ok("export", scores, "-o", tmp_path / f"a.{ending}")
    with np.load(tmp_path / "a.npz") as file:
        assert list(file)[:4] == ["row", "structure", "group", "sample_id"]
        np.testing.assert_array_equal(file["group"], species)
        np.testing.assert_array_equal(file["sample_id"], ids)
        assert file["group"].dtype.kind == "U"
        assert file["sample_id"].dtype == np.int64
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [row["group"] for row in rows] == species.tolist()
    assert [row["sample_id"] for row in rows] == ids.astype(str).tolist()
    records = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [record["group"] for record in records] == species.tolist()
    assert [record["sample_id"] for record in records] == ids.tolist()
    few = ltau("export", scores, "--columns", "sample_id,group").out.splitlines()
    assert few[:2] == ["sample_id,group", f"1000,{species[0]}"]


def test_labels_go_into_frames(labelled, ltau, tmp_path):
    scores, species, ids = labelled
    out = tmp_path / "a.xyz"
    ltau.ok("export", scores, "--frames", FRAMES, "-o", out)
    frames = ase.io.read(out, ":")
    found = np.concatenate([frame.arrays["ltau_group"] for frame in frames])
    np.testing.assert_array_equal(found, species)
    found = np.concatenate([frame.arrays["ltau_sample_id"] for frame in frames])
    np.testing.assert_array_equal(found, ids)


@pytest.mark.parametrize("label", ["Cu bulk", "", "Å 1"])
def test_labels_of_many_words_would_break_a_line_of_a_frame(label, pipeline, ltau, tmp_path):
    labels = np.full(N, "Cu", "U20")
    labels[700] = label
    np.save(tmp_path / "g.npy", labels)
    scores, out = tmp_path / "s.h5", tmp_path / "a.xyz"
    words = ("score", pipeline.descriptors, "--natoms", pipeline.natoms, "-m", pipeline.model)
    ltau.ok(*words, "--group", tmp_path / "g.npy", "-o", scores)
    result = ltau("export", scores, "--frames", FRAMES, "-o", out)
    check(result, INPUT, "ltau_group", repr(label), "not one word")
    assert not out.exists()
    words = ("export", scores, "--frames", FRAMES, "-o", out, "--columns", "expected_error")
    ltau.ok(*words)
    for ending in ("npz", "csv"):
        ltau.ok("export", scores, "-o", tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["group"], labels)
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["group"] for row in rows] == labels.tolist()


def test_labels_of_whole_frames(pipeline, ltau, tmp_path):
    rows = np.load(pipeline.descriptors)[::NATOMS]
    names = np.array([f"frame {i}" for i in range(N_FRAMES)])
    np.savez(tmp_path / "rows.npz", descriptors=rows, sample_id=names)
    scores, out = tmp_path / "s.h5", tmp_path / "a.xyz"
    ltau.ok("score", tmp_path / "rows.npz", "-m", pipeline.model, "-o", scores)
    ltau.ok("export", scores, "--frames", FRAMES, "-o", out)
    found = [frame.info["ltau_sample_id"] for frame in ase.io.iread(out)]
    assert found == names.tolist()


@pytest.mark.parametrize("ending", ["csv", "npz"])
@pytest.mark.parametrize(("sign", "wanted"), [("==", True), ("!=", False)])
def test_rows_are_cut_by_their_labels(sign, wanted, ending, labelled, ltau, tmp_path):
    scores, species, _ = labelled
    out, name = tmp_path / f"a.{ending}", species[0]
    words = ("export", scores, "-o", out, "--columns", "row", "--where")
    ltau.ok(*words, f"group{sign} {name}", "--where", "sample_id >= 1100")
    found = np.load(out)["row"] if ending == "npz" else read_csv(out.read_text())["row"]
    rows = np.flatnonzero((species == name) == wanted)
    np.testing.assert_array_equal(found, rows[rows >= 100])


def test_text_is_not_less_or_more(labelled, ltau, tmp_path):
    words = ("export", labelled[0], "-o", tmp_path / "a.csv", "--where")
    result = ltau(*words, "group < Cu")
    check(result, USAGE, "group holds text, which is compared by == or !=", hint=False)
    check(ltau(*words, "sample_id == Cu"), USAGE, "Cu is not a number", hint=False)
    result = ltau("select", labelled[0], "-n", 3, "--column", "group", "-o", tmp_path / "a.txt")
    check(result, USAGE, labelled[0], "group", "holds text")
    assert not (tmp_path / "a.txt").exists()


def test_frames_come_back_with_scores(pipeline, values, ltau, tmp_path):
    own = ase.io.read(FRAMES, ":")
    own[3].info["name"] = "of my own"
    own[4].set_cell(np.eye(3) * 30)
    own[4].pbc = (True, False, True)
    own[5].calc = ase.calculators.singlepoint.SinglePointCalculator(
        own[5], energy=-1.5, forces=np.full((NATOMS, 3), 0.25)
    )
    ase.io.write(tmp_path / "own.xyz", own)
    words = ("export", pipeline.calibrated, "--frames", tmp_path / "own.xyz")
    result = ltau.ok(*words, "-o", tmp_path / "scored.xyz")
    assert "25 frames as extxyz" in result.out
    frames = ase.io.read(tmp_path / "scored.xyz", ":")
    assert len(frames) == N_FRAMES
    arrays = {
        "ltau_expected_error": values["expected_error"],
        "ltau_uncertainty": values["uncertainty"][:, 0],
        "ltau_quantile_95": values["quantiles"][:, 2],
        "ltau_ood_pvalue": values["ood_pvalue"],
        "ltau_calibrated_error": values["calibrated_error"],
        "ltau_error_bound_90": values["error_bound"][:, 2],
        "ltau_in_calibration": values["in_calibration"],
    }
    info = {
        "ltau_expected_error_max": values["structures/expected_error_max"],
        "ltau_uncertainty_mean": values["structures/uncertainty_mean"][:, 0],
        "ltau_out_of_domain_share": values["structures/out_of_domain_share"],
    }
    for i, (frame, before) in enumerate(zip(frames, own, strict=True)):
        for name, expected in arrays.items():
            np.testing.assert_allclose(
                frame.arrays[name], expected[i * NATOMS : (i + 1) * NATOMS], atol=1e-8
            )
        for name, expected in info.items():
            assert frame.info[name] == pytest.approx(expected[i], rel=1e-6)
        for name in before.arrays:
            np.testing.assert_allclose(frame.arrays[name], before.arrays[name], atol=1e-8)
        assert before.info.items() <= frame.info.items()
        np.testing.assert_array_equal(frame.cell, before.cell)
        np.testing.assert_array_equal(frame.pbc, before.pbc)
    assert not any(name.startswith(("ltau_cdf", "ltau_row")) for name in frames[0].arrays)
    assert frames[5].get_potential_energy() == -1.5
    np.testing.assert_array_equal(frames[5].get_forces(), 0.25)
    # what was exported can be exported to again, compressed
    again = ("export", pipeline.scores, "--frames", tmp_path / "scored.xyz")
    ltau.ok(*again, "-o", tmp_path / "again.xyz.gz", "--columns", "ood_pvalue")
    with gzip.open(tmp_path / "again.xyz.gz", "rt") as file:
        assert len(ase.io.read(file, ":", format="extxyz")) == N_FRAMES


def test_frames_are_kept_if_any_of_their_atoms_is(pipeline, values, ltau, tmp_path):
    kept = np.unique(values["structure"][values["ood_pvalue"] < 0.01])
    assert 0 < len(kept) < N_FRAMES
    words = ("export", pipeline.calibrated, "--where", "ood_pvalue < 0.01", "-o")
    result = ltau(*words, tmp_path / "a.xyz", "--frames", FRAMES)
    assert f"{len(kept)} of 25 frames" in result.out
    own = ase.io.read(FRAMES, ":")
    for frame, i in zip(ase.io.read(tmp_path / "a.xyz", ":"), kept, strict=True):
        np.testing.assert_allclose(frame.positions, own[i].positions, atol=1e-8)
    result = ltau(*words, tmp_path / "model_devi.out", "--every", 10)
    assert f"{len(kept)} of 25 frames" in result.out
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "model_devi.out")[:, 0], 10 * kept)


def score_alone(pipeline, ltau, rows, tmp_path):
    """Scores of the first rows, with nobody saying what their structures are."""
    np.save(tmp_path / "rows.npy", np.load(pipeline.descriptors)[:rows])
    out = tmp_path / f"alone_{rows}.h5"
    words = ("score", tmp_path / "rows.npy", "-m", pipeline.model, "-o", out, "--threshold", 0.05)
    ltau.ok(*words, "--threshold", 0.1)
    return out


def test_frames_tell_the_atoms_that_the_scores_do_not(pipeline, ltau, tmp_path):
    atoms = score_alone(pipeline, ltau, N, tmp_path)
    ltau.ok("export", atoms, "--frames", FRAMES, "-o", tmp_path / "a.xyz")
    frame = ase.io.read(tmp_path / "a.xyz")
    assert frame.arrays["ltau_uncertainty_0_05"].shape == (NATOMS,)
    rows = score_alone(pipeline, ltau, N_FRAMES, tmp_path)
    ltau.ok("export", rows, "--frames", FRAMES, "-o", tmp_path / "b.xyz")
    with h5py.File(rows) as file:
        expected = file["expected_error"][...]
    found = [frame.info["ltau_expected_error"] for frame in ase.io.read(tmp_path / "b.xyz", ":")]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    result = ltau("export", rows, "-o", tmp_path / "model_devi.out")
    assert "every row counts as a frame" in result.out
    table = np.loadtxt(tmp_path / "model_devi.out")
    np.testing.assert_allclose(table[:, 4:], np.repeat(expected[:, None], 3, axis=1), rtol=1e-6)


def test_frames_that_do_not_match(pipeline, ltau, tmp_path):
    own = ase.io.read(FRAMES, ":")
    other = tmp_path / "other.xyz"
    words = ("export", pipeline.scores, "-o", tmp_path / "a.xyz", "--frames", other)
    ase.io.write(other, own[:-1])
    check(ltau(*words), INPUT, other, "24 frames", "25 structures")
    ase.io.write(other, [*own[:7], own[7][:50], *own[8:]])
    check(ltau(*words), INPUT, f"{other}, frame 7", "50 atoms")
    ase.io.write(other, [*own[:-1], own[-1] + own[-1][:1]])
    check(ltau(*words), INPUT, other, "1,376 atoms", "1,375 rows")
    alone = score_alone(pipeline, ltau, 100, tmp_path)
    result = ltau("export", alone, "--frames", FRAMES, "-o", tmp_path / "a.xyz")
    check(result, INPUT, FRAMES, "25 frames with 1,375 atoms", "100 rows")
    check(ltau(*words[:-1], tmp_path / "no.xyz"), INPUT, "no.xyz", hint=False)
    assert "a.xyz" not in names(tmp_path)


def test_model_devi_is_laid_out_like_that_of_deepmd(pipeline, values, ltau, tmp_path):
    out = tmp_path / "model_devi.out"
    result = ltau("export", pipeline.calibrated, "-o", out)
    assert (
        result.out
        == f"{out}: 25 frames as model-devi, max, min and mean calibrated_error of each\n"
    )
    header, *lines = out.read_text().splitlines()
    assert header.lstrip("#").split() == [
        "step", "max_devi_v", "min_devi_v", "avg_devi_v", "max_devi_f", "min_devi_f", "avg_devi_f",
    ]  # fmt: skip
    assert header[0] == "#"
    assert {len(line) for line in (header, *lines)} == {12 + 6 * 19}
    table = np.loadtxt(out)
    errors = values["calibrated_error"].reshape(N_FRAMES, NATOMS)
    expected = [np.arange(N_FRAMES), *np.zeros((3, N_FRAMES))]
    expected += [errors.max(axis=1), errors.min(axis=1), errors.mean(axis=1)]
    np.testing.assert_allclose(table, np.transpose(expected), rtol=1e-6)
    plain = ltau("export", pipeline.scores, "--format", "model-devi")
    table = np.loadtxt(io.StringIO(plain.out))
    errors = values["expected_error"].reshape(N_FRAMES, NATOMS)
    np.testing.assert_allclose(table[:, 4], errors.max(axis=1), rtol=1e-6)


def test_structures_in_any_order(pipeline, ltau, tmp_path):
    rng = np.random.default_rng(0)
    rows = np.load(pipeline.descriptors)
    label = rng.permutation(np.repeat(np.arange(N_FRAMES), NATOMS))
    np.savez(tmp_path / "rows.npz", descriptors=rows, structure=label)
    scores = tmp_path / "s.h5"
    ltau.ok("score", tmp_path / "rows.npz", "-m", pipeline.model, "-o", scores)
    table = np.loadtxt(io.StringIO(ltau("export", scores, "--format", "model-devi").out))
    with h5py.File(scores) as file:
        structure, errors = file["structure"][...], file["expected_error"][...]
    expected = [errors[structure == i].min() for i in range(N_FRAMES)]
    np.testing.assert_allclose(table[:, 5], expected, rtol=1e-6)
    result = ltau("export", scores, "--frames", FRAMES, "--format", "extxyz")
    check(result, INPUT, FRAMES, "are not the rows of structure")


@pytest.mark.parametrize(("at", "value"), [(5, -1), (5, 10**9), (slice(55, 110), 0)])
def test_damaged_structures(at, value, pipeline, ltau, tmp_path):
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(pipeline.scores.read_bytes())
    with h5py.File(damaged, "r+") as file:
        file["structure"][at] = value
    check(ltau("export", damaged, "--format", "model-devi"), ARTIFACT, damaged, "structures")


@pytest.mark.parametrize(("words", "said", "hint"), [
    (("-o", "scores.dat"), "cannot tell the format of scores.dat", True),
    (("-o", "scores"), "cannot tell the format", True),
    (("-o", "scores.npz.gz"), "not compressed further", True),
    (("-o", "a.xyz"), "needs the frames", True),
    (("-o", "a.csv", "--frames", FRAMES), "--frames belongs to extxyz", False),
    (("-o", "a.out", "--columns", "row"), "fixed", True),
    (("-o", "a.csv", "--every", "5"), "--every belongs to model-devi", False),
    (("-o", "-", "--json"), "standard output", True),
])  # fmt: skip
def test_options_that_do_not_go_together(words, said, hint, pipeline, ltau, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check(ltau("export", pipeline.scores, *words), USAGE, said, hint=hint)
    assert names(tmp_path) == []


def test_other_artifacts_are_refused(pipeline, ltau):
    check(ltau("export", pipeline.model), ARTIFACT, pipeline.model, "of kind model")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.npz", "a.xyz"])
def test_a_full_quota_is_one_clear_line(name, pipeline, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    out = tmp_path / name
    words = ("export", pipeline.calibrated, "-o", out)
    words += ("--frames", FRAMES) if name == "a.xyz" else ()
    result = finish(start(*words, preexec_fn=limit))
    check(result, OUTPUT, f"cannot write {out}: File too large")
    assert names(tmp_path) == []


@pytest.mark.slow
def test_a_full_standard_output_is_one_clear_line(pipeline):
    for command in (
        f"export {pipeline.scores}",
        f"export {pipeline.scores} --format npz",
        f"score {pipeline.descriptors} -m {pipeline.model} -o -",
    ):
        line = f"{sys.executable} -m ltau_cli {command} > /dev/full"
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == OUTPUT
        first, *_, hint = done.stderr.splitlines()
        assert first == "error: cannot write standard output: No space left on device"
        assert hint.startswith("hint: ")


@pytest.mark.slow
@pytest.mark.parametrize("more", ["", "--format npz", f"--format extxyz --frames {FRAMES}"])
def test_a_reader_that_has_seen_enough(more, pipeline):
    line = f"{sys.executable} -m ltau_cli export {pipeline.calibrated} -q {more} | head -c 100"
    done = subprocess.run(["sh", "-c", line], capture_output=True, check=False)
    assert len(done.stdout) == 100
    assert done.stderr == b""


def test_json_summary(pipeline, ltau, tmp_path):
    out = tmp_path / "a.csv"
    result = ltau("export", pipeline.scores, "-o", out, "--columns", "row", "--json")
    assert json.loads(result.out) == {
        "output": str(out), "format": "csv", "n": N, "of": N, "unit": "rows", "columns": ["row"],
    }  # fmt: skip
