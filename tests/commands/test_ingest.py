"""Every log that people have goes in, value for value, or is refused with a reason."""

import gzip
import io
import os
import pickle
import resource

import ase.io
import h5py
import numpy as np
import pytest

from ltau_cli.readers.logs.open import FORMATS
from tests.helpers import (
    COMPUTE,
    INPUT,
    SAMPLE,
    USAGE,
    check,
    contents,
    evaluated,
    finish,
    frames_of,
    long_rows,
    norm_of,
    random_log,
    same,
    save,
    start,
    stored,
    write_folder,
    write_long,
)

# Several runs


def test_folders_are_runs(tmp_path, ingest):
    runs = [random_log(n, 6, seed=n) for n in (3, 5)]
    folders = [write_folder(tmp_path / f"seed{i}/logs", run) for i, run in enumerate(runs)]
    got = ingest(*folders)
    same(got["errors"], stored(np.concatenate(runs)))
    assert got["run"].tolist() == [0] * 3 + [1] * 5
    assert got["epoch"].tolist() == [0, 1, 2, 0, 1, 2, 3, 4]


def test_files_of_different_formats_are_runs(tmp_path, ingest):
    runs = [random_log(n, 6, seed=n) for n in (3, 4, 5)]
    got = ingest(
        write_folder(tmp_path / "a", runs[0]),
        save(tmp_path / "b.npy", runs[1]),
        write_long(tmp_path / "c.csv", long_rows(runs[2])),
    )
    same(got["errors"], stored(np.concatenate(runs)))
    assert got["run"].tolist() == [0] * 3 + [1] * 4 + [2] * 5


def test_runs_with_other_counts(tmp_path, refused):
    a = write_folder(tmp_path / "a", np.ones((2, 6)))
    b = write_folder(tmp_path / "b", np.ones((2, 7)))
    refused([a, b], ["b/errors_epoch_0.npy has 7 samples", "has 6"])
    np.savez(tmp_path / "log.npz", a=np.ones((2, 6)), b=np.ones((3, 7)))
    refused([tmp_path / "log.npz"], ["log.npz:b", "7 samples", "6"])


@pytest.mark.parametrize("ids", [([1, 2, 3], [1, 2, 4]), ([0, 1, 2], [5, 6, 7]),
                                 ([5, 6, 7], [0, 1, 2])])  # fmt: skip
def test_runs_with_other_ids(ids, tmp_path, ingest, refused):
    paths = [
        write_long(tmp_path / f"{i}.csv", long_rows(random_log(3, 3), own))
        for i, own in enumerate(ids)
    ]
    refused(paths, ["1.csv", "0.csv", "sample_id"], hint=None)
    got = ingest(paths[1], paths[1])
    same(got["errors"], stored(np.r_[random_log(3, 3), random_log(3, 3)]))
    assert got["run"].tolist() == [0] * 3 + [1] * 3


def test_no_file_is_left_out_where_a_format_is_forced(tmp_path, ingest):
    """Logs of three samples look like per-epoch vectors."""
    logs = [np.random.default_rng(i).random((5, 3)) for i in range(2)]
    paths = [save(tmp_path / f"run_{i}.npy", log) for i, log in enumerate(logs)]
    got = ingest(*paths, "--format", "array")
    same(got["errors"], stored(np.concatenate(logs)))
    assert got["run"].tolist() == [0] * 5 + [1] * 5


# Options

EPOCHS = [0, 1, 2, 3, 5, 8, 10, 12, 20, 21]


