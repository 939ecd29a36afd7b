"""Logs that do not fit in memory: parsed values go through unnamed temporary files."""

import csv
import math
import zipfile

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltau_cli.errors import InputError
from ltau_cli.readers import arrays
from ltau_cli.readers.logs.open import open_log
from ltau_cli.readers.place import Place
from ltau_cli.settings import LogOptions
from tests.helpers import INPUT, check, random_log, temporary, tiny_blocks

WORDS = ["7", " 7", "7.0", "07", "1e1", "8", "9", "10", "-3", "99999999999999999999", "Cu 1", "7.5"]


@pytest.fixture(autouse=True, scope="module")
def _tiny():
    with tiny_blocks():
        yield


def number_of(word):
    try:
        return int(word)
    except ValueError:
        value = float(word)  # "Cu 1" is no number at all
        if not value.is_integer():
            raise
        return int(value)


def slow_pivot(rows):
    """Ids, {run: {epoch: {id: error}}} and the number of repeated cells, row by row."""
    try:
        numbers = [number_of(sample) for _, _, sample, _ in rows]
        if max(map(abs, numbers)) >= 2**63:
            raise ValueError
        ids, of_row = sorted(set(numbers)), numbers
    except ValueError:
        of_row = [sample for _, _, sample, _ in rows]
        ids = list(dict.fromkeys(of_row))
    runs, repeated = {}, 0
    for (run, epoch, _, error), sample in zip(rows, of_row, strict=True):
        cells = runs.setdefault(run, {}).setdefault(epoch, {})
        repeated += sample in cells
        cells[sample] = float(error or math.nan)
    return ids, runs, repeated


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.integers(-2, 4),
            st.sampled_from(WORDS) | st.integers(0, 5).map(str),
            st.sampled_from(["", "nan", "0.5", "2", "1e300", "inf"]),
        ),
        min_size=1,
        max_size=25,
    )
)
def test_long_tables_agree_with_the_slow_way(rows):
    ids, runs, repeated = slow_pivot(rows)
    with temporary() as folder:
        path = folder / "log.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL)
            writer.writerows([("run", "epoch", "sample", "error"), *rows])
        if repeated > 0.4 * len(rows):
            with pytest.raises(InputError, match=f"{repeated} of {len(rows)} rows have an id"):
                open_log([Place(path)], LogOptions()).__enter__()
            return
        with open_log([Place(path)], LogOptions()) as log:
            got = np.concatenate([log.read(i, i + 1) for i in range(log.n_samples)], axis=1)
    numbers = [(number, run) for number, run in enumerate(sorted(runs))]
    assert list(zip(log.runs, log.epochs, strict=True)) == [
        (number, epoch) for number, run in numbers for epoch in sorted(runs[run])
    ]
    with np.errstate(over="ignore"):
        wanted = np.array(
            [
                [runs[run][epoch].get(name, math.nan) for name in ids]
                for _, run in numbers
                for epoch in sorted(runs[run])
            ]
        ).astype(np.float32)
    np.testing.assert_array_equal(got, wanted)
    assert log.labels.get("sample_id", np.arange(len(ids))).tolist() == ids
    assert log.notes["duplicated ids"] == repeated


@pytest.mark.parametrize("order", ["C", "F"])
def test_compressed_npz(order, tmp_path, ltau):
    logs = {"a": np.asarray(random_log(seed=1), order=order), "b": random_log(seed=2)}
    np.savez_compressed(tmp_path / "log.npz", **logs)
    with open_log([Place(tmp_path / "log.npz")], LogOptions()) as log:
        got = np.concatenate([log.read(0, 5), log.read(5, 12)], axis=1)
    np.testing.assert_array_equal(got, np.concatenate(list(logs.values())).astype(np.float32))


@pytest.mark.parametrize("where", ["values", "end"])
def test_damaged_compressed_npz(where, tmp_path, ltau):
    path = tmp_path / "log.npz"
    np.savez_compressed(path, a=np.random.default_rng(0).random((20, 500)))
    data = bytearray(path.read_bytes())
    at = len(data) // 2 if where == "values" else data.index(b"PK\x01\x02") - 3
    data[at] ^= 0x55
    path.write_bytes(data)
    check(ltau("ingest", path, "-o", tmp_path / "e.h5"), INPUT, str(path), "damaged", hint=False)


def test_compressed_npz_that_is_shorter_than_its_header_says(tmp_path, ltau):
    path = tmp_path / "log.npz"
    np.save(tmp_path / "a.npy", np.ones((20, 50)))
    whole = (tmp_path / "a.npy").read_bytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", whole[:-8])
    result = ltau("ingest", path, "-o", tmp_path / "e.h5")
    check(result, INPUT, f"{path}:a is cut short: its header promises 8,128 bytes, it has 8,120")


@pytest.mark.parametrize("shape", [(6, 40), (6, 40, 3)])
@pytest.mark.parametrize("chunks", [(1, 40), (6, 3), (4, 7), (5, 40)])
def test_hdf5_chunks_wider_than_the_cache(shape, chunks, tmp_path):
    log = np.random.default_rng(0).random(shape)
    with h5py.File(tmp_path / "log.h5", "w") as file:
        file.create_dataset("log", data=log, chunks=chunks + shape[2:], compression="gzip")
    with open_log([Place(tmp_path / "log.h5")], LogOptions()) as opened:
        got = np.concatenate([opened.read(i, i + 8) for i in range(0, 40, 8)], axis=1)
    wanted = log if log.ndim == 2 else np.linalg.norm(log, axis=2)
    np.testing.assert_allclose(got, wanted, rtol=1e-6)
    with arrays.open_array(Place(tmp_path / "log.h5")) as source:
        np.testing.assert_array_equal(source.read(1, 4), log[1:4])
        np.testing.assert_array_equal(source.all(), log)
