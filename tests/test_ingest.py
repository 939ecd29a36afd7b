"""Every log that people have goes in, value for value, or is refused with a reason."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import math
import resource
import sys
import tempfile
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ltau_cli.cli.main import run as run_cli
from ltau_cli.readers.logs.open import FORMATS
from tests.conftest import SAMPLE, finish, start
from tests.test_errors import COMPUTE, INPUT, USAGE, check, save

LABELS = ("sample_id", "structure", "species", "config_type", "group", "magnitude")


def contents(path):
    """All datasets of an artifact; text as str."""
    with h5py.File(path) as file:
        found = {name: file[name][...] for name in file}
    return {k: np.char.decode(v, "utf-8") if v.dtype.kind == "S" else v for k, v in found.items()}


@pytest.fixture
def ingest(ltau, tmp_path):
    """Ingest and return what was stored."""

    def call(*words):
        out = tmp_path / "out" / "errors.h5"
        out.parent.mkdir(exist_ok=True)
        result = ltau("ingest", *words, "-o", out, "--force")
        assert result.code == 0, result.err
        return contents(out)

    return call


@pytest.fixture
def refused(ltau, tmp_path):
    """Ingest and check the refusal; nothing is left behind."""

    def call(words, said, code=INPUT, hint=True):
        out = tmp_path / "refused" / "errors.h5"
        out.parent.mkdir(exist_ok=True)
        said = [said] if isinstance(said, str) else said
        result = ltau("ingest", *words, "-o", out)
        hint = "hint: " in result.err if hint is None else hint
        check(result, code, *said, hint=hint)
        assert list(out.parent.iterdir()) == []

    return call


def stored(log, missing=()):
    """What is stored of a log, value by value."""
    result = np.empty(np.shape(log), dtype=np.float32)
    for t, row in enumerate(log):
        for i, value in enumerate(row):
            value = float(value)
            if math.isinf(value) or any(value == sentinel for sentinel in missing):
                value = math.nan
            with np.errstate(over="ignore"):
                single = np.float32(value)
            result[t, i] = np.nan if np.isinf(single) else single
    return result


def norm_of(vector, norm="l2"):
    sizes = [abs(float(x)) for x in vector]
    return {
        "l2": math.sqrt(sum(x * x for x in sizes)),
        "l1": sum(sizes),
        "max": math.nan if any(map(math.isnan, sizes)) else max(sizes),
        "rms": math.sqrt(sum(x * x for x in sizes) / len(sizes)),
    }[norm]


def same(got, wanted):
    np.testing.assert_array_equal(got, np.asarray(wanted))


def random_log(n_epochs=5, n=12, seed=0, holes=0.1, dtype=np.float64):
    """A log with NaN and infinity in it, each sample logged at least once."""
    rng = np.random.default_rng(seed)
    log = rng.gamma(2.0, 0.1, (n_epochs, n))
    log[1:][rng.random((n_epochs - 1, n)) < holes] = np.nan
    log[-1, 0] = np.inf
    return log.astype(dtype)


def write_folder(folder, log, name="errors_epoch_{}.npy", epochs=None):
    folder.mkdir(parents=True, exist_ok=True)
    for epoch, row in zip(epochs or range(len(log)), log, strict=True):
        np.save(folder / name.format(epoch), row)
    return folder


# Folders of per-epoch arrays


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nequip_logger(dtype, tmp_path, ingest):
    """Epochs from 0 without padding; NaN is unseen, inf held by no rank; the end may be missing."""
    log = random_log(12, 9, dtype=dtype)
    log[:, 8] = np.nan
    log[[0, 10], 8] = 0.5  # the largest training id is seen in two epochs only
    folder = tmp_path / "logs"
    rows = [row[:8] if math.isnan(row[8]) else row for row in log]
    write_folder(folder, rows, "train_force_errors_epoch_{}.npy")
    (folder / "config.yaml").write_text("seed: 1\n")
    np.save(folder / "train_natoms.npy", [9])
    got = ingest(folder)
    same(got["errors"], stored(log))
    assert got["epoch"].tolist() == list(range(12))
    assert got["run"].tolist() == [0] * 12
    same(got["n_logged"], np.isfinite(log).sum(axis=0))


def test_nequip_logger_with_held_out_atoms(tmp_path, ingest, refused):
    log = random_log(4, 10)
    log[:, [2, 5, 6]] = np.nan
    folder = write_folder(tmp_path / "logs", log, "train_force_errors_epoch_{}.npy")
    refused([folder], ["3 of 10 samples were never logged", "sample 2"])
    got = ingest(folder, "--allow-missing")
    same(got["errors"], stored(log))
    assert np.flatnonzero(got["n_logged"] == 0).tolist() == [2, 5, 6]
    assert np.isnan(got["sample_min"][[2, 5, 6]]).all()


def test_id_tables_in_any_order(tmp_path, ingest):
    log = random_log(6, 15)
    rng = np.random.default_rng(1)
    rows = []
    for row in log:
        seen = rng.permutation(np.flatnonzero(~np.isnan(row)))
        rows.append(np.stack([seen, row[seen]], axis=1))
    folder = write_folder(tmp_path / "logs", rows, "train_force_errors_epoch_{}.npy")
    same(ingest(folder)["errors"], stored(log))
    folder = write_folder(tmp_path / "other", rows, "step{}.npy")
    same(ingest(folder)["errors"], stored(log))


def test_patched_nequip(tmp_path, ingest, refused):
    """Forces and energies in one folder; -1 was NaN or infinite, 0 was not visited."""
    forces, energies = random_log(4, 12), random_log(4, 3, seed=1)
    for log in (forces, energies):
        log[1, 1], log[2, 2] = 0, -1
    folder = write_folder(
        tmp_path / "logs",
        np.where(np.isfinite(forces), forces, -1),
        "epoch_{}_forces_errors.npy",
    )
    write_folder(folder, np.where(np.isfinite(energies), energies, -1),
                 "epoch_{}_energy_errors.npy")  # fmt: skip
    refused([folder], ["epoch_#_energy_errors.npy", "epoch_#_forces_errors.npy"])
    for quantity, log in (("forces", forces), ("energy", energies)):
        got = ingest(folder, "--quantity", quantity)
        same(got["errors"], stored(log, missing=(-1, 0)))
        assert got["epoch_zeros"].sum() == 0


def test_the_hint_names_the_quantities(tmp_path, ltau):
    for name in ("epoch_{}_forces_errors.npy", "epoch_{}_energy_errors.npy"):
        write_folder(tmp_path / "logs", np.ones((2, 3)), name)
    result = ltau("ingest", tmp_path / "logs", "-o", tmp_path / "o.h5")
    assert "--quantity forces or --quantity energy" in result.err
    result = ltau("ingest", tmp_path / "logs", "-o", tmp_path / "o.h5", "--quantity", "energy")
    assert result.code == 0


@pytest.mark.parametrize(
    "name",
    ["{}.npy", "e{:03d}.npy", "epoch={}-step=7.npy", "loss.epoch.{}.npy", "2024_run_{}_x.npy"],
)
def test_any_other_numbered_set(name, tmp_path, ingest):
    log = random_log(3, 5)
    epochs = [9, 10, 101]
    got = ingest(write_folder(tmp_path / "logs", log, name, epochs))
    same(got["errors"], stored(log))
    assert got["epoch"].tolist() == epochs


def test_files_of_one_run_named_one_by_one(tmp_path, ingest):
    log = random_log(12, 5)
    folder = write_folder(tmp_path / "logs", log)
    got = ingest(*sorted(folder.iterdir()))
    same(got["errors"], stored(log))
    assert got["run"].tolist() == [0] * 12


def test_a_folder_with_a_single_epoch(tmp_path, ingest):
    got = ingest(write_folder(tmp_path / "logs", [[1.0, 2.0]], epochs=[7]))
    assert got["epoch"].tolist() == [7]


@pytest.mark.parametrize("dtype", ["f2", ">f4", ">f8", "i4", "u1", "?"])
def test_per_epoch_dtypes(dtype, tmp_path, ingest):
    log = (np.random.default_rng(0).random((3, 9)) * 3).astype(dtype)
    same(ingest(write_folder(tmp_path / "logs", log))["errors"], stored(log))


@pytest.mark.parametrize("norm", ["l2", "l1", "max", "rms"])
def test_per_epoch_vectors(norm, tmp_path, ingest):
    log = np.random.default_rng(0).normal(size=(3, 9, 3)).astype(np.float32)
    log[1, 4, 2] = np.nan
    wanted = stored([[norm_of(v, norm) for v in row] for row in log])
    folder = write_folder(tmp_path / "logs", log)
    same(ingest(folder, "--norm", norm)["errors"], wanted)


def test_timestamps_are_no_crash(tmp_path, ltau):
    """Numbers beyond int32 are refused or taken, never a traceback."""
    folder = write_folder(tmp_path / "logs", np.ones((2, 3)), epochs=[1712345678901, 1712345678999])
    assert ltau("ingest", folder, "-o", tmp_path / "o.h5").code in (0, INPUT)


# Arrays of all epochs


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i8", "u2"])
def test_one_npy(dtype, order, tmp_path, ingest):
    log = (np.random.default_rng(0).random((5, 11)) * 9).astype(dtype)
    got = ingest(save(tmp_path / "log.npy", np.asarray(log, order=order)))
    same(got["errors"], stored(log))
    assert got["epoch"].tolist() == list(range(5))


@pytest.mark.parametrize("norm", ["l2", "l1", "max", "rms"])
def test_one_npy_of_vectors(norm, tmp_path, ingest):
    log = np.random.default_rng(0).normal(size=(4, 7, 3))
    wanted = stored([[norm_of(v, norm) for v in row] for row in log])
    same(ingest(save(tmp_path / "log.npy", log), "--norm", norm)["errors"], wanted)


def test_npz_with_runs_of_different_length(tmp_path, ingest):
    runs = [random_log(n, 6, seed=n) for n in (3, 5, 2)]
    path = tmp_path / "log.npz"
    np.savez_compressed(path, run_10=runs[2], run_2=runs[1], run_1=runs[0])
    got = ingest(path)
    same(got["errors"], stored(np.concatenate(runs)))
    assert got["run"].tolist() == [0] * 3 + [1] * 5 + [2] * 2
    assert got["epoch"].tolist() == [*range(3), *range(5), *range(2)]
    same(ingest(f"{path}:run_2")["errors"], stored(runs[1]))


@pytest.mark.parametrize("options", [{}, {"chunks": (2, 7), "compression": "gzip"}])
def test_hdf5_dataset(options, tmp_path, ingest):
    log = random_log(5, 40)
    path = tmp_path / "train.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("logs/force/errors", data=log, **options)
        file["logs/energy"] = np.ones((2, 3), dtype=">i2")
    same(ingest(f"{path}:/logs/force/errors")["errors"], stored(log))
    same(ingest(f"{path}:logs/energy")["errors"], np.ones((2, 3)))
    with h5py.File(path, "a") as file:
        file["errors"] = log[:2]
    same(ingest(path)["errors"], stored(log[:2]))


def test_more_samples_than_a_block(tmp_path, ingest):
    log = np.random.default_rng(0).random((3, 40_000)).astype(np.float32)
    log[1, ::7] = np.nan
    with h5py.File(tmp_path / "log.h5", "w") as file:
        file["errors"] = log
    write_folder(tmp_path / "logs", log)
    for place in (save(tmp_path / "log.npy", log), tmp_path / "log.h5", tmp_path / "logs"):
        got = ingest(place)
        same(got["errors"], log)
        np.testing.assert_allclose(got["epoch_mean"], np.nanmean(log, axis=1, dtype=float))
        same(got["sample_max"], np.nanmax(log, axis=0))


# Tables


def write_long(path, rows, header=("epoch", "sample", "error"), delimiter=","):
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(header)
    writer.writerows(rows)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        file.write(text.getvalue())
    return path


def long_rows(log, ids=None, epochs=None):
    ids = range(len(log[0])) if ids is None else ids
    return [
        (epochs[t] if epochs else t, sample, repr(float(value)))
        for t, row in enumerate(log)
        for sample, value in zip(ids, row, strict=True)
        if not math.isnan(value)
    ]


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.csv.gz", "log.tsv.gz", "LOG.CSV"])
def test_long_table(name, tmp_path, ingest):
    log = random_log(6, 8)
    rows = long_rows(log)
    np.random.default_rng(0).shuffle(rows)
    path = write_long(tmp_path / name, rows, delimiter="\t" if ".tsv" in name else ",")
    got = ingest(path)
    same(got["errors"], stored(log))
    assert "sample_id" not in got


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


# Evaluated frames


def frames_of(natoms=(3, 1, 4), seed=0):
    rng = np.random.default_rng(seed)
    frames = []
    for number, n in enumerate(natoms):
        frame = Atoms(rng.choice(["H", "C", "O"], n), rng.normal(size=(n, 3)))
        frame.info["config_type"] = ["bulk", "slab"][number % 2]
        frames.append(frame)
    return frames


def evaluated(folder, keys, *, n_epochs=3, energies=None, calculator=(), seed=0, write=True):
    """Write frames with predicted and reference forces (or energies) as ASE does; the errors.

    Keys in ``calculator`` are stored as results of a calculator.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed + 1)
    log = []
    for epoch in range(n_epochs):
        frames, errors = frames_of(), []
        for frame in frames:
            if energies:
                values = rng.normal(size=2) * len(frame)
                errors.append(abs(values[0] - values[1]) / len(frame))
            else:
                values = np.round(rng.normal(size=(2, len(frame), 3)), 8)
                errors += [norm_of(d) for d in values[0] - values[1]]
            results = {}
            for key, value in zip(keys, values, strict=True):
                if key in calculator:
                    results[key] = value
                else:
                    (frame.info if energies else frame.arrays)[key] = value
            if results:
                frame.calc = SinglePointCalculator(frame, **results)
        if write:
            ase.io.write(folder / f"eval_epoch_{epoch * 10}.xyz", frames, format="extxyz")
        log.append(errors)
    return np.array(log, dtype=np.float32)


