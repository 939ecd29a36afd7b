"""Random logs against a slow oracle."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ltau_cli.cli.main import run as run_cli
from tests.helpers import (
    INPUT,
    contents,
    norm_of,
    same,
    save,
    stored,
    temporary,
    write_folder,
    write_long,
)

pytestmark = pytest.mark.usefixtures("memory")

SENTINELS = (-1.0, 0.0, 99.0, -999.0)
DTYPES = ["f2", "f4", "f8", ">f2", ">f4", ">f8", "i2", "i4", "i8", ">i4", "u1", "u4", "?"]


def ingest_random(path, folder, missing=(), *more):
    """Exit code and contents of a random log that went in, or None."""
    out = folder / "errors.h5"
    words = ["ingest", path, "-o", out, "--allow-missing", "-q", *more]
    for value in missing:
        words += ["--missing", value]
    code = run_cli([str(word) for word in words])
    assert code in (0, INPUT)
    return contents(out) if code == 0 else None


def agree(got, wanted, exact=True):
    if got is None:
        assert np.isnan(wanted).all()
        return
    if exact:
        same(got["errors"], wanted)
    else:
        np.testing.assert_allclose(got["errors"], wanted, rtol=3e-7, atol=1e-45)
    errors = got["errors"]
    same(got["epoch_missing"], np.isnan(errors).sum(axis=1))
    same(got["n_logged"], (~np.isnan(errors)).sum(axis=0))
    same(got["epoch_zeros"], (errors == 0).sum(axis=1))
    for row, low, high, mean in zip(errors, got["epoch_min"], got["epoch_max"], got["epoch_mean"],
                                    strict=True):  # fmt: skip
        values = [float(v) for v in row if not math.isnan(v)]
        same(low, min([v for v in values if v > 0], default=math.nan))
        same(high, max(values, default=math.nan))
        np.testing.assert_allclose(mean, np.mean(values) if values else math.nan, rtol=1e-12)


@st.composite
def logs(draw, vectors=False):
    """A log of any dtype, sentinels placed at random, and the sentinels."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 9))) + ((3,) if vectors else ())
    if dtype.kind == "f":
        width = 8 * dtype.itemsize
        elements = st.floats(0, width=width) | st.just(math.nan)
        if vectors:
            elements = st.floats(-1000, 1000, width=width) | st.just(math.nan) | st.just(math.inf)
    elif dtype.kind == "b":
        elements = st.booleans()
    else:
        elements = st.integers(0, np.iinfo(dtype).max)
    log = draw(hnp.arrays(dtype, shape, elements=elements))
    missing = [s for s in SENTINELS if s >= 0 or dtype.kind in "if"]
    missing = draw(st.lists(st.sampled_from(missing), unique=True))
    if missing and dtype.kind != "b" and not vectors:
        holes = draw(hnp.arrays(bool, shape))
        log[holes] = np.asarray(draw(st.sampled_from(missing))).astype(dtype)
    if draw(st.booleans()):
        log = np.asfortranarray(log)
    return log, missing


@pytest.mark.slow
@given(logs())
def test_random_arrays(drawn):
    log, missing = drawn
    with temporary() as folder:
        path = save(folder / "log.npy", log)
        got = ingest_random(path, folder, missing, "--format", "array")  # not one epoch of (n, 1)
        agree(got, stored(log, missing))


@pytest.mark.slow
@given(logs(), st.booleans(), st.randoms(use_true_random=False))
def test_random_epoch_folders(drawn, tables, random):
    log, missing = drawn
    log = np.asarray(log, dtype=float) if tables else log
    rows = list(log)
    if tables:
        ids = list(range(log.shape[1]))
        rows = []
        for row in log:
            random.shuffle(ids)
            rows.append(np.array([[i, row[i]] for i in ids]))
    with temporary() as folder:
        write_folder(folder / "logs", rows)
        agree(ingest_random(folder / "logs", folder, missing), stored(log, missing))


@pytest.mark.slow
@given(logs(vectors=True), st.sampled_from(["l2", "l1", "max", "rms"]), st.booleans())
def test_random_vectors(drawn, norm, per_epoch):
    log, _ = drawn
    wanted = stored([[norm_of(vector, norm) for vector in row] for row in log])
    with temporary() as folder:
        if per_epoch:
            path = write_folder(folder / "logs", [np.asfortranarray(row) for row in log])
        else:
            path = save(folder / "log.npy", log)
        agree(ingest_random(path, folder, (), "--norm", norm), wanted, exact=False)


ids_of_samples = st.one_of(
    st.integers(1, 8).map(lambda n: list(range(n))),
    st.lists(st.integers(-(10**6), 10**12), min_size=1, max_size=8, unique=True),
    st.lists(st.text("abcÅ /-;'", min_size=1, max_size=6).map(lambda word: f"x{word}z"),
             min_size=1, max_size=8, unique=True),
)  # fmt: skip


@pytest.mark.slow
@given(ids_of_samples, st.data(), st.sampled_from([",", "\t"]))
def test_random_long_tables(ids, data, delimiter):
    """Rows in any order, cells left out or repeated, words and sentinels for missing values."""
    errors = st.floats(0, 1e30) | st.sampled_from(["", "nan", "inf", "-1", "1e300"])
    row = st.tuples(st.integers(-3, 9), st.sampled_from(ids), errors)
    rows = data.draw(st.lists(row, min_size=1, max_size=30))
    there = {sample for _, sample, _ in rows}
    words = isinstance(ids[0], str)
    order = list(dict.fromkeys(s for _, s, _ in rows)) if words else sorted(there)
    epochs = sorted({epoch for epoch, _, _ in rows})
    wanted = np.full((len(epochs), len(order)), np.nan)
    for epoch, sample, error in rows:
        value = float(error) if error != "" else math.nan
        wanted[epochs.index(epoch), order.index(sample)] = value
    with temporary() as folder:
        path = write_long(folder / "log.csv", rows, delimiter=delimiter)
        got = ingest_random(path, folder, (-1,))
        if len({row[:2] for row in rows}) < 0.6 * len(rows):  # many are lost
            assert got is None
            return
        agree(got, stored(wanted, (-1,)))
        if got is not None:
            assert got["epoch"].tolist() == epochs
            assert got["sample_id"].tolist() == order
