"""True errors in every form, matched to the scored rows; every refusal through the command."""

import json

import ase.io
import h5py
import numpy as np
import pytest

from ltau_cli.errors import InputError
from ltau_cli.matching import Known
from ltau_cli.readers.place import Place
from ltau_cli.readers.truth import read_true_errors
from tests.helpers import INPUT, SAMPLE, check, same, save

FRAMES = SAMPLE / "test_300K.xyz"


@pytest.fixture
def scored(tmp_path, ltau):
    """A model of 40 samples, 60 rows with ids, their scores and true errors."""
    rng = np.random.default_rng(0)
    log, x = save(tmp_path / "log.npy", rng.random((5, 40))), rng.random((40, 3))
    errors, model = tmp_path / "errors.h5", tmp_path / "model.h5"
    ltau.ok("ingest", log, "-o", errors)
    ltau.ok("fit", errors, save(tmp_path / "x.npy", x), "-o", model)
    ids = np.array([f"atom {i}" for i in range(60)])
    np.savez(tmp_path / "rows.npz", descriptors=rng.random((60, 3)), sample_id=ids)
    scores = tmp_path / "scores.h5"
    ltau.ok("score", tmp_path / "rows.npz", "-m", model, "-o", scores)
    return scores, rng.random(60) + 0.1, ids