KNOWN_FORCES = [
    (("MACE_forces", "REF_forces"), ()),
    (("MACE_forces", "forces"), ("forces",)),
    (("forces", "original_dataset_forces"), ("forces",)),
]


@pytest.mark.parametrize(("keys", "calculator"), KNOWN_FORCES, ids=str)
def test_forces_of_frames(keys, calculator, tmp_path, ingest):
    log = evaluated(tmp_path / "eval", keys, calculator=calculator)
    got = ingest(tmp_path / "eval")
    np.testing.assert_allclose(got["errors"], log, rtol=1e-6)
    assert got["epoch"].tolist() == [0, 10, 20]
    frames = frames_of()
    same(got["structure"], [0] * 3 + [1] + [2] * 4)
    assert got["species"].tolist() == [s for f in frames for s in f.get_chemical_symbols()]
    assert got["config_type"].tolist() == ["bulk"] * 3 + ["slab"] + ["bulk"] * 4


def test_values_of_frames_are_those_in_the_file(tmp_path, ingest):
    """The oracle parses the text itself."""
    evaluated(tmp_path / "eval", ("MACE_forces", "REF_forces"))
    log = []
    for epoch in (0, 10, 20):
        lines = (tmp_path / f"eval/eval_epoch_{epoch}.xyz").read_text().splitlines()
        row = []
        for line in lines:
            words = line.split()
            if len(words) == 10 and "=" not in line:  # species, positions, then six components
                at = [float(word) for word in words[4:]]
                row.append(norm_of(a - b for a, b in zip(at[:3], at[3:], strict=True)))
        log.append(row)
    same(ingest(tmp_path / "eval")["errors"], np.array(log, dtype=np.float32))


