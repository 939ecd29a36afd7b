"""Logs in tables: long, wide, JSON lines, one table per epoch."""

import gzip
import json
import math

import numpy as np
import pytest

from tests.helpers import (
    INPUT,
    USAGE,
    check,
    long_rows,
    norm_of,
    random_log,
    same,
    save,
    stored,
    write_folder,
    write_long,
)


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.csv.gz", "log.tsv.gz", "LOG.CSV"])
def test_long_table(name, tmp_path, ingest):
    log = random_log(6, 8)
    rows = long_rows(log)
    np.random.default_rng(0).shuffle(rows)
    path = write_long(tmp_path / name, rows, delimiter="\t" if ".tsv" in name else ",")
    got = ingest(path)
    same(got["errors"], stored(log))
    assert got["sample_id"].tolist() == list(range(8))


@pytest.mark.parametrize("missing", ["", "nan", "NaN", "NA", "null", "inf"])
def test_words_for_missing(missing, tmp_path, ingest):
    rows = [(0, 0, 1.5), (0, 1, 2.5), (1, 0, missing), (1, 1, 3.5)]
    same(ingest(write_long(tmp_path / "log.csv", rows))["errors"], [[1.5, 2.5], [np.nan, 3.5]])


def test_columns_by_name(tmp_path, ingest, refused):
    log = random_log(3, 4)
    path = write_long(tmp_path / "log.csv", [(7, *row, "x") for row in long_rows(log)],
                      ("error", "t", "who", "dF", "note"))  # fmt: skip
    refused([path], ["log.csv", "no column", "error, t, who, dF, note"])
    got = ingest(path, "--column", "epoch=t", "--column", "sample=who", "--column", "error=dF")
    same(got["errors"], stored(log))
    refused([path, "--column", "epoch=when"], "no column when", hint=False)
    refused([path, "--column", "when=t"], "'when=t'", code=USAGE)


@pytest.mark.parametrize(
    "header", [("Epoch", "atom_id", "force_error"), ("iteration", "idx", "Err"),
               ("step", "ID", "abs_error")],
)  # fmt: skip
def test_recognized_columns(header, tmp_path, ingest):
    log = random_log(3, 4)
    same(ingest(write_long(tmp_path / "log.csv", long_rows(log), header))["errors"], stored(log))


def test_ids_that_do_not_count_from_0(tmp_path, ingest):
    log, ids = random_log(4, 5), [40, -3, 7, 1000, 8]
    got = ingest(write_long(tmp_path / "log.csv", long_rows(log, ids)))
    order = np.argsort(ids)
    same(got["errors"], stored(log[:, order]))
    assert got["sample_id"].tolist() == sorted(ids)


def test_ids_written_as_floats(tmp_path, ingest):
    """As pandas does where a column once held NaN."""
    log, ids = random_log(3, 3), ["10.0", "2.0", "1.0"]
    got = ingest(write_long(tmp_path / "log.csv", long_rows(log, ids)))
    same(got["errors"], stored(log[:, [2, 1, 0]]))
    assert got["sample_id"].tolist() == [1, 2, 10]


def test_ids_of_64_bits(tmp_path, ingest):
    """Hashes: no two of them may fall together."""
    log, ids = random_log(3, 3), [7, 2**63 + 5, 2**63 + 9]
    got = ingest(write_long(tmp_path / "log.csv", long_rows(log, ids)))
    same(got["errors"], stored(log))
    assert [int(name) for name in got["sample_id"]] == ids


def test_words_as_ids(tmp_path, ingest):
    log, ids = random_log(4, 3), ["mol-2/Ö", "mol-10/H", "a b"]
    got = ingest(write_long(tmp_path / "log.csv", long_rows(log, ids)))
    same(got["errors"], stored(log))
    assert got["sample_id"].tolist() == ids


def test_runs_in_a_table(tmp_path, ingest):
    log = random_log(5, 4)
    rows = [(seed, *row) for seed, part in ((3, log[:2]), (11, log[2:])) for row in long_rows(part)]
    got = ingest(write_long(tmp_path / "log.csv", rows, ("seed", "epoch", "sample", "error")))
    same(got["errors"], stored(log))
    assert got["run"].tolist() == [0, 0, 1, 1, 1]
    assert got["epoch"].tolist() == [0, 1, 0, 1, 2]


