"""Logs in tables: long, wide, JSON lines, one table per epoch."""

import gzip
import json
import math

import numpy as np
import pytest

from tests.helpers import USAGE, long_rows, norm_of, random_log, same, stored, write_long


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


def test_wide_table_of_numpy(tmp_path, ingest):
    log = random_log(4, 6)
    np.savetxt(tmp_path / "log.csv", log, delimiter=",", fmt="%.17g")
    same(ingest(tmp_path / "log.csv")["errors"], stored(log))
    np.savetxt(tmp_path / "log.txt", log, fmt="%.17g")
    same(ingest(tmp_path / "log.txt")["errors"], stored(log))
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