def test_own_keys(tmp_path, ingest, refused):
    log = evaluated(tmp_path / "eval", ("f_model", "f_dft"))
    refused([tmp_path / "eval"], ["no predicted and reference forces", "f_dft", "f_model"])
    words = ("--prediction-key", "f_model", "--reference-key", "f_dft")
    np.testing.assert_allclose(ingest(tmp_path / "eval", *words)["errors"], log, rtol=1e-6)
    refused([tmp_path / "eval", *words[:3], "f_qmc"], "no predicted and reference")


def test_one_own_key(tmp_path, ingest):
    log = evaluated(tmp_path / "eval", ("f_model", "REF_forces"))
    got = ingest(tmp_path / "eval", "--prediction-key", "f_model")
    np.testing.assert_allclose(got["errors"], log, rtol=1e-6)


@pytest.mark.parametrize(
    ("keys", "calculator"),
    [
        (("MACE_energy", "REF_energy"), ()),
        (("MACE_energy", "energy"), ("energy",)),
        (("energy", "original_dataset_energy"), ("energy",)),
    ],
    ids=str,
)
def test_energies_of_frames_are_per_atom(keys, calculator, tmp_path, ingest):
    log = evaluated(tmp_path / "eval", keys, energies=True, calculator=calculator)
    got = ingest(tmp_path / "eval", "--quantity", "energy")
    np.testing.assert_allclose(got["errors"], log, rtol=1e-5)
    same(got["structure"], [0, 1, 2])
    assert got["config_type"].tolist() == ["bulk", "slab", "bulk"]