def write_csv(path, header, *columns):
    lines = [header, *(",".join(map(str, row)) for row in zip(*columns, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("form", ["csv", "jsonl", "npz", "h5"])
@pytest.mark.parametrize("numbers", [False, True])
def test_errors_are_matched_by_id_in_any_order(form, numbers, tmp_path):
    truth, order = np.arange(60) / 7, np.random.default_rng(2).permutation(60)
    ids = np.arange(60) + 100 if numbers else np.array([f"atom {i}" for i in range(60)])
    more = np.r_[ids[order], [7 if numbers else "of another set"]], np.r_[truth[order], 99.0]
    path = tmp_path / f"shuffled.{form}"
    if form == "csv":
        write_csv(path, "sample_id,error", *(values.tolist() for values in more))
    elif form == "jsonl":
        lines = zip(*(values.tolist() for values in more), strict=True)
        path.write_text("".join(json.dumps({"sample_id": i, "error": e}) + "\n" for i, e in lines))
    elif form == "npz":
        np.savez(path, sample_id=more[0], errors=more[1])
    else:
        with h5py.File(path, "w") as file:
            file["errors"], file["sample_id"] = more[1], more[0] if numbers else more[0].astype("S")
    same(read_true_errors(Place(path)).of(Known("rows", 60, {"sample_id": ids})).values, truth)


def test_ids_that_lack_or_are_there_twice(scored, tmp_path, ltau):
    scores, truth, ids = scored
    path = write_csv(tmp_path / "t.csv", "sample_id,error", ids[:58], truth[:58].tolist())
    check(ltau("evaluate", scores, path), INPUT, path, "2 rows", scores, "sample_id atom 58")
    path = write_csv(tmp_path / "t.csv", "sample_id,error", [*ids, "atom 7"], [*truth, 1.0])
    check(ltau("evaluate", scores, path), INPUT, path, "atom 7 is there more than once")
    np.savez(tmp_path / "t.npz", errors=truth, sample_id=ids[:59])
    result = ltau("evaluate", scores, f"{tmp_path}/t.npz:errors")
    check(result, INPUT, "sample_id", "shape (59,)", "60", hint=False)
    np.savez(tmp_path / "t.npz", errors=truth, sample_id=ids.reshape(30, 2))
    result = ltau("evaluate", scores, f"{tmp_path}/t.npz:errors")
    check(result, INPUT, "sample_id", "shape (30, 2)", hint=False)


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("", "is empty", False),
        ("id,e\na,1\n", "no column error; it has: id, e", True),
        ("id,error\na,1\n\nb,much\n", "line 4: the error is 'much', not a number", False),
        ("id,error\na,1\nb\n", "line 3: 1 columns, the first line has 2", False),
        ("1\n2\nx\n", "line 3: the value is 'x', not a number", False),
        ("error\n1\n2\n", "has 2 true errors", True),
        ("error\n", "has 0 true errors", True),
        ("error\n" + "1\n" * 58 + "-1\n1\n", "negative, the first is row 58", True),
        ("error\n" + "1\n" * 58 + "nan\ninf\n", "2 true errors are NaN or infinite", True),
    ],
)  # fmt: skip
def test_csv_that_cannot_be_meant(text, words, hint, scored, tmp_path, ltau):
    path = tmp_path / "t.csv"
    path.write_text(text)
    check(ltau("evaluate", scored[0], path), INPUT, path, words, hint=hint)
    check(ltau("calibrate", scored[0], path, "-o", tmp_path / "o.h5"), INPUT, path, hint=hint)
    assert not (tmp_path / "o.h5").exists()


def test_csv_that_is_no_text(scored, tmp_path, ltau):
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xff\xfe\x00")
    check(ltau("evaluate", scored[0], path), INPUT, path, "not a table", hint=False)
    check(ltau("evaluate", scored[0], tmp_path / "none.npy"), INPUT, "no such file", hint=False)


@pytest.fixture
def evaluated(pipeline, tmp_path):
    """The frames of the sample data with predicted forces that are off by the true errors."""
    truth = np.load(pipeline.true_errors).astype(float)
    rng = np.random.default_rng(0)
    frames, start = ase.io.read(FRAMES, ":"), 0
    for frame in frames:
        own = truth[start : start + len(frame)]
        start += len(frame)
        direction = rng.normal(size=(len(frame), 3))
        direction /= np.linalg.norm(direction, axis=1)[:, None]
        reference = rng.normal(size=(len(frame), 3))
        frame.calc = None
        frame.arrays["dft_forces"] = reference
        frame.arrays["nn_forces"] = reference + own[:, None] * direction
    path = tmp_path / "evaluated.xyz"
    ase.io.write(path, frames, format="extxyz")
    return path


KEYS = ("--reference-key", "dft_forces", "--prediction-key", "nn_forces")


def test_frames_hold_the_errors_and_the_species(evaluated, pipeline, ltau, tmp_path):
    (wanted,) = json.loads(ltau("evaluate", pipeline.scores, pipeline.true_errors, "--json").out)
    result = ltau.ok("evaluate", pipeline.scores, evaluated, *KEYS, "--json")
    (found,) = json.loads(result.out)
    for name in ("mean_true_error", "rank_correlation", "ause"):
        assert found["predictors"]["ltau"][name] == pytest.approx(
            wanted["predictors"]["ltau"][name], rel=1e-4
        )
    assert "rank_correlation_within_groups" in found["predictors"]["ltau"]
    fitted = tmp_path / "c.h5"
    words = ("calibrate", pipeline.scores, evaluated, *KEYS, "--group", "species", "-o", fitted)
    ltau.ok(*words)
    species = sorted({symbol for frame in ase.io.iread(FRAMES) for symbol in frame.symbols})
    with h5py.File(fitted) as file:
        assert file["groups"].asstr()[...].tolist() == species


def test_frames_that_cannot_be_meant(evaluated, scored, pipeline, ltau, tmp_path):
    result = ltau("evaluate", pipeline.scores, evaluated, "--reference-key", "none")
    check(result, INPUT, evaluated, "found no predicted and reference forces")
    check(ltau("evaluate", scored[0], evaluated, *KEYS), INPUT, "1,375 true errors", "60 rows")
    path = tmp_path / "t.xyz"
    path.write_text("nonsense\n")
    assert ltau("evaluate", pipeline.scores, path).code == INPUT


# Two atoms, predicted (3, 0, 0) and (0, 0, 0), true (0, 4, 0) and (0, 0, 2): errors 5 and 2.
PREDICTED, REFERENCE = [[3, 0, 0], [0, 0, 0]], [[0, 4, 0], [0, 0, 2]]


def write_gpumd(path):
    np.savetxt(path, np.hstack([PREDICTED, REFERENCE]))


def write_deepmd(path):
    header = "system: data_fx data_fy data_fz pred_fx pred_fy pred_fz"
    np.savetxt(path, np.hstack([REFERENCE, PREDICTED]), header=header)


def write_sevennet(path):
    header = [f"{side}_{x}" for side in ("force_of_atoms", "inferred_force") for x in "xyz"]
    lines = [",".join(["stct_id", "atom_id", "atomic_numbers", *header])]
    for i, (told, true) in enumerate(zip(PREDICTED, REFERENCE, strict=True)):
        lines.append(",".join(map(str, [0, i, 29, *true, *told])))
    path.write_text("\n".join(lines) + "\n")


def write_chgnet(path):
    frames = [
        {"mp_id": "m", "graph_id": str(i), "energy": {"ground_truth": 1.0, "prediction": 1.1},
         "force": {"ground_truth": [true], "prediction": [told]}}
        for i, (told, true) in enumerate(zip(PREDICTED, REFERENCE, strict=True))
    ]  # fmt: skip
    path.write_text(json.dumps(frames))


def write_described(path):
    with h5py.File(path, "w") as file:
        file["forces"], file["reference_forces"] = PREDICTED, REFERENCE


@pytest.mark.parametrize(("name", "write"), [
    ("force_test.out", write_gpumd),
    ("detail.f.out", write_deepmd),
    ("per_atom.csv", write_sevennet),
    ("test_result.json", write_chgnet),
    ("own.h5", write_described),
])  # fmt: skip
def test_forces_as_packages_write_them(name, write, tmp_path):
    write(tmp_path / name)
    found = read_true_errors(Place(tmp_path / name))
    assert found.values.tolist() == [5, 2]


@pytest.mark.parametrize("text", ["{}", "[1]", "no", '[{"force": {"prediction": [1]}}]', "[]"])
def test_json_of_others(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match="as CHGNet writes them"):
        read_true_errors(Place(tmp_path / "a.json"))