def test_of_a_repeated_cell_the_last_row_counts(tmp_path, ingest):
    rows = [(0, 0, 1), (0, 1, 2), (0, 0, 3)]
    same(ingest(write_long(tmp_path / "log.csv", rows))["errors"], [[3, 2]])


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz"])
@pytest.mark.parametrize("epoch_column", [True, False])
def test_wide_table(suffix, epoch_column, tmp_path, ingest):
    log = random_log(4, 6)
    epochs = [30, 10, 20, 40] if epoch_column else [0, 1, 2, 3]
    header = ["epoch"] * epoch_column + [f"sample_{i}" for i in range(6)]
    rows = [
        [e] * epoch_column + [repr(float(v)) for v in row]
        for e, row in zip(epochs, log, strict=True)
    ]
    got = ingest(write_long(tmp_path / f"log{suffix}", rows, header,
                            "\t" if "tsv" in suffix else ","))  # fmt: skip
    same(got["errors"], stored(log[np.argsort(epochs)]))
    assert got["epoch"].tolist() == sorted(epochs)


def test_wide_table_of_numpy(tmp_path, ltau, ingest):
    log = random_log(4, 6)
    np.savetxt(tmp_path / "log.csv", log, delimiter=",", fmt="%.17g")
    same(ingest(tmp_path / "log.csv")["errors"], stored(log))
    np.savetxt(tmp_path / "log.txt", log, fmt="%.17g")
    same(ingest(tmp_path / "log.txt")["errors"], stored(log))
    assert "4 epochs (read as wide-table)" in ltau("info", tmp_path / "out" / "errors.h5").out
    log = log[:, 2:5]
    np.savetxt(tmp_path / "log.csv", log, delimiter=",", fmt="%.17g")
    same(ingest(tmp_path / "log.csv", "--format", "wide-table")["errors"], stored(log))


def write_jsonl(path, entries):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in entries)
    return path


@pytest.mark.parametrize("name", ["log.jsonl", "log.ndjson", "log.jsonl.gz"])
def test_json_lines(name, tmp_path, ingest):
    log = random_log(4, 6)
    entries = [
        {"epoch": t, "sample": i, "error": None if math.isnan(v) else float(v), "lr": 0.1}
        for t, row in enumerate(log)
        for i, v in enumerate(row)
    ]
    entries[3] = dict(reversed(entries[3].items()))
    same(ingest(write_jsonl(tmp_path / name, entries))["errors"], stored(log))
    wide = [{"epoch": 5 * t, "errors": row.tolist()} for t, row in enumerate(log)]
    got = ingest(write_jsonl(tmp_path / name, wide))
    same(got["errors"], stored(log))
    assert got["epoch"].tolist() == [0, 5, 10, 15]


def test_json_lines_of_vectors(tmp_path, ingest):
    vectors = np.random.default_rng(0).normal(size=(2, 3, 3))
    entries = [
        {"epoch": t, "sample": i, "error": vectors[t, i].tolist()}
        for t in range(2)
        for i in range(3)
    ]
    path = write_jsonl(tmp_path / "log.jsonl", entries)
    for norm in ("l2", "l1"):
        wanted = stored([[norm_of(v, norm) for v in row] for row in vectors])
        got = ingest(path, "--norm", norm)
        np.testing.assert_allclose(got["errors"], wanted, rtol=1e-6, err_msg=norm)