def test_single_frame_files_keep_their_epoch(tmp_path, ingest):
    evaluated(tmp_path / "eval", ("MACE_forces", "REF_forces"))
    assert ingest(tmp_path / "eval/eval_epoch_10.xyz")["epoch"].tolist() == [10]


def test_files_of_frames_are_epochs_and_folders_are_runs(tmp_path, ingest):
    first = evaluated(tmp_path / "a", ("MACE_forces", "REF_forces"))
    second = evaluated(tmp_path / "b", ("MACE_forces", "REF_forces"), seed=7)
    got = ingest(*(tmp_path / "a").iterdir())
    np.testing.assert_allclose(got["errors"], first, rtol=1e-6)
    assert got["run"].tolist() == [0] * 3
    got = ingest(tmp_path / "a", tmp_path / "b")
    np.testing.assert_allclose(got["errors"], np.r_[first, second], rtol=1e-6)
    assert got["run"].tolist() == [0] * 3 + [1] * 3


def test_ase_is_not_installed(tmp_path, ltau, monkeypatch):
    evaluated(tmp_path / "eval", ("MACE_forces", "REF_forces"))
    monkeypatch.setitem(sys.modules, "ase", None)
    monkeypatch.setitem(sys.modules, "ase.io", None)
    result = ltau("ingest", tmp_path / "eval", "-o", tmp_path / "o.h5")
    check(result, INPUT, "eval_epoch_0.xyz", "ASE", "not installed")
    assert "pip install 'ltau[ase]'" in result.err