@pytest.mark.parametrize(
    ("bounds", "kept"),
    [
        (":", EPOCHS),
        ("2:", EPOCHS[2:]),
        (":8", [0, 1, 2, 3, 5]),
        ("3:12", [3, 5, 8, 10]),
        ("0::5", [0, 5, 10, 20]),
        ("2:21:3", [2, 5, 8, 20]),
        ("-2:", [20, 21]),
        ("-10:-1", [12, 20]),
        (":-10", [0, 1, 2, 3, 5, 8, 10]),
    ],
)
def test_epochs(bounds, kept, tmp_path, ingest):
    log = random_log(len(EPOCHS), 4, holes=0)
    folder = write_folder(tmp_path / "logs", log, epochs=EPOCHS)
    got = ingest(folder, "--epochs", bounds)
    assert got["epoch"].tolist() == kept
    same(got["errors"], stored(log[[EPOCHS.index(e) for e in kept]]))
    table = write_long(tmp_path / "log.csv", long_rows(log, epochs=EPOCHS))
    assert ingest(table, f"--epochs={bounds}")["epoch"].tolist() == kept


def test_epochs_of_each_run(tmp_path, ingest):
    np.savez(tmp_path / "log.npz", a=np.ones((4, 3)), b=np.ones((6, 3)))
    got = ingest(tmp_path / "log.npz", "--epochs", "-2:")
    assert got["epoch"].tolist() == [2, 3, 4, 5]
    assert got["run"].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("value", ["5", "a:b", "1:2:0", "1:2:-1", "1:2:3:4", ""])
def test_epochs_that_cannot_be_meant(value, tmp_path, refused):
    path = save(tmp_path / "log.npy", np.ones((3, 3)))
    refused([path, "--epochs", value], "START:STOP:STEP", code=USAGE)
    refused([path, "--epochs", "7:"], "no epoch is left", code=COMPUTE)


def test_missing_values_by_name(tmp_path, ingest, refused):
    log = np.array([[1, 2, 99], [-1, 3, 0.1], [4, 0.1, 5]], dtype=np.float32)
    path = save(tmp_path / "log.npy", log)
    refused([path], "negative (-1)")
    got = ingest(path, "--missing", -1, "--missing", 99, "--missing", 0.1)
    same(got["errors"], [[1, 2, np.nan], [np.nan, 3, np.nan], [4, np.nan, 5]])
    table = write_long(tmp_path / "log.csv", long_rows(log.astype(float)))
    got = ingest(table, "--missing", -1, "--missing", 99)
    same(got["errors"], stored(log, missing=(-1, 99)))


def test_missing_vectors(tmp_path, ingest):
    """A vector of sentinels is missing, whatever its norm."""
    vectors = np.random.default_rng(0).normal(size=(3, 5, 3))
    vectors[1, 2] = -99
    wanted = stored([[norm_of(v) for v in row] for row in vectors])
    wanted[1, 2] = np.nan
    same(ingest(save(tmp_path / "log.npy", vectors), "--missing", -99)["errors"], wanted)
    folder = write_folder(tmp_path / "logs", vectors)
    same(ingest(folder, "--missing", -99)["errors"], wanted)


def test_labels_from_files(tmp_path, ingest):
    path = save(tmp_path / "log.npy", random_log(3, 5))
    (tmp_path / "group.txt").write_text("a\nb\na\nb\nÅ\n", encoding="utf-8")
    got = ingest(
        path,
        "--natoms", save(tmp_path / "natoms.npy", [2, 3]),
        "--group", tmp_path / "group.txt",
        "--sample-id", save(tmp_path / "id.npy", [5, 4, 3, 2, 1]),
        "--magnitude", save(tmp_path / "y.npy", [-1.5, 2, 0, 1, 3]),
        "--units", "meV/Å",
    )  # fmt: skip
    same(got["structure"], [0, 0, 1, 1, 1])
    assert got["group"].tolist() == ["a", "b", "a", "b", "Å"]
    same(got["sample_id"], [5, 4, 3, 2, 1])
    same(got["magnitude"], np.float32([1.5, 2, 0, 1, 3]))
    with h5py.File(tmp_path / "out/errors.h5") as file:
        assert file.attrs["units"] == "meV/Å"
        assert file["errors"].attrs["units"] == "meV/Å"
        assert file["magnitude"].attrs["units"] == "meV/Å"