@pytest.mark.parametrize("suffix", [".csv", ".tsv.gz", ".jsonl", ".CSV"])
@pytest.mark.parametrize("how", ["folder", "files"])
def test_one_table_per_epoch(suffix, how, tmp_path, ingest):
    log, ids, epochs = random_log(4, 5), [3, 5, 7, 9, 11], [8, 9, 10, 11]
    folder = tmp_path / "logs"
    folder.mkdir()
    for epoch, row in zip(epochs, log, strict=True):
        path = folder / f"epoch_{epoch}{suffix}"
        rows = [row[1:] for row in long_rows([row], ids)]
        if suffix == ".jsonl":
            write_jsonl(path, [{"sample": i, "error": float(v)} for i, v in rows])
        else:
            write_long(path, rows, ("sample", "error"), "\t" if "tsv" in suffix else ",")
    got = ingest(*([folder] if how == "folder" else folder.iterdir()))
    same(got["errors"], stored(log))
    assert got["epoch"].tolist() == epochs
    assert got["sample_id"].tolist() == ids


# What is no log, or not said clearly


def write_wide(path, log, header, order=slice(None), before=()):
    """A wide table whose columns are in another order; as pandas, maybe with columns before."""
    rows = [[*(own[t] for own in before), *row[order]] for t, row in enumerate(log)]
    return write_long(path, [[repr(float(v)) for v in row] for row in rows], header)


@pytest.mark.parametrize("before", [[], ["epoch"], ["Epoch", "step"], [""], ["Unnamed: 0"]])
@pytest.mark.parametrize("name", ["{}", "sample_{}", "{}.0"])
def test_wide_columns_are_samples_by_number(name, before, tmp_path, ingest):
    """Sorted as text, as many programs write them: 0, 1, 10, 11, 2, ..."""
    log = np.random.default_rng(0).random((3, 12))
    order = sorted(range(12), key=str)
    header = [*before, *(name.format(i) for i in order)]
    if header[0] == "0.0":
        header[0] = "# 0.0"
    path = write_wide(tmp_path / "log.csv", log, header, order, [np.arange(3)] * len(before))
    got = ingest(path)
    same(got["errors"], stored(log))
    assert got["epoch"].tolist() == [0, 1, 2]
    assert "sample_id" not in got


@pytest.mark.parametrize("header", [range(1, 6), [17, 4, 9, 23, 5], ["s4", "s2", "s3", "s9", "s1"]])
def test_wide_columns_of_other_numbers(header, tmp_path, ingest):
    log = np.random.default_rng(0).random((3, 5))
    got = ingest(write_wide(tmp_path / "log.csv", log, header))
    numbers = [int(str(name).strip("s")) for name in header]
    same(got["errors"], stored(log[:, np.argsort(numbers)]))
    assert got["sample_id"].tolist() == sorted(numbers)


def test_a_first_line_of_numbers(tmp_path, ingest, refused):
    """It names columns, holds values, or cannot be told."""
    log = np.random.default_rng(0).random((4, 5))
    log[0] = 0, 1, 2, 3, 4
    path = tmp_path / "log.csv"
    np.savetxt(path, log, delimiter=",")
    same(ingest(path)["errors"], stored(log))  # values: 0.0000e+00
    np.savetxt(path, log, delimiter=",", fmt="%g")
    same(ingest(path)["errors"], np.float32([[float(f"{v:g}") for v in row] for row in log[1:]]))
    np.savetxt(path, np.arange(20).reshape(4, 5), delimiter=",", fmt="%d")
    refused([path], ["log.csv: line 1 (0, 1, 2, 3, ...) may name the columns"])
    np.savetxt(path, np.arange(20).reshape(4, 5)[::-1], delimiter=",", fmt="%d")
    assert ingest(path)["errors"].shape == (4, 5)