def change_frames(path, change):
    frames = ase.io.read(path, ":")
    change(frames)
    ase.io.write(path, frames, format="extxyz")


def swap(frames):
    frames[0], frames[1] = frames[1], frames[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (swap, "other atoms"),
        (lambda frames: frames.pop(), "other atoms"),
        (lambda frames: frames[1].arrays.pop("MACE_forces"), "frame 1"),
        (lambda frames: frames.clear(), "empty"),
    ],
)
def test_frames_that_do_not_fit(change, said, tmp_path, refused):
    evaluated(tmp_path / "eval", ("MACE_forces", "REF_forces"))
    path = tmp_path / "eval/eval_epoch_10.xyz"
    if said == "empty":
        path.write_text("")
    else:
        change_frames(path, change)
    refused([tmp_path / "eval"], [path, said], hint=said == "other atoms")


def test_same_atoms_in_other_frames(tmp_path, refused):
    """Seven atoms in frames of 3 and 4 are not the samples of frames of 4 and 3."""
    folder = tmp_path / "eval"
    folder.mkdir()
    for epoch, natoms in enumerate([(3, 4), (4, 3)]):
        frames = [Atoms("H" * n, np.arange(3.0 * n).reshape(n, 3)) for n in natoms]
        for frame in frames:
            frame.arrays["MACE_forces"] = np.ones((len(frame), 3))
            frame.arrays["REF_forces"] = np.zeros((len(frame), 3))
        ase.io.write(folder / f"epoch_{epoch}.xyz", frames, format="extxyz")
    refused([folder], "epoch_1.xyz", hint=None)


def test_frames_that_are_cut_short(tmp_path, refused):
    evaluated(tmp_path / "eval", ("MACE_forces", "REF_forces"))
    path = tmp_path / "eval/eval_epoch_20.xyz"
    path.write_text(path.read_text()[:-150])
    refused([tmp_path / "eval"], [path, "frame 2"])


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
def test_runs_with_other_ids(ids, tmp_path, refused):
    paths = [
        write_long(tmp_path / f"{i}.csv", long_rows(random_log(3, 3), own))
        for i, own in enumerate(ids)
    ]
    refused(paths, ["1.csv", "0.csv", "sample_id"], hint=None)


def test_runs_with_the_same_ids(tmp_path, ingest):
    log = random_log(3, 3)
    paths = [write_long(tmp_path / f"{i}.csv", long_rows(log, [4, 5, 6])) for i in range(2)]
    got = ingest(*paths)
    same(got["errors"], stored(np.r_[log, log]))
    assert got["sample_id"].tolist() == [4, 5, 6]


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


