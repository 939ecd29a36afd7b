"""Logs in arrays: folders of per-epoch arrays, arrays of all epochs."""

import math

import h5py
import numpy as np
import pytest

from tests.helpers import INPUT, norm_of, random_log, same, save, stored, write_folder

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


def test_patched_nequip(tmp_path, ltau, ingest, refused):
    """Forces and energies in one folder; -1 was NaN or infinite, 0 was not visited."""
    forces, energies = random_log(4, 12), random_log(4, 3, seed=1)
    for log in (forces, energies):
        log[1, 1], log[2, 2] = 0, -1
    folder = write_folder(
        tmp_path / "logs", np.where(np.isfinite(forces), forces, -1), "epoch_{}_forces_errors.npy"
    )
    write_folder(folder, np.where(np.isfinite(energies), energies, -1),
                 "epoch_{}_energy_errors.npy")  # fmt: skip
    refused([folder], ["epoch_#_energy_errors.npy", "epoch_#_forces_errors.npy"])
    told = ltau("ingest", folder, "-o", tmp_path / "o.h5").err
    assert "--quantity forces or --quantity energy" in told
    for quantity, log in (("forces", forces), ("energy", energies)):
        got = ingest(folder, "--quantity", quantity)
        same(got["errors"], stored(log, missing=(-1, 0)))
        assert got["epoch_zeros"].sum() == 0


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
    alone = ingest(write_folder(tmp_path / "alone", log[:1], "e{}.npy", [7]))
    assert alone["epoch"].tolist() == [7]


def test_files_of_one_run_named_one_by_one(tmp_path, ingest):
    log = random_log(12, 5)
    folder = write_folder(tmp_path / "logs", log)
    got = ingest(*sorted(folder.iterdir()))
    same(got["errors"], stored(log))
    assert got["run"].tolist() == [0] * 12


@pytest.mark.parametrize("dtype", ["f2", ">f4", ">f8", "i4", "u1", "?"])
def test_per_epoch_dtypes(dtype, tmp_path, ingest):
    log = (np.random.default_rng(0).random((3, 9)) * 3).astype(dtype)
    same(ingest(write_folder(tmp_path / "logs", log))["errors"], stored(log))