def test_a_header_of_numbers_in_other_tables(tmp_path, ltau, ingest):
    """As pandas writes descriptors, vectors and a column: no row of them."""
    rng = np.random.default_rng(0)
    log, x, y = rng.random((4, 40)), rng.normal(size=(40, 3)), rng.normal(size=(40, 3))
    for name, values in (("x", x), ("y", y)):
        np.savetxt(tmp_path / f"{name}.csv", values, delimiter=",", header="0,1,2", comments="")
    np.savetxt(tmp_path / "x.txt", x, header="1 2 3", comments="")
    got = ingest(save(tmp_path / "log.npy", log), "--magnitude", tmp_path / "y.csv")
    np.testing.assert_allclose(got["magnitude"], np.linalg.norm(y, axis=1), rtol=1e-6)
    errors, model, out = (tmp_path / name for name in ("out/errors.h5", "m.h5", "s.h5"))
    assert ltau("fit", errors, tmp_path / "x.txt", "-o", model, "-k", 5).code == 0
    assert ltau("score", tmp_path / "x.csv", "-m", model, "-o", out).out.startswith(f"{out}: 40 ")
    np.savetxt(tmp_path / "y.csv", y[:, 0] ** 2, header="0", comments="")
    words = ("ingest", tmp_path / "log.npy", "-o", errors, "--force", "--magnitude")
    check(ltau(*words, tmp_path / "y.csv"), INPUT, "y.csv: line 1 (0) may name the columns")
    assert ltau(*words, f"{tmp_path / 'y.csv'}:0").code == 0


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("epoch,0,1,2,weight", "'weight' is no sample's number"),
        ("epoch,H1,H2,C1,C2", "name no samples: H1, H2"),
        ("epoch,0,1,1,2", "name no samples"),
        ("epoch_0,epoch_1,epoch_2,epoch_3,epoch_4", "columns are epochs"),
        ("seed,0,1,2,3", "with the column seed"),
        ("sample,0,1,2,3", "the column sample, and columns of numbers"),
    ],
)
def test_wide_columns_that_are_unknown(header, said, tmp_path, refused):
    refused([write_wide(tmp_path / "log.csv", np.ones((2, 5)), header.split(","))], said)


def test_wide_columns_of_words(tmp_path, ingest, refused):
    path = write_long(tmp_path / "log.csv", [(0, 1, 2), (1, 3, 4)], ("epoch", "methane", "water"))
    refused([path], ["log.csv", "'methane'"])
    got = ingest(path, "--format", "wide-table")
    same(got["errors"], [[1, 2], [3, 4]])
    assert got["sample_id"].tolist() == ["methane", "water"]


COURSES = {
    "metrics.csv": "epoch,step,train_loss_step,train_loss_epoch,lr\n0,9,0.5,,1\n0,9,,0.4,\n",
    "keras.csv": "epoch,loss,mae,val_loss,val_mae\n0,1,1,1,1\n1,1,1,1,1\n",
    "history.json": '{"loss": [0.5, 0.4, 0.3], "val_loss": [0.6, 0.5, 0.4]}\n',
    "alone.json": '{"loss": [0.5, 0.4, 0.3]}\n',
    "mace_run-1_train.txt": '{"mode": "opt", "epoch": 0, "loss": 0.2, "time": 1.0}\n'
    '{"mode": "eval", "epoch": 0, "loss": 0.3, "rmse_e_per_atom": 0.1}\n',
    "metrics_epoch.csv": "epoch,      wall,        LR,       loss_f,         loss\n"
    "    0,    10.1,    0.005,        1.003,        1.003\n",
    "lcurve.out": "#  step      rmse_val    rmse_trn    rmse_e_val       lr\n"
    "# If there is no available reference data, rmse_*_{val,trn} will print nan\n"
    "      0      2.10e+01    2.07e+01      1.01e+00    1.0e-03\n",
    "wandb.csv": '"Step","run - val_loss","run - val_loss__MIN","run - val_loss__MAX"\n0,1,1,1\n',
    "tensorboard.csv": "Wall time,Step,Value\n1690000000.5,0,0.5\n1690000001.5,1,0.4\n",
    "history.csv": ",loss,accuracy\n0,1,1\n1,0.5,1\n",
}


@pytest.mark.parametrize("name", COURSES)
def test_the_course_of_a_training_is_no_log(name, tmp_path, ltau):
    (tmp_path / name).write_text(COURSES[name])
    result = ltau("ingest", tmp_path / name, "-o", tmp_path / "o.h5")
    check(result, INPUT, f"{name} tells the course of a training", "not the error of each sample")
    assert "ltau record" in result.err


PAIRS = [(f, a) for f, n in enumerate((3, 1, 4)) for a in range(n)]