def test_labels_inside_files(tmp_path, ingest):
    path = save(tmp_path / "log.npy", random_log(3, 4))
    vectors = np.random.default_rng(0).normal(size=(4, 3))
    with h5py.File(tmp_path / "labels.h5", "w") as file:
        file["y"] = vectors
        file["kind"] = ["bulk", "slab", "slab", "bulk"]
    np.savez(tmp_path / "labels.npz", id=[9, 8, 7, 6], other=[0])
    got = ingest(path, "--magnitude", f"{tmp_path / 'labels.h5'}:y",
                 "--group", f"{tmp_path / 'labels.h5'}:/kind",
                 "--sample-id", f"{tmp_path / 'labels.npz'}:id")  # fmt: skip
    np.testing.assert_allclose(got["magnitude"], np.linalg.norm(vectors, axis=1), rtol=1e-6)
    assert got["group"].tolist() == ["bulk", "slab", "slab", "bulk"]
    same(got["sample_id"], [9, 8, 7, 6])


def test_frames_give_structures_and_species(tmp_path, ingest):
    frames = frames_of((3, 2))
    ase.io.write(tmp_path / "train.xyz", frames)
    got = ingest(save(tmp_path / "log.npy", random_log(3, 5)), "--frames", tmp_path / "train.xyz")
    same(got["structure"], [0, 0, 0, 1, 1])
    assert got["species"].tolist() == [s for f in frames for s in f.get_chemical_symbols()]
    assert got["config_type"].tolist() == ["bulk"] * 3 + ["slab"] * 2


def test_frames_tell_how_many_samples_there_are(tmp_path, ingest, refused):
    """NequIP's log ends at the largest training id; the atoms behind it were held out."""
    ase.io.write(tmp_path / "train.xyz", frames_of((3, 4)))
    folder = write_folder(tmp_path / "logs", np.ones((2, 5)), "train_force_errors_epoch_{}.npy")
    for words in (["--frames", tmp_path / "train.xyz"],
                  ["--natoms", save(tmp_path / "natoms.npy", [3, 4])]):  # fmt: skip
        refused([folder, *words], ["2 of 7 samples", "sample 5"])
        got = ingest(folder, *words, "--allow-missing")
        assert got["errors"].shape == (2, 7)
        assert got["n_logged"].tolist() == [2] * 5 + [0] * 2
        same(got["structure"], [0] * 3 + [1] * 4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--group", "four.npy"], ["four.npy", "4 values", "5 samples"]),
        (["--sample-id", "four.npy"], ["four.npy", "4 values", "5 samples"]),
        (["--magnitude", "four.npy"], ["four.npy", "4 values", "5 samples"]),
        (["--natoms", "four.npy"], ["four.npy", "4 atoms", "5"]),
        (["--natoms", "six.npy"], ["six.npy", "6", "5"]),
        (["--frames", "six.xyz"], ["six.xyz", "6", "5"]),
    ],
)
def test_labels_of_another_count(words, said, tmp_path, refused):
    """A plain array does not end early: more atoms than samples are a mistake."""
    save(tmp_path / "four.npy", [1, 1, 1, 1])
    save(tmp_path / "six.npy", [2, 4])
    ase.io.write(tmp_path / "six.xyz", frames_of((2, 4)))
    path = save(tmp_path / "log.npy", random_log(3, 5))
    refused([path, words[0], tmp_path / words[1]], said, hint=None)


def test_labels_that_cannot_be_meant(tmp_path, refused):
    path = save(tmp_path / "log.npy", random_log(3, 5))
    bad = save(tmp_path / "bad.npy", [1, 2, np.nan, 4, 5])
    wide = save(tmp_path / "wide.npy", np.ones((5, 2)))
    refused([path, "--magnitude", bad], [bad, "NaN"])
    refused([path, "--magnitude", wide], [wide, "(5, 2)"], hint=False)
    refused([path, "--group", wide], [wide, "(5, 2)"], hint=False)
    refused([path, "--group", tmp_path / "none.txt"], "none.txt: no such file", hint=False)
    refused([path, "--natoms", save(tmp_path / "n.npy", [2.5, 2.5])], "whole", hint=False)