@pytest.mark.parametrize("norm", ["l2", "l1", "max", "rms"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vectors(dtype, norm, tmp_path, ingest):
    log = np.random.default_rng(0).normal(size=(3, 9, 3)).astype(dtype)
    log[1, 4, 2] = np.nan
    wanted = stored([[norm_of(v, norm) for v in row] for row in log])
    for path in (write_folder(tmp_path / "logs", log), save(tmp_path / "log.npy", log)):
        same(ingest(path, "--norm", norm)["errors"], wanted)


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


VECTORS = np.random.default_rng(0).normal(size=(40, 3))
MAGNITUDES = np.linalg.norm(VECTORS, axis=1)


@pytest.mark.parametrize(
    "values",
    [MAGNITUDES, MAGNITUDES[:, None], VECTORS, np.c_[np.arange(40), MAGNITUDES]],
    ids=lambda values: str(values.shape),
)
@pytest.mark.parametrize("name", ["err.npy", "err.npz", "logs/final.npy", "err_7.npy"])
def test_one_epoch(name, values, tmp_path, ltau):
    """The errors of one trained network, as people keep them."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    np.savez(path, values) if name.endswith("z") else np.save(path, values)
    log = path.parent if "/" in name else path
    result = ltau("ingest", log, "-o", tmp_path / "o.h5")
    assert result.code == 0, result.err
    (line,) = result.err.splitlines()
    assert line.startswith(f"warning: {path}")
    assert line.endswith(f", of shape {values.shape}, is read as a log of one epoch")
    with h5py.File(tmp_path / "o.h5") as file:
        np.testing.assert_allclose(file["errors"][...], [MAGNITUDES], rtol=1e-6)
        assert file["epoch"][...].tolist() == [7 if "7" in name else 0]


def test_shapes_that_may_be_either_are_told(tmp_path, ltau, refused):
    """Magnitudes of three components, or epochs of three samples; samples that come first."""
    path = save(tmp_path / "log.npy", abs(VECTORS))
    result = ltau("ingest", path, "-o", tmp_path / "o.h5")
    assert f"warning: {path} is read as 40 epochs of 3 samples" in result.err
    words = ("ingest", path, "-o", tmp_path / "o.h5", "--force")
    assert "40 samples, 1 epoch " in ltau(*words, "--format", "epoch-arrays").out
    assert "read as" not in ltau(*words, "--format", "array").err
    save(path, np.ones((3000, 4)))
    assert "transpose it if samples come first" in ltau(*words).err
    (tmp_path / "logs").mkdir()
    for name in ("one", "other"):
        save(tmp_path / f"logs/{name}.npy", MAGNITUDES)
    refused([tmp_path / "logs"], ["no per-epoch files: no number in one.npy, other.npy"])


@pytest.mark.parametrize("name", ["epoch_{}", "e{}", "logs/epoch_{}/errors", "run_1/epoch_{}"])
@pytest.mark.parametrize("kind", ["npz", "h5", "vectors.h5"])
def test_one_array_per_epoch_inside_a_file(kind, name, tmp_path, ingest):
    log = np.random.default_rng(0).normal(size=(12, 5, 3))
    rows = log if "vectors" in kind else np.linalg.norm(log, axis=2)
    if name == "e{}":
        rows = np.linalg.norm(log, axis=2)  # numbered vectors may be runs of three samples
    arrays = {name.format(epoch + 3): row for epoch, row in enumerate(rows)}
    path = tmp_path / f"log.{kind}"
    if kind == "npz":
        np.savez(path, **arrays, species=["H"] * 5)
    else:
        with h5py.File(path, "w") as file:
            for key, row in arrays.items():
                file.create_dataset(key, data=row, compression="gzip" if "/" in key else None)
            file["logs/ids"] = np.arange(5)
    got = ingest(path)
    np.testing.assert_allclose(got["errors"], np.linalg.norm(log, axis=2), rtol=1e-6)
    assert got["epoch"].tolist() == list(range(3, 15))
    assert got["run"].tolist() == [0] * 12


def test_runs_of_epochs_inside_a_file(tmp_path, ingest, refused):
    runs = [random_log(n, 6, seed=n) for n in (3, 11)]
    path = tmp_path / "log.h5"
    with h5py.File(path, "w") as file:
        for run, log in enumerate(runs):
            for epoch, row in enumerate(log):
                file[f"run_{run}/epoch_{epoch}"] = row
    got = ingest(path)
    same(got["errors"], stored(np.concatenate(runs)))
    assert got["run"].tolist() == [0] * 3 + [1] * 11
    same(ingest(f"{path}:run_1")["errors"], stored(runs[1]))
    with h5py.File(path, "w") as file:
        for epoch in range(3):
            file[f"forces_{epoch}"], file[f"energy_{epoch}"] = np.ones(4), np.full(2, 7.0)
    refused([path], ["several sets of numbered files: energy_#, forces_#"])
    same(ingest(path, "--quantity", "energy")["errors"], np.full((3, 2), 7.0))
    np.savez(tmp_path / "two.npz", mine=MAGNITUDES, theirs=MAGNITUDES)
    refused([tmp_path / "two.npz"], ["2 arrays", "mine, theirs"])


@pytest.mark.parametrize("names", [["errors"], ["run_0", "run_1"], ["epoch_0", "epoch_1"]])
@pytest.mark.parametrize("ending", ["npz", "h5"])
def test_labels_beside_the_errors(ending, names, tmp_path, ingest):
    """Else rows whose ids are known would be taken in order."""
    if ending == "h5" and names[0] == "run_0":
        pytest.skip("arrays of runs are in .npz")
    log, ids = np.random.default_rng(0).random((3, 6)), np.array([4, 9, 2, 7, 5, 3])
    errors = {name: log[0] if "epoch" in name else log for name in names}
    labels = {"sample_id": ids, "natoms": np.array([2, 4])}
    path = tmp_path / f"log.{ending}"
    if ending == "npz":
        np.savez(path, **errors, **labels)
    else:
        with h5py.File(path, "w") as file:
            for name, values in (errors | labels).items():
                file[f"train/{name}"] = values
    got = ingest(f"{path}:/train/errors" if ending == "h5" and len(names) == 1 else path)
    assert got["sample_id"].tolist() == ids.tolist()
    assert got["structure"].tolist() == [0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("name", ["epoch_{}/sample_id", "epoch_{}/ids"])
def test_ids_in_each_epoch_are_refused(name, tmp_path, refused):
    with h5py.File(tmp_path / "log.h5", "w") as file:
        for epoch in range(3):
            file[f"epoch_{epoch}/errors"] = np.random.default_rng(epoch).random(6)
            file[name.format(epoch)] = np.random.default_rng(epoch).permutation(6)
    refused([tmp_path / "log.h5"], ["log.h5 has ids in each epoch (epoch_0/"])


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