@pytest.mark.parametrize("header", [("frame", "atom"), ("sample", "atom_id"), ("my", "at")])
@pytest.mark.parametrize("name", ["{}", "mol-{}"])
@pytest.mark.parametrize("form", ["table", "folder"])
def test_two_columns_are_one_id(form, name, header, tmp_path, ingest):
    log = random_log(3, 8)
    rows = [(t, name.format(f), a, v) for t, row in enumerate(log)
            for (f, a), v in zip(PAIRS, row, strict=True)]  # fmt: skip
    if name == "{}":
        np.random.default_rng(0).shuffle(rows)
    words = ["--column", "frame=my", "--column", "sample=at"] if header[0] == "my" else []
    path = tmp_path / "log.csv"
    if form == "table":
        write_long(path, rows, ("epoch", *header, "error"))
    else:
        path = tmp_path / "logs"
        path.mkdir()
        for epoch in range(3):
            own = [row[1:] for row in rows if row[0] == str(epoch) or row[0] == epoch]
            write_long(path / f"e{epoch}.csv", own, (*header, "error"))
    got = ingest(path, *words)
    same(got["errors"], stored(log))
    assert got["sample_id"].tolist() == [f"{name.format(f)}/{a}" for f, a in PAIRS]
    assert got["structure"].tolist() == [f for f, _ in PAIRS]


@pytest.mark.parametrize("name", [lambda f: 9 - f, lambda f: f"mol-{f}"])
def test_ids_that_name_the_atoms_alone(name, tmp_path, ingest):
    """The frame is a label beside them."""
    log = random_log(3, 8)
    rows = [(t, name(f), i, row[i]) for t, row in enumerate(log) for i, (f, _) in enumerate(PAIRS)]
    np.random.default_rng(0).shuffle(rows)
    got = ingest(write_long(tmp_path / "log.csv", rows, ("epoch", "frame", "sample", "error")))
    same(got["errors"], stored(log))
    assert got["sample_id"].tolist() == list(range(8))


def test_ids_that_repeat_in_most_rows(tmp_path, refused):
    rows = [(t, a, 1.0) for t in range(3) for _, a in PAIRS * 2]
    path = write_long(tmp_path / "log.csv", rows)
    refused([path], ["log.csv", "36 of 48 rows have an id that stands in their epoch already"])
    folder = write_folder(tmp_path / "logs", [[(a, 0.5) for _, a in PAIRS * 2]] * 2)
    refused([folder], ["errors_epoch_0.npy", "12 of 16 rows"])
    rows = [(t, rank, s, 1.0) for t in range(3) for rank in range(2) for s in range(9 - rank)]
    path = write_long(tmp_path / "ranks.csv", rows, ("epoch", "rank", "sample", "error"))
    refused([path], ["ranks.csv", "24 of 51 rows"])


@pytest.mark.parametrize("first", [0, 100])
def test_a_column_that_counts_is_no_sample(first, tmp_path, refused):
    """As numpy.savetxt writes epochs beside errors, and GPUMD its loss.out."""
    log = np.random.default_rng(0).random((6, 5))
    np.savetxt(tmp_path / "log.txt", np.c_[first + (first or 1) * np.arange(6), log])
    refused([tmp_path / "log.txt"], ["log.txt has no header, and its first column counts"])


@pytest.mark.parametrize("first", [0, 1])
def test_a_first_line_of_numbers_among_floats(first, tmp_path, ingest):
    log = np.random.default_rng(0).random((4, 5))
    header = ",".join(f"{float(i + first)}" for i in range(5))
    np.savetxt(tmp_path / "log.csv", log, delimiter=",", header=header, comments="")
    same(ingest(tmp_path / "log.csv")["errors"], stored(log))


def test_wide_json_lines_of_pandas(tmp_path, ingest):
    log = np.random.default_rng(0).random((4, 12))
    lines = [{name: row[int(name)] for name in sorted(map(str, range(12)))} for row in log]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    same(ingest(tmp_path / "log.jsonl")["errors"], stored(log))


def test_a_decimal_comma(tmp_path, refused):
    (tmp_path / "log.csv").write_text("epoch;sample;error\n0;0;0,25\n")
    refused([tmp_path / "log.csv"], ["line 2: the error is '0,25', not a number"])