def test_every(tmp_path, ingest):
    log = random_log(10, 4, holes=0)
    folder = write_folder(tmp_path / "logs", log)
    got = ingest(folder, "--every", 3)
    assert got["epoch"].tolist() == [0, 3, 6, 9]
    same(got["errors"], stored(log[::3]))
    got = ingest(save(tmp_path / "log.npy", log), "--epochs", "1:", "--every", 4)
    assert got["epoch"].tolist() == [1, 5, 9]


def test_epochs_of_each_run(tmp_path, ingest):
    np.savez(tmp_path / "log.npz", a=np.ones((4, 3)), b=np.ones((6, 3)))
    got = ingest(tmp_path / "log.npz", "--epochs", "-2:")
    assert got["epoch"].tolist() == [2, 3, 4, 5]
    assert got["run"].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("value", ["5", "a:b", "1:2:0", "1:2:-1", "1:2:3:4", ""])
def test_epochs_that_cannot_be_meant(value, tmp_path, refused):
    path = save(tmp_path / "log.npy", np.ones((3, 3)))
    refused([path, "--epochs", value], "START:STOP:STEP", code=USAGE)


def test_no_epoch_is_left(tmp_path, refused):
    path = save(tmp_path / "log.npy", np.ones((3, 3)))
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
        (["--group", "four.npy"], ["four.npy", "4 rows", "5 samples"]),
        (["--sample-id", "four.npy"], ["four.npy", "4 rows", "5 samples"]),
        (["--magnitude", "four.npy"], ["four.npy", "4 rows", "5 samples"]),
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
    refused([path, "--magnitude", bad], [bad, "NaN"], hint=False)
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
        (save(tmp_path / "log.npy", np.ones((2, 3))), "array"),
        (tmp_path / "eval", "frames"),
    ):
        result = ltau("ingest", path, "--format", kind, "-o", tmp_path / "o.h5", "--force")
        if kind == right:
            assert result.code == 0
        else:
            assert result.code == INPUT, result.err
            assert result.err.startswith("error: ")


# Refusals


def npy_folder(rows, name="errors_epoch_{}.npy"):
    def write(folder):
        return write_folder(folder / "logs", [np.asarray(row) for row in rows], name)

    return write


def text_file(name, text):
    def write(folder):
        path = folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def hdf5(**data):
    def write(folder):
        with h5py.File(folder / "log.h5", "w") as file:
            for name, values in data.items():
                file[name] = values
        return folder / "log.h5"

    return write


GZ = gzip.compress(b"epoch,sample,error\n" + b"0,0,1\n" * 2000)

