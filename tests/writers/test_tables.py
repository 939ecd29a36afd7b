"""Columns to tables, also that of DeePMD-kit's model deviation."""

import csv
import io
import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ltau_cli.writers.model_devi import write_model_devi
from ltau_cli.writers.tables import write_json_lines, write_npz, write_table

NAMES = ("row", "error", "label", "used")
BLOCKS = [
    {
        "used": np.array([True, False]),
        "label": np.array(["Cu", 'a "b", c']),
        "error": np.array([0.1, np.nan], np.float32),
        "row": np.array([0, 1]),
    },
    {
        "row": np.array([12_345_678]),
        "error": np.array([1 / 3]),
        "label": np.array([""]),
        "used": np.array([True]),
    },
]


def test_csv_by_hand():
    stream = io.StringIO()
    assert write_table(stream, NAMES, BLOCKS) == 3
    assert stream.getvalue() == (
        "row,error,label,used\n"
        "0,0.1,Cu,1\n"
        '1,nan,"a ""b"", c",0\n'
        "12345678,0.3333333,,1\n"
    )  # fmt: skip


def test_tabs_need_no_quotes_around_commas():
    stream = io.StringIO()
    write_table(stream, ("label", "row"), BLOCKS[:1], delimiter="\t")
    assert stream.getvalue().splitlines()[0] == "label\trow"
    assert stream.getvalue().splitlines()[1] == "Cu\t0"


def test_a_table_without_rows_has_its_header():
    stream = io.StringIO()
    assert write_table(stream, NAMES, []) == 0
    assert stream.getvalue() == "row,error,label,used\n"


def test_json_lines_by_hand():
    stream = io.StringIO()
    assert write_json_lines(stream, NAMES, BLOCKS) == 3
    first, _, last = stream.getvalue().splitlines()
    assert first == '{"row": 0, "error": 0.1, "label": "Cu", "used": true}'
    assert json.loads(last) == {"row": 12_345_678, "error": 0.3333333, "label": "", "used": True}


@given(hnp.arrays(np.float32, st.integers(1, 30), elements=st.floats(0, width=32)), st.data())
def test_floats_come_back_to_seven_digits_whatever_the_blocks(values, data):
    cut = data.draw(st.integers(0, len(values)))
    stream = io.StringIO()
    write_table(stream, ["x"], [{"x": values[:cut]}, {"x": values[cut:]}])
    got = [float(row["x"]) for row in csv.DictReader(io.StringIO(stream.getvalue()))]
    np.testing.assert_allclose(got, values.astype(float), rtol=5.1e-7, atol=0)


# .npz


COLUMNS = {
    "error": np.arange(7, dtype=np.float32) / 3,
    "row": np.arange(7)[::-1],
    "species": np.array(["Cu", "Au", "Cu", "Cu", "Au", "Å", ""]),
}


class Pipe(io.RawIOBase):
    """Takes bytes; cannot seek."""

    def __init__(self):
        self.taken = b""

    def writable(self):
        return True

    def write(self, data):
        self.taken += bytes(data)
        return len(data)


def write(stream, size):
    columns = (
        (name, values.dtype, (values[i : i + size] for i in range(0, 7, size)))
        for name, values in COLUMNS.items()
    )
    write_npz(stream, 7, columns)


def test_numpy_reads_the_columns_back():
    stream = io.BytesIO()
    write(stream, 3)
    stream.seek(0)
    with np.load(stream, allow_pickle=False) as loaded:
        assert loaded.files == list(COLUMNS)
        for name, values in COLUMNS.items():
            assert loaded[name].dtype == values.dtype
            np.testing.assert_array_equal(loaded[name], values)


def test_blocks_do_not_change_the_bytes():
    one, other = io.BytesIO(), io.BytesIO()
    write(one, 2)
    write(other, 7)
    assert one.getvalue() == other.getvalue()


def test_a_stream_that_cannot_seek():
    pipe = Pipe()
    write(pipe, 4)
    with np.load(io.BytesIO(pipe.taken), allow_pickle=False) as loaded:
        np.testing.assert_array_equal(loaded["row"], COLUMNS["row"])


# Model deviation


STEPS = np.array([0, 100])
LARGEST, SMALLEST, MEAN = np.array([0.5, 12.0]), np.array([0.25, 1e-9]), np.array([0.375, 6.0])


def written():
    stream = io.StringIO()
    write_model_devi(stream, STEPS, LARGEST, SMALLEST, MEAN)
    return stream.getvalue()


def test_layout_by_hand():
    header, first, second = written().splitlines()
    names = "#       step         max_devi_v         min_devi_v         avg_devi_v"
    assert header == names + "         max_devi_f         min_devi_f         avg_devi_f"
    zero = "       0.000000e+00"
    assert first == (
        "           0" + 3 * zero + "       5.000000e-01       2.500000e-01       3.750000e-01"
    )
    assert second.split() == ["100", *3 * ["0.000000e+00"], "1.200000e+01", "1.000000e-09",
                              "6.000000e+00"]  # fmt: skip


def test_loadtxt_reads_it_as_dpgen_does():
    table = np.loadtxt(io.StringIO(written()))
    np.testing.assert_allclose(table[:, [4, 5, 6]], np.stack([LARGEST, SMALLEST, MEAN], axis=1))
    assert table[:, 0].tolist() == [0, 100]
    assert (table[:, 1:4] == 0).all()
