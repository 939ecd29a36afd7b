"""The model deviation table of DeePMD-kit."""

import io

import numpy as np

from ltau_cli.writers.model_devi import write_model_devi

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