def test_list_formats(ltau):
    result = ltau("ingest", "--list-formats")
    assert result.code == 0
    assert [line.split()[0] for line in result.out.splitlines()] == list(FORMATS)


def test_forced_format(tmp_path, ingest, refused):
    path = write_long(tmp_path / "log.csv", [(0, 1, 2), (3, 4, 5)])
    same(ingest(path, "--format", "wide-table")["errors"], [[1, 2], [4, 5]])
    refused([path, "--format", "parquet"], "parquet", code=USAGE)
    folder = tmp_path / "logs"
    write_folder(folder, np.ones((2, 3)), "errors_{}.npy")
    for epoch in range(2):
        write_long(folder / f"table_{epoch}.csv", [(0, 7), (1, 8)], ("sample", "error"))
    same(ingest(folder)["errors"], np.ones((2, 3)))
    same(ingest(folder, "--format", "long-table")["errors"], [[7, 8], [7, 8]])


@pytest.mark.parametrize("kind", ["array", "epoch-arrays", "frames", "long-table", "wide-table"])
def test_a_forced_format_that_is_wrong_is_refused(kind, tmp_path, ltau):
    evaluated(tmp_path / "eval", ("MACE_forces", "REF_forces"))
    write_folder(tmp_path / "logs", np.ones((2, 3)))
    for path, right in (
        (tmp_path / "logs", "epoch-arrays"),
        (save(tmp_path / "log.npy", np.ones((2, 5))), "array"),
        (tmp_path / "eval", "frames"),
    ):
        result = ltau("ingest", path, "--format", kind, "-o", tmp_path / "o.h5", "--force")
        if kind == right:
            assert result.code == 0
        else:
            assert result.code == INPUT, result.err
            assert result.err.startswith("error: ")


# Refusals


def write_files(folder, files):
    """Write arrays, texts and archives of arrays; return the first file, or the folder it is in."""
    first = next(iter(files))
    for name, content in files.items():
        path = folder / name
        (path if name == "logs/" else path.parent).mkdir(exist_ok=True)
        if isinstance(content, str | bytes):
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        elif name.endswith(".h5"):
            with h5py.File(path, "w") as file:
                file.update(content)
        elif isinstance(content, dict):
            np.savez(path, **content)
        elif content is not None:
            save(path, content)
    return f"{folder}/{first.split('/')[0]}" + "/" * ("/" in first)


def logs(**arrays):
    return {f"logs/{name}.npy": values for name, values in arrays.items()}


def twice(epoch):
    return logs(errors_epoch_0=epoch, errors_epoch_1=epoch)


def saved(*array, **arrays):
    """The bytes of a .npy or .npz file."""
    file = io.BytesIO()
    (np.savez if arrays else np.save)(file, *array, **arrays)
    return file.getvalue()