REFUSALS = {
    "shape of an epoch": (npy_folder([np.ones((3, 4))] * 2), ["epoch_0.npy", "(3, 4)"], False),
    "dimensions of an epoch": (npy_folder([np.ones((3, 3, 3))] * 2), ["(3, 3, 3)"], False),
    "empty epochs": (npy_folder([[], []]), ["epoch_0.npy", "empty"], False),
    "negative id": (npy_folder([[[0, 1.0], [-1, 1]]] * 2), ["epoch_0.npy", "row 1", "-1"], True),
    "broken id": (npy_folder([[[0.5, 1.0], [1, 1]]] * 2), ["row 0", "0.5"], True),
    "NaN id": (npy_folder([[[0, 1.0], [np.nan, 1]]] * 2), ["row 1", "nan"], True),
    "huge id": (npy_folder([[[0, 1.0], [1e12, 1]]] * 2), ["1,000,000,000,000", "2 rows"], True),
    "everything missing": (npy_folder([[np.nan, np.inf]] * 2), ["every error is missing"], False),
    "text": (npy_folder([["a", "b"]] * 2), ["epoch_0.npy", "not numbers"], False),
    "complex": (npy_folder([[1j, 2j]] * 2), ["complex128", "not numbers"], False),
    "no such quantity": (npy_folder([[1.0]] * 2), ["of energy errors"], False),
    "no column": (text_file("a.csv", "epoch,sample,value\n0,0,1\n"), ["a.csv", "error"], True),
    "not a number": (text_file("a.csv", "epoch,sample,error\n0,0,1\n0,1,big\n"),
                     ["a.csv, line 3", "error", "'big'"], False),
    "broken epoch": (text_file("a.csv", "epoch,sample,error\n0.5,0,1\n"),
                     ["line 2", "epoch", "0.5", "whole"], False),
    "no epoch in a row": (text_file("a.csv", "epoch,sample,error\n,0,1\n"),
                          ["line 2", "epoch"], False),
    "ragged": (text_file("a.csv", "epoch,sample,error\n0,0,1\n0,1\n"),
               ["line 3", "2 columns"], False),
    "no id": (text_file("a.csv", "epoch,sample,error\n0,0,1\n0,,1\n"), ["line 3", "sample"], None),
    "negative": (text_file("a.csv", "epoch,sample,error\n4,0,1\n4,1,-2\n"),
                 ["a.csv, epoch 4", "sample 1", "-2"], True),
    "no header": (text_file("a.csv", "0,0,1\n0,1,2\n"), ["a.csv", "no header"], True),
    "empty table": (text_file("a.csv", ""), ["a.csv", "empty"], False),
    "only a header": (text_file("a.csv", "epoch,sample,error\n"), ["a.csv", "empty"], False),
    "only a wide header": (text_file("a.csv", "epoch,s0,s1,s2\n"), ["a.csv", "empty"], False),
    "not text": (text_file("a.csv", b"\x80\x81,\xff\n"), ["a.csv", "not a table"], False),
    "NUL": (text_file("a.csv", b"epoch,sample,error\n0,0,\0\n"), ["a.csv"], False),
    "not gzip": (text_file("a.csv.gz", b"epoch"), ["a.csv.gz", "not a table"], False),
    "gzip cut short": (text_file("a.csv.gz", GZ[: len(GZ) // 2]), ["a.csv.gz", "cut short"], False),
    "not JSON": (text_file("a.jsonl", '{"epoch":0,"sample":0,"error":1}\n{"epo'),
                 ["a.jsonl, line 2", "not JSON"], False),
    "no object": (text_file("a.jsonl", "[1, 2]\n"), ["a.jsonl, line 1", "object"], False),
    "no list": (text_file("a.jsonl", '{"epoch":0,"errors":[1]}\n{"epoch":1,"errors":2}\n'),
                ["line 2", "list"], False),
    "other length": (text_file("a.jsonl", '{"epoch":0,"errors":[1]}\n{"epoch":1,"errors":[2,3]}'),
                     ["line 2", "2 errors", "1"], False),
    "unknown file": (text_file("a.pt", b"\x80\x02}q"), ["a.pt", "cannot tell"], True),
    "not HDF5": (text_file("a.h5", b"HDF"), ["a.h5", "not an HDF5"], False),
    "several arrays": (hdf5(a=np.ones((2, 3)), b=np.ones((2, 3))),
                       ["log.h5", "2 arrays", "a, b"], True),
    "no array": (hdf5(), ["log.h5", "no array"], False),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name, tmp_path, refused):
    write, said, hint = REFUSALS[name]
    words = ["--quantity", "energy"] if name == "no such quantity" else []
    refused([write(tmp_path), *words], said, hint=hint)


def test_per_epoch_tables_that_do_not_say_what_they_hold(tmp_path, refused):
    folder = tmp_path / "logs"
    folder.mkdir()
    for epoch in range(2):
        write_long(folder / f"e{epoch}.csv", [(1, 2)], ("sample", "value"))
    refused([folder], ["e0.csv", "no column error"], hint=None)


def test_hdf5_place_that_is_not_there(tmp_path, refused):
    path = hdf5(a=np.ones((2, 3)))(tmp_path)
    refused([f"{path}:/b"], [path, "no array /b"])


def test_the_sample_data_goes_in_with_no_option(ingest, log):
    same(ingest(SAMPLE / "logs")["errors"], log)


# Random logs against the slow oracle


SENTINELS = (-1.0, 0.0, 99.0, -999.0)
DTYPES = ["f2", "f4", "f8", ">f2", ">f4", ">f8", "i2", "i4", "i8", ">i4", "u1", "u4", "?"]


@contextlib.contextmanager
def temporary():
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


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


@given(logs())
def test_random_arrays(drawn):
    log, missing = drawn
    with temporary() as folder:
        got = ingest_random(save(folder / "log.npy", log), folder, missing)
        agree(got, stored(log, missing))


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
        agree(got, stored(wanted, (-1,)))
        if got is not None:
            assert got["epoch"].tolist() == epochs
            if order != list(range(len(order))):
                assert got["sample_id"].tolist() == order


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
