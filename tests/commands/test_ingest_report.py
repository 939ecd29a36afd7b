"""The report that every ingest ends with, and each of its warnings."""

import json

import h5py
import numpy as np
import pytest

from tests.helpers import INPUT, SAMPLE, check, save, write_folder


@pytest.fixture
def logged(tmp_path, ltau):
    """Ingest a log; return the warnings, one per line, and what was printed."""

    def call(log, *words):
        path = log
        if isinstance(log, np.ndarray):
            path = save(tmp_path / "log.npy", log)
        elif isinstance(log, dict):
            path = tmp_path / "log.npz"
            np.savez(path, **log)
        result = ltau("ingest", path, "-o", tmp_path / "errors.h5", "--force", *words)
        assert result.code == 0, result.err
        lines = result.err.splitlines()
        assert all(line.startswith("warning: ") for line in lines), result.err
        return [line.removeprefix("warning: ") for line in lines], result.out

    return call


def falling(n_epochs=10, n=30, seed=0):
    """A log with nothing wrong: errors that fall, the same samples hard at every epoch."""
    rng = np.random.default_rng(seed)
    hard = np.random.default_rng(1).gamma(3.0, 1.0, n)
    return hard / np.arange(1, n_epochs + 1)[:, None] * rng.uniform(0.8, 1.2, (n_epochs, n))


def test_nothing_is_wrong(logged):
    warnings, out = logged(falling(), "--units", "eV")
    assert warnings == []
    lines = out.splitlines()
    assert "30 samples, 10 epochs" in lines[0]
    assert lines[1] == "  none missing, 0 zeros"
    assert set(lines[-1].strip()) <= set("▁▂▃▄▅▆▇█")
    assert len(lines[-1].strip()) == 10
    assert lines[-1].strip()[0] == "█"
    assert lines[-1].strip()[-1] == "▁"
    assert "eV" in lines[2]
    assert "eV" in lines[3]


def test_the_numbers_of_the_report(tmp_path, ltau):
    log = falling(6, 12).astype(np.float32)
    log[2, 3] = np.nan
    log[4, [1, 3]] = np.inf, 0
    folder = write_folder(tmp_path / "logs", log, epochs=[0, 1, 2, 3, 6, 7])
    words = ("ingest", folder, "-o", tmp_path / "errors.h5", "--json", "--units", "eV/Å")
    result = ltau(*words)
    assert result.code == 0, result.err
    report = json.loads(result.out)
    log[np.isinf(log)] = np.nan
    wanted = {
        "n_samples": 12,
        "n_epochs": 6,
        "n_runs": 1,
        "runs": [{"n_epochs": 6, "first": 0, "last": 7, "gaps": [4, 5]}],
        "n_missing": 2,
        "missing_by_epoch": [0, 0, 1, 0, 1, 0],
        "n_never_logged": 0,
        "n_constant": 0,
        "n_zero": 1,
        "n_infinite": 1,
        "n_duplicated_ids": 0,
        "units": "eV/Å",
        "format": "epoch-arrays",
        "output": str(tmp_path / "errors.h5"),
    }
    assert {name: report[name] for name in wanted} == wanted
    assert report["smallest_positive"] == log[log > 0].min()
    assert report["largest"] == np.nanmax(log)
    mean = [np.mean([float(v) for v in row if v == v]) for row in log]
    np.testing.assert_allclose(report["mean_by_epoch"], mean, rtol=1e-12)
    assert report["mean_first"] == report["mean_by_epoch"][0]
    assert report["mean_last"] == report["mean_by_epoch"][-1]
    assert len(report["warnings"]) == 1
    told = json.loads(ltau("info", tmp_path / "errors.h5", "--json").out)["summary"]
    for name in told:
        if name != "notes":
            assert told[name] == report[name], name


def test_info_shows_the_report_later(logged, ltau, tmp_path):
    log = falling()
    log[:, 3] = 0.5
    log[4, 7] = np.inf
    warnings, out = logged(log, "--units", "eV")
    assert len(warnings) == 2
    text = ltau("info", tmp_path / "errors.h5").out
    for line in [*out.splitlines()[1:], *(f"  warning: {warning}" for warning in warnings)]:
        assert line in text.splitlines()
    assert "30 samples, 10 epochs" in text