LONG = saved(np.ones((5, 100)))
GZ = gzip.compress(b"epoch,sample,error\n" + b"0,0,1\n" * 2000)
HEADER = "epoch,sample,error\n"
FORCES_ALONE = {"logs/": None, "logs/forces_0.npy": [1.0], "logs/forces_1.npy": [1.0]}
REFUSALS = {
    "shape of an epoch": (twice(np.ones((3, 4))), ["epoch_0.npy", "(3, 4)"], False),
    "dimensions of an epoch": (twice(np.ones((3, 3, 3))), ["(3, 3, 3)"], False),
    "empty epochs": (twice([]), ["epoch_0.npy", "empty"], False),
    "negative id": (twice([[0, 1.0], [-1, 1]]), ["epoch_0.npy", "row 1", "-1"], True),
    "broken id": (twice([[0.5, 1.0], [1, 1]]), ["row 0", "0.5"], True),
    "NaN id": (twice([[0, 1.0], [np.nan, 1]]), ["row 1", "nan"], True),
    "huge id": (twice([[0, 1.0], [1e12, 1]]), ["1,000,000,000,000", "2 rows"], True),
    "everything missing": (twice([np.nan, np.inf]), ["every error is missing"], False),
    "text": (twice(["a", "b"]), ["epoch_0.npy", "not numbers"], False),
    "complex": (twice([1j, 2j]), ["complex128", "not numbers"], False),
    "no such quantity": (FORCES_ALONE, ["of energy errors"], False),
    "no column": ({"a.csv": "epoch,sample,value\n0,0,1\n"}, ["a.csv", "error"], True),
    "not a number": ({"a.csv": HEADER + "0,0,1\n0,1,big\n"}, ["a.csv, line 3", "error", "'big'"],
                     False),
    "broken epoch": ({"a.csv": HEADER + "0.5,0,1\n"}, ["line 2", "epoch", "0.5", "whole"], False),
    "no epoch in a row": ({"a.csv": HEADER + ",0,1\n"}, ["line 2", "epoch"], False),
    "ragged": ({"a.csv": HEADER + "0,0,1\n0,1\n"}, ["line 3", "2 columns"], False),
    "no id": ({"a.csv": HEADER + "0,0,1\n0,,1\n"}, ["line 3", "sample"], None),
    "negative": ({"a.csv": HEADER + "4,0,1\n4,1,-2\n"}, ["a.csv, epoch 4", "sample 1", "-2"], True),
    "no header line": ({"a.csv": "0,0,1\n0,1,2\n"}, ["a.csv", "no header"], True),
    "empty table": ({"a.csv": ""}, ["a.csv", "empty"], False),
    "only a header": ({"a.csv": HEADER}, ["a.csv", "empty"], False),
    "only a wide header": ({"a.csv": "epoch,s0,s1,s2\n"}, ["a.csv", "empty"], False),
    "not text": ({"a.csv": b"\x80\x81,\xff\n"}, ["a.csv", "not a table"], False),
    "NUL": ({"a.csv": HEADER + "0,0,\0\n"}, ["a.csv"], False),
    "not gzip": ({"a.csv.gz": b"epoch"}, ["a.csv.gz", "not a table"], False),
    "gzip cut short": ({"a.csv.gz": GZ[: len(GZ) // 2]}, ["a.csv.gz", "cut short"], False),
    "not JSON": ({"a.jsonl": '{"epoch":0,"sample":0,"error":1}\n{"epo'},
                 ["a.jsonl, line 2", "not JSON"], False),
    "no object": ({"a.jsonl": "[1, 2]\n"}, ["a.jsonl, line 1", "object"], False),
    "no list": ({"a.jsonl": '{"epoch":0,"errors":[1]}\n{"epoch":1,"errors":2}\n'},
                ["line 2", "list"], False),
    "other length": ({"a.jsonl": '{"epoch":0,"errors":[1]}\n{"epoch":1,"errors":[2,3]}'},
                     ["line 2", "2 errors", "1"], False),
    "unknown file": ({"a.pt": b"\x80\x02}q"}, ["a.pt", "cannot tell"], True),
    "not HDF5": ({"a.h5": b"HDF"}, ["a.h5", "not an HDF5"], False),
    "several arrays": ({"log.h5": {"a": np.ones((2, 3)), "b": np.ones((2, 3))}},
                       ["log.h5", "2 arrays", "a, b"], True),
    "no array": ({"log.h5": {}}, ["log.h5", "no array"], False),
    "no such file": ({"nowhere.npy": None}, ["no such"], False),
    "no such folder": ({"nowhere/": None}, ["no such"], False),
    "empty folder": ({"logs/": None}, ["no per-epoch"], True),
    "cut short": ({"log.npy": LONG[:4120]}, ["log.npy", "cut short", "4,128", "4,120"], True),
    "no bytes": ({"log.npy": b""}, ["log.npy", "damaged"], False),
    "no header": ({"log.npy": LONG[:4]}, ["log.npy", "damaged"], False),
    "half a header": ({"log.npy": LONG[:60]}, ["log.npy", "damaged"], False),
    "damaged npz": ({"log.npz": saved(a=np.ones((50, 60)))[:2000]},
                    ["log.npz", "cut short"], False),
    "npz of nothing": ({"log.npz": {}}, ["log.npz", "empty"], False),
    "no epochs": ({"log.npy": np.ones((0, 5))}, ["log.npy", "empty"], False),
    "no samples": ({"log.npy": np.ones((5, 0))}, ["log.npy", "empty"], False),
    "wide vectors": ({"log.npy": np.ones((2, 5, 4))}, ["log.npy", "shape (2, 5, 4)"], True),
    "an array of text": ({"log.npy": [["a", "b"]]}, ["log.npy", "not numbers"], False),
    "two sets": (logs(force_0=[1], force_1=[1], energy_0=[1], energy_1=[1]),
                 ["force_#.npy", "energy_#.npy"], True),
    "two numbers": (logs(run1_epoch0=[1], run1_epoch1=[1], run2_epoch0=[1]),
                    ["more than one number"], True),
    "other lengths": (logs(epoch_9=np.ones(3), epoch_10=np.ones(4)),
                      ["epoch_9.npy has 3", "epoch_10.npy has 4 samples"], True),
    "negative in a file": (logs(e_0=np.ones(5), e_1=[1, 1, 1, -0.5, 1]),
                           ["e_1.npy", "sample 3", "negative (-0.5)"], True),
    "samples without errors": ({"log.npy": [[1, np.nan, 1, np.inf]] * 4},
                               ["2 of 4 samples", "first is sample 1"], True),
    "no error column, per epoch": ({f"logs/e{i}.csv": "sample,value\n1,2\n" for i in range(2)},
                                   ["e0.csv", "no column error"], None),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name, tmp_path, refused):
    files, said, hint = REFUSALS[name]
    words = ["--quantity", "energy"] if name == "no such quantity" else []
    refused([write_files(tmp_path, files), *words], said, hint=hint)


def test_hdf5_place_that_is_not_there(tmp_path, refused):
    path = write_files(tmp_path, {"log.h5": {"a": np.ones((2, 3))}})
    refused([f"{path}:/b"], [path, "no array /b"])


def test_the_sample_data_goes_in_with_no_option(ingest, log):
    same(ingest(SAMPLE / "logs")["errors"], log)


# Samples that were never logged


def test_never_logged_samples_carry_no_weight(tmp_path, ltau):
    """Scores are those of a model that was fitted without these rows."""
    rng = np.random.default_rng(0)
    log, x, queries = rng.random((6, 60)), rng.normal(size=(60, 3)), rng.normal(size=(30, 3))
    x[50:] = x[:10]  # identical descriptors too
    held = np.array([0, 5, 17, 50, 52])
    log[:, held] = np.nan
    log[2, 3] = np.nan
    q = save(tmp_path / "q.npy", queries)
    scores = []
    kept = np.delete(np.arange(60), held)
    for name, part in (("all", np.arange(60)), ("kept", kept)):
        errors, model, out = (tmp_path / f"{name}_{kind}.h5" for kind in ("e", "m", "s"))
        train = save(tmp_path / f"{name}_x.npy", x[part])
        words = ["--allow-missing"] if name == "all" else []
        path = save(tmp_path / f"{name}.npy", log[:, part])
        assert ltau("ingest", path, "-o", errors, *words).code == 0
        assert ltau("fit", errors, train, "-o", model).code == 0
        assert ltau("score", q, "-m", model, "-o", out).code == 0
        scores.append(contents(out))
    for name in scores[0]:
        np.testing.assert_array_equal(scores[0][name], scores[1][name], err_msg=name)
    with h5py.File(tmp_path / "all_m.h5") as file:
        assert (file["point"][...][held] == -1).all()
        assert (file["point"][...][kept] >= 0).all()


@pytest.mark.slow
def test_more_epochs_than_open_files(tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    log = np.random.default_rng(0).random((200, 5)).astype(np.float32)
    (tmp_path / "logs").mkdir()
    for epoch, row in enumerate(log):
        np.save(tmp_path / "logs" / f"errors_epoch_{epoch}.npy", row)
    words = ("ingest", tmp_path / "logs", "-o", tmp_path / "e.h5")
    result = finish(start(*words, preexec_fn=limit))
    assert result.code == 0, result.err
    with h5py.File(tmp_path / "e.h5") as file:
        np.testing.assert_array_equal(file["errors"], log)


def test_pickled_npy_is_never_loaded(tmp_path, ltau):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    path = save(tmp_path / "log.npy", np.array([Bomb()], dtype=object))
    check(ltau("ingest", path, "-o", tmp_path / "o.h5"), INPUT, path, "pickled")
    np.savez(tmp_path / "log.npz", run=np.array([Bomb()], dtype=object))
    check(ltau("ingest", tmp_path / "log.npz", "-o", tmp_path / "o.h5"), INPUT, "pickled")
    assert not (tmp_path / "exploded").exists()
    bare = tmp_path / "bare.npy"
    bare.write_bytes(pickle.dumps([1, 2]))
    check(ltau("ingest", bare, "-o", tmp_path / "o.h5"), INPUT, bare, hint=False)


# Counts that do not fit


ALONE = [*frames_of((3, 1, 4)), *frames_of((1, 1), seed=1)]


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """Three frames of 8 atoms, and two isolated atoms; the command, and the files in its folder."""
    monkeypatch.chdir(tmp_path)
    for frame in ALONE[3:]:
        frame.info["config_type"] = "IsolatedAtom"
    ase.io.write("frames.xyz", [ALONE[3], *ALONE[:3], ALONE[4]], format="extxyz")
    return lambda n: save(tmp_path / "log.npy", np.random.default_rng(0).random((4, n)) + 1)


def test_frames_are_counted_as_they_are_logged(counted, ltau):
    words = ("ingest", "log.npy", "--frames", "frames.xyz", "-o", "e.h5", "-f")
    counted(8)
    done = ltau(*words)
    assert done.code == 0, done.err
    assert "frames.xyz: left out 2 frames of isolated atoms" in done.err
    assert contents("e.h5")["structure"].tolist() == [0] * 3 + [1] + [2] * 4
    counted(10)
    assert ltau(*words).err == ""
    assert contents("e.h5")["structure"].tolist() == [0] + [1] * 3 + [2] + [3] * 4 + [4]


@pytest.mark.parametrize(
    ("n", "said"),
    [
        (5, "5 is the number of frames: energies"),
        (7, "3 frames are a single atom: isolated atoms"),
        (30, "three for each: x, y and z?"),
        (20, "2 for each: several epochs, runs or heads"),
        (9, "what may be missing: isolated atoms (ltau describe leaves them out"),
    ],
)
def test_a_count_that_does_not_fit_says_what_it_may_be(n, said, counted, small, ltau):
    counted(n)
    done = ltau("ingest", "log.npy", "--frames", "frames.xyz", "-o", "e.h5")
    check(done, INPUT, "frames.xyz has 10", f"{n} samples")
    assert said in done.err
    natoms = [len(frame) for frame in ALONE]
    np.savez("x.npz", descriptors=np.random.default_rng(1).random((10, 3)), natoms=natoms)
    assert ltau("ingest", "log.npy", "-o", "e.h5").code == 0
    done = ltau("fit", "e.h5", "x.npz", "-o", "m.h5")
    check(done, INPUT, "x.npz:descriptors has 10 rows", f"{n} samples")
    assert said in done.err