def test_gaps_and_runs_are_told(logged, tmp_path):
    write_folder(tmp_path / "a", falling(4), epochs=[0, 1, 2, 5])
    write_folder(tmp_path / "b", falling(4, seed=3), epochs=[10, 20, 30, 40])
    warnings, out = logged(tmp_path / "a", tmp_path / "b")
    assert warnings == []
    assert "of 2 runs" in out
    assert "run 0: epochs 0 to 5, 4 logged, not there: 3, 4" in out
    assert "run 1: epochs 10 to 40, 4 logged\n" in out


def test_missing_values_are_counted_by_epoch(logged):
    log = falling()
    log[3, :4] = np.nan
    log[5, 2] = np.nan
    _, out = logged(log)
    assert "5 missing (0 to 4 per epoch)" in out


def test_long_logs_have_a_short_sparkline(logged):
    _, out = logged(falling(500, 5))
    assert len(out.splitlines()[-1].strip()) == 60


def test_quiet_leaves_the_warnings(logged):
    log = falling()
    log[:, 3] = 0.5
    warnings, out = logged(log, "-q")
    assert len(warnings) == 1
    assert out == ""


# Each warning

LOG = falling(12)
WARNINGS = {  # what is put where into a log with nothing wrong; the warning, what is printed
    "constant": (  # sample 9 is logged once: nothing could change
        [(np.s_[:, [3, 7]], 0.25), (np.s_[:, 9], np.nan), (np.s_[0, 9], 1.0)],
        "2 samples have the same error at every epoch: 3, 7", ""),
    "many": ([(np.s_[:, 9:20], 0)],
             "11 samples have the same error at every epoch: 9, 10, 11, 12, 13, ...", ""),
    "infinite": (  # one is too large for float32
        [(np.s_[[1, 4], [2, 3]], np.inf), (np.s_[6, 6], 1e300)],
        "3 infinite errors are taken as missing", "3 missing"),
    "jump": ([(np.s_[6:], LOG[:6])],
             "run 0: the mean error jumps up at 1 epochs (a restart?): 6", ""),
    "copies": ([(4, LOG[3]), (9, LOG[8])],
               "run 0: 2 epochs repeat the one before, value for value: 4, 9", ""),
    # An epoch of zeros has no smallest error above 0, and yet it can repeat.
    "copies of zeros": ([(np.s_[5:8], 0)],
                        "run 0: 2 epochs repeat the one before, value for value: 6, 7", ""),
    "zeros": ([(np.s_[2, :16], 0), (np.s_[5, 3:25], 0), (np.s_[7, :14], 0)],
              "run 0: 2 epochs are mostly 0 (not visited?): 2, 5", "52 zeros"),
    "half empty": ([(np.s_[2, :20], np.nan), (np.s_[2, 20:26], 0)],
                   "run 0: 1 epochs are mostly 0 (not visited?): 2", ""),
    "nothing": ([(np.s_[[0, 4]], np.nan)], "run 0: 2 epochs hold nothing: 0, 4", "60 missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", WARNINGS)
def test_warnings(name, logged):
    changes, warned, printed = WARNINGS[name]
    log = LOG.copy()
    for place, values in changes:
        log[place] = values
    warnings, out = logged(log)
    assert warned in warnings
    assert len(warnings) == 1 or "zeros" in name, warnings  # after which the mean jumps up
    assert printed in out


def test_never_logged(logged, tmp_path, ltau):
    log = falling()
    log[:, [2, 5, 11]] = np.nan
    path = save(tmp_path / "log.npy", log)
    result = ltau("ingest", path, "-o", tmp_path / "errors.h5")
    check(result, INPUT, path, "3 of 30 samples were never logged", "first is sample 2")
    assert "--allow-missing" in result.err
    (warning,), out = logged(log, "--allow-missing")
    assert warning == "3 samples were never logged and carry no weight: 2, 5, 11"
    assert "3 samples never logged" in out


@pytest.mark.parametrize("form", ["table", "folder"])
def test_duplicated_ids(form, logged, tmp_path):
    log = falling(3, 5)
    rows = [(t, i, log[t, i]) for t in range(3) for i in range(5)]
    rows += [(1, 2, 0.3), (1, 2, 0.7), (2, 0, 0.1)]
    if form == "table":
        path = tmp_path / "log.csv"
        path.write_text("epoch,sample,error\n" + "".join(f"{t},{i},{e}\n" for t, i, e in rows))
    else:
        tables = [np.array([row[1:] for row in rows if row[0] == t]) for t in range(3)]
        path = write_folder(tmp_path / "logs", tables)
    (warning,), _ = logged(path)
    assert warning.startswith("3 ids stand twice in an epoch; the last one counts")
    with h5py.File(tmp_path / "errors.h5") as file:
        assert file["errors"][1, 2] == np.float32(0.7)


def test_each_run_is_looked_at(logged):
    jump, other = LOG.copy(), falling(seed=7)[:, np.random.default_rng(3).permutation(30)]
    jump[8:] *= 50
    (warning,), _ = logged({"a": LOG, "b": jump})
    assert warning == "run 1: the mean error jumps up at 3 epochs (a restart?): 8, 9, 10"
    (warning,), _ = logged({"a": falling(), "b": falling(seed=6), "c": other})
    assert warning.startswith("run 2 seems to hold its samples in another order than run 0")
    assert "rank correlation" in warning


SAMPLES = {"errors": falling(40, 400), "few": falling(30, 60)}


@pytest.mark.parametrize(("name", "start"), [("errors", 3), ("errors", 20), ("errors", 39),
                                             ("few", 12)])  # fmt: skip
def test_samples_that_change_places(name, start, logged):
    """As after a restart with the data set in another order, wherever that is, in any run."""
    log = SAMPLES[name].copy()
    rng = np.random.default_rng(4)
    log[start:] = log[start:, rng.permutation(log.shape[1])]
    (warning,), _ = logged(log)
    assert warning.startswith("run 0: the samples seem to be in another order from epoch "
                              f"{start} on: the rank correlation")  # fmt: skip
    warnings, _ = logged({"a": SAMPLES[name], "b": log})
    assert any(line.startswith(warning[:70].replace("run 0", "run 1")) for line in warnings)


def test_samples_that_change_places_at_every_epoch(logged):
    log = falling(10, 600)
    np.random.default_rng(4).permuted(log, axis=1, out=log)
    (warning,), _ = logged(log)
    assert warning.startswith("run 0: the errors of one epoch and the next have nothing in common")


@pytest.mark.parametrize(
    "log",
    [
        SAMPLES["errors"],
        SAMPLES["few"],
        np.r_[1 - SAMPLES["errors"][:4] / 30, SAMPLES["errors"] / 30],  # untrained: others are hard
        falling(40) * np.random.default_rng(5).uniform(0.7, 1.3, (40, 1)),  # noise is no jump
        # Mean, minimum and maximum agree; the values do not.
        np.array([[1.0, 2, 3, 4], [4, 3, 2, 1]] * 2),
    ],
)
def test_no_warning(log, logged):
    assert logged(log)[0] == []


def test_epochs_with_nothing_have_no_mean(logged, tmp_path, ltau):
    log = LOG.copy()
    log[[0, 4]] = np.nan
    logged(log)
    report = json.loads(ltau("info", tmp_path / "errors.h5", "--json").out)["summary"]
    assert report["mean_by_epoch"][0] is None
    assert report["mean_first"] == report["mean_by_epoch"][1]


@pytest.mark.parametrize("form", ["folder", "wide"])
def test_epochs_that_stand_twice(form, logged, tmp_path):
    log, epochs = falling(5), ["0", "1", "01", "2", "02"]
    if form == "folder":
        path = write_folder(tmp_path / "logs", log, epochs=epochs)
    else:
        path = tmp_path / "log.csv"
        header = "epoch," + ",".join(f"s{i}" for i in range(30))
        lines = [f"{int(e)}," + ",".join(map(str, row)) for e, row in zip(epochs, log, strict=True)]
        path.write_text("\n".join([header, *lines]))
    (warning,), _ = logged(path)
    assert warning == "run 0: 2 epoch numbers stand twice: 1, 2"


def test_every_warning_at_once_is_bounded(logged):
    """However much is wrong, a line names at most five ids."""
    log = np.zeros((40, 3000))
    log[::2, 0] = 1e-3
    log[5:, 1] = np.nan
    warnings, _ = logged(log)
    assert warnings
    assert all(len(warning) < 150 for warning in warnings)


def test_the_sample_data_has_nothing_wrong(logged):
    assert logged(SAMPLE / "logs")[0] == []
