"""``ltau ingest --append`` while a training runs: only what is new is read, nothing is lost."""

from __future__ import annotations

import json
import os

import h5py
import numpy as np
import pytest

from tests.helpers import (
    INPUT,
    USAGE,
    check,
    contents,
    evaluated,
    long_rows,
    random_log,
    save,
    write_folder,
    write_long,
)

N = 12


class Growing:
    """A log of some format that grows epoch by epoch."""

    def __init__(self, folder, log):
        self.folder = folder / "logs"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = log
        self.n = 0

    @property
    def places(self):
        return [self.folder]

    def grow(self, n):
        for epoch in range(self.n, n):
            self.write(epoch)
        self.n = n

    def spoil(self):
        """Make what was read already unreadable."""
        for path in self.folder.iterdir():
            path.write_bytes(b"\x00 spoiled")


class Npy(Growing):
    name = "errors_epoch_{}.npy"

    def write(self, epoch):
        np.save(self.folder / self.name.format(epoch), self.log[epoch])


class Nequip(Npy):
    name = "train_force_errors_epoch_{}.npy"


class Ids(Growing):
    def write(self, epoch):
        order = np.random.default_rng(epoch).permutation(N)
        np.save(self.folder / f"e{epoch}.npy", np.stack([order, self.log[epoch][order]], axis=1))


class EpochTables(Growing):
    def write(self, epoch):
        rows = [row[1:] for row in long_rows([self.log[epoch]], range(100, 100 + N))]
        write_long(self.folder / f"epoch_{epoch}.csv", rows, ("sample", "error"))


class Whole(Growing):
    """All epochs in one file, which is read again."""

    def grow(self, n):
        self.n = n
        self.write_all(self.log[:n])

    def spoil(self):
        pass


class Array(Whole):
    @property
    def places(self):
        return [self.folder / "log.npy"]

    def write_all(self, log):
        np.save(self.places[0], log)


class Hdf5(Whole):
    @property
    def places(self):
        return [f"{self.folder / 'log.h5'}:/train/errors"]

    def write_all(self, log):
        with h5py.File(self.folder / "log.h5", "w") as file:
            file["train/errors"] = log


class Long(Whole):
    @property
    def places(self):
        return [self.folder / "log.csv"]

    def write_all(self, log):
        write_long(self.places[0], long_rows(log, range(100, 100 + N)))


class Wide(Whole):
    @property
    def places(self):
        return [self.folder / "log.tsv"]

    def write_all(self, log):
        rows = [[t, *map(repr, row.tolist())] for t, row in enumerate(log)]
        write_long(self.places[0], rows, ["epoch", *(f"s{i}" for i in range(N))], "\t")


class Json(Whole):
    @property
    def places(self):
        return [self.folder / "log.jsonl"]

    def write_all(self, log):
        lines = [json.dumps({"epoch": t, "errors": row.tolist()}) for t, row in enumerate(log)]
        self.places[0].write_text("\n".join(lines) + "\n")


FORMATS = [Npy, Nequip, Ids, EpochTables, Array, Hdf5, Long, Wide, Json]


@pytest.fixture
def artifact(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "errors.h5"


def same_contents(a, b):
    a, b = contents(a), contents(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def report_of(path):
    with h5py.File(path) as file:
        report = json.loads(file.attrs["summary"])
    report.pop("notes")
    return report


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("kind", FORMATS)
def test_equal_to_ingesting_everything_at_once(kind, tmp_path, artifact, ltau):
    log = random_log(9, N)
    log[:, 3] = 0.5
    log[6, 4] = 1e300
    growing = kind(tmp_path, log)
    for step, n in enumerate((3, 4, 4, 9)):
        growing.spoil()
        growing.grow(n)
        for path in growing.folder.rglob("*.*"):  # not written a moment ago: complete
            os.utime(path, (1e9, 1e9))
        words = ["--append", "--units", "eV"] if step % 2 else ["--append"]
        result = ltau("ingest", *growing.places, "-o", artifact, *(
            words if step else ["--units", "eV"]
        ))  # fmt: skip
        assert result.code == 0, result.err
        if step:
            new = (3, 1, 0, 5)[step]
            assert f"{new} of them new" in result.out
        with h5py.File(artifact) as file:
            assert file["epoch"][...].tolist() == list(range(n))
    whole = kind(tmp_path / "whole", log)
    whole.grow(9)
    other = tmp_path / "whole.h5"
    assert ltau("ingest", *whole.places, "-o", other, "--units", "eV").code == 0
    same_contents(artifact, other)
    assert report_of(artifact) == report_of(other)


def test_frames(tmp_path, artifact, ltau):
    folder = tmp_path / "eval"
    evaluated(folder, ("MACE_forces", "REF_forces"), n_epochs=2)
    assert ltau("ingest", folder, "-o", artifact).code == 0
    evaluated(folder, ("MACE_forces", "REF_forces"), n_epochs=5)
    assert ltau("ingest", folder, "-o", tmp_path / "whole.h5").code == 0
    for epoch in (0, 10):
        (folder / f"eval_epoch_{epoch}.xyz").write_text("spoiled")
    result = ltau("ingest", folder, "-o", artifact, "--append")
    assert result.code == 0, result.err
    same_contents(artifact, tmp_path / "whole.h5")


def test_append_begins_an_artifact(tmp_path, artifact, ltau):
    folder = write_folder(tmp_path / "logs", random_log(3, N))
    assert ltau("ingest", folder, "-o", artifact, "--append").code == 0
    assert ltau("ingest", folder, "-o", tmp_path / "whole.h5").code == 0
    same_contents(artifact, tmp_path / "whole.h5")


def test_append_is_idempotent(tmp_path, artifact, ltau):
    growing = Npy(tmp_path, random_log(5, N))
    growing.grow(5)
    assert ltau("ingest", *growing.places, "-o", artifact).code == 0
    before = artifact.read_bytes()
    growing.spoil()
    for _ in range(2):
        result = ltau("ingest", *growing.places, "-o", artifact, "--append")
        assert result.code == 0, result.err
        assert "0 of them new" in result.out
    report = json.loads(ltau("ingest", *growing.places, "-o", artifact, "--append", "--json").out)
    assert report.get("n_new", 0) == 0
    assert artifact.read_bytes() == before


def test_epochs_that_come_late_find_their_place(tmp_path, artifact, ltau):
    """A file that was still being copied: its epoch is added behind the others, not lost."""
    log = random_log(5, N)
    folder = write_folder(tmp_path / "logs", log[[0, 1, 3]], epochs=[0, 1, 3])
    assert ltau("ingest", folder, "-o", artifact).code == 0
    write_folder(folder, log[[2, 4]], epochs=[2, 4])
    assert ltau("ingest", folder, "-o", artifact, "--append").code == 0
    got = contents(artifact)
    order = np.argsort(got["epoch"])
    assert got["epoch"][order].tolist() == [0, 1, 2, 3, 4]
    with np.errstate(over="ignore"):
        wanted = np.where(np.isfinite(log), log, np.nan).astype(np.float32)
    np.testing.assert_array_equal(got["errors"][order], wanted)
    assert report_of(artifact)["runs"] == [{"n_epochs": 5, "first": 0, "last": 4, "gaps": []}]


@pytest.mark.parametrize("which", [(0,), (1,), (0, 1)])
def test_runs_grow_each_on_its_own(which, tmp_path, artifact, ltau):
    logs = [random_log(6, N, seed=seed) for seed in range(2)]
    runs = [Npy(tmp_path / f"seed{i}", log) for i, log in enumerate(logs)]
    places = [run.folder for run in runs]
    for run in runs:
        run.grow(3)
    assert ltau("ingest", *places, "-o", artifact).code == 0
    for i in which:
        runs[i].grow(5)
    result = ltau("ingest", *places, "-o", artifact, "--append")
    assert result.code == 0, result.err
    assert ltau("ingest", *places, "-o", tmp_path / "whole.h5").code == 0
    got, wanted = contents(artifact), contents(tmp_path / "whole.h5")
    order = np.lexsort((got["epoch"], got["run"]))
    for name in wanted:
        rows = got[name][order] if len(got[name]) == len(order) else got[name]
        np.testing.assert_array_equal(rows, wanted[name], err_msg=name)


def test_npz_with_runs(tmp_path, artifact, ltau):
    a, b = (random_log(5, N, seed=seed) for seed in range(2))
    path = tmp_path / "log.npz"
    np.savez(path, a=a[:2], b=b[:3])
    assert ltau("ingest", path, "-o", artifact).code == 0
    np.savez(path, a=a[:4], b=b)
    assert ltau("ingest", path, "-o", artifact, "--append").code == 0
    got = contents(artifact)
    assert sorted(zip(got["run"].tolist(), got["epoch"].tolist(), strict=True)) == [
        *((0, e) for e in range(4)),
        *((1, e) for e in range(5)),
    ]


def test_every_and_epochs_go_on(tmp_path, artifact, ltau):
    growing = Npy(tmp_path, random_log(12, N, holes=0))
    words = ["--epochs", "2:", "--every", 3]
    growing.grow(6)
    assert ltau("ingest", *growing.places, "-o", artifact, *words).code == 0
    growing.grow(12)
    assert ltau("ingest", *growing.places, "-o", artifact, "--append").code == 0
    assert contents(artifact)["epoch"].tolist() == [2, 5, 8, 11]


def test_named_files_read_only_the_new_ones(tmp_path, artifact, ltau):
    growing = Npy(tmp_path, random_log(5, N))
    growing.grow(3)
    assert ltau("ingest", *growing.folder.iterdir(), "-o", artifact).code == 0
    growing.spoil()
    growing.grow(5)
    result = ltau("ingest", *growing.folder.iterdir(), "-o", artifact, "--append")
    assert result.code == 0, result.err
    with h5py.File(artifact) as file:
        inputs = json.loads(file.attrs["inputs"])
    assert len(inputs) == 5
    size = (growing.folder / "errors_epoch_4.npy").stat().st_size
    assert all(record["size"] == size for record in inputs), inputs


def test_inputs_of_a_folder_add_up(tmp_path, artifact, ltau):
    growing = Npy(tmp_path, random_log(5, N))
    for n in (3, 5):
        growing.grow(n)
        assert ltau("ingest", *growing.places, "-o", artifact, "--append").code == 0
    with h5py.File(artifact) as file:
        (record,) = json.loads(file.attrs["inputs"])
    assert record["n_files"] == 5
    assert record["size"] == sum(path.stat().st_size for path in growing.folder.iterdir())


def test_labels_stay(tmp_path, artifact, ltau):
    growing = Npy(tmp_path, random_log(5, N))
    growing.grow(3)
    natoms = save(tmp_path / "natoms.npy", [N - 5, 5])
    groups = save(tmp_path / "group.npy", list("abcabcabcabc"))
    words = ["ingest", *growing.places, "-o", artifact]
    assert ltau(*words, "--natoms", natoms, "--group", groups).code == 0
    before = contents(artifact)
    growing.grow(5)
    assert ltau(*words, "--append").code == 0
    for name in ("structure", "group"):
        np.testing.assert_array_equal(contents(artifact)[name], before[name])


def test_duplicated_ids_are_counted_once(tmp_path, artifact, ltau):
    path = tmp_path / "log.csv"
    rows = [(0, 0, 1), (0, 0, 2), (0, 1, 3)]
    write_long(path, rows)
    assert ltau("ingest", path, "-o", artifact).code == 0
    write_long(path, [*rows, (1, 0, 1), (1, 1, 2)])
    assert ltau("ingest", path, "-o", artifact, "--append").code == 0
    assert report_of(artifact)["n_duplicated_ids"] == 1


def test_warnings_are_those_of_the_whole_log(tmp_path, artifact, ltau):
    log = np.random.default_rng(0).random((6, N)) + 0.5
    log[3:] *= 9
    growing = Npy(tmp_path, log)
    growing.grow(3)
    assert ltau("ingest", *growing.places, "-o", artifact).err == ""
    growing.grow(6)
    result = ltau("ingest", *growing.places, "-o", artifact, "--append")
    assert result.err.startswith("warning: run 0: the mean error jumps up at ")
    assert ": 3, 4" in result.err


def test_held_out_samples_stay_allowed(tmp_path, artifact, ltau):
    log = random_log(4, N)
    log[:, 5] = np.nan
    growing = Npy(tmp_path, log)
    growing.grow(2)
    words = ["ingest", *growing.places, "-o", artifact]
    assert ltau(*words, "--allow-missing").code == 0
    growing.grow(4)
    result = ltau(*words, "--append")
    assert result.code == 0, result.err
    assert contents(artifact)["n_logged"][5] == 0


def test_append_and_fit(tmp_path, artifact, ltau):
    growing = Npy(tmp_path, random_log(40, N))
    x = save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(N, 3)))
    for n in (1, 20, 40):
        growing.grow(n)
        words = ["--append", "--allow-missing"]
        assert ltau("ingest", *growing.places, "-o", artifact, *words).code == 0
    assert ltau("ingest", *growing.places, "-o", tmp_path / "whole.h5").code == 0
    for name, errors in (("a", artifact), ("b", tmp_path / "whole.h5")):
        result = ltau("fit", errors, x, "-o", tmp_path / f"{name}.h5", "-k", 3)
        assert result.code == 0, result.err
    same_contents(tmp_path / "a.h5", tmp_path / "b.h5")


# Files that are still being written


@pytest.mark.parametrize("left", [0, 5, 70, 150])
def test_a_truncated_last_array_is_left_for_next_time(left, tmp_path, artifact, ltau):
    log = random_log(5, N)
    growing = Npy(tmp_path, log)
    growing.grow(3)
    assert ltau("ingest", *growing.places, "-o", artifact).code == 0
    growing.grow(5)
    last = growing.folder / "errors_epoch_4.npy"
    whole = last.read_bytes()
    last.write_bytes(whole[:left])
    result = ltau("ingest", *growing.places, "-o", artifact, "--append")
    assert result.code == 0, result.err
    assert (
        f"warning: {last} is still being written; its last epoch is left for next time"
        in result.err
    )
    assert "1 of them new" in result.out
    last.write_bytes(whole)
    assert ltau("ingest", *growing.places, "-o", artifact, "--append").code == 0
    assert ltau("ingest", *growing.places, "-o", tmp_path / "whole.h5").code == 0
    same_contents(artifact, tmp_path / "whole.h5")


def test_without_append_a_truncated_file_is_refused(tmp_path, artifact, ltau):
    growing = Npy(tmp_path, random_log(3, N))
    growing.grow(3)
    last = growing.folder / "errors_epoch_2.npy"
    last.write_bytes(last.read_bytes()[:-4])
    check(ltau("ingest", *growing.places, "-o", artifact), INPUT, last, "cut short")
    result = ltau("ingest", *growing.places, "-o", artifact, "--append")
    assert result.code == 0, result.err
    assert contents(artifact)["epoch"].tolist() == [0, 1]


def test_a_truncated_file_in_the_middle_is_refused(tmp_path, artifact, ltau):
    growing = Npy(tmp_path, random_log(5, N))
    growing.grow(2)
    assert ltau("ingest", *growing.places, "-o", artifact).code == 0
    before = artifact.read_bytes()
    growing.grow(5)
    middle = growing.folder / "errors_epoch_3.npy"
    middle.write_bytes(middle.read_bytes()[:-4])
    check(ltau("ingest", *growing.places, "-o", artifact, "--append"), INPUT, middle, "cut short")
    assert artifact.read_bytes() == before


@pytest.mark.parametrize("lines", [0, 3, 9, 12])
def test_frames_that_are_being_written(lines, tmp_path, artifact, ltau):
    """Also where the writer has just finished a frame: line 5 of a file of 3 + 1 + 4 atoms."""
    folder = tmp_path / "eval"
    evaluated(folder, ("MACE_forces", "REF_forces"), n_epochs=3)
    last = folder / "eval_epoch_20.xyz"
    whole = last.read_text()
    last.unlink()
    assert ltau("ingest", folder, "-o", artifact).code == 0
    cut = {9: 8}.get(lines, lines)  # 2 + 3 lines, then 2 + 1
    last.write_text("".join(whole.splitlines(keepends=True)[:cut]))
    result = ltau("ingest", folder, "-o", artifact, "--append")
    assert result.code == 0, result.err
    assert "is still being written" in result.err
    assert contents(artifact)["epoch"].tolist() == [0, 10]
    last.write_text(whole)
    assert ltau("ingest", folder, "-o", artifact, "--append").code == 0
    assert ltau("ingest", folder, "-o", tmp_path / "whole.h5").code == 0
    same_contents(artifact, tmp_path / "whole.h5")


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("kind", [EpochTables, Long, Wide, Json])
@pytest.mark.parametrize("cut", ["line", "number"])
def test_tables_that_are_being_written(kind, cut, tmp_path, artifact, ltau):
    """An epoch that is only half there is not taken for a whole one."""
    log = random_log(5, N, holes=0)
    log[-1, 0] = 0.125
    growing = kind(tmp_path, log)
    growing.grow(4)
    assert ltau("ingest", *growing.places, "-o", artifact).code == 0
    growing.grow(5)
    last = growing.folder / "epoch_4.csv" if kind is EpochTables else growing.places[0]
    whole = last.read_bytes()
    if cut == "number":
        last.write_bytes(whole[:-8])
    elif kind in (Wide, Json):
        last.write_bytes(whole[:-40])
    else:
        last.write_bytes(b"\n".join(whole.splitlines()[:-2]) + b"\n")
    result = ltau("ingest", *growing.places, "-o", artifact, "--append")
    assert result.code == 0, result.err
    assert contents(artifact)["epoch"].tolist() == [0, 1, 2, 3]
    last.write_bytes(whole)
    assert ltau("ingest", *growing.places, "-o", artifact, "--append").code == 0
    assert ltau("ingest", *growing.places, "-o", tmp_path / "whole.h5").code == 0
    same_contents(artifact, tmp_path / "whole.h5")


# Refusals


@pytest.fixture
def two_epochs(tmp_path, artifact, ltau):
    """A log of two epochs and its artifact."""
    growing = Npy(tmp_path, random_log(6, N))
    growing.grow(2)
    assert ltau("ingest", *growing.places, "-o", artifact, "--units", "eV").code == 0
    return growing


@pytest.mark.parametrize("n", [N - 1, N + 1])
def test_other_counts(n, two_epochs, artifact, ltau):
    before = artifact.read_bytes()
    np.save(two_epochs.folder / "errors_epoch_2.npy", np.ones(n))
    result = ltau("ingest", *two_epochs.places, "-o", artifact, "--append")
    check(result, INPUT, "errors_epoch_2.npy", artifact, f"{n} samples", str(N))
    assert artifact.read_bytes() == before


def test_nequip_logs_may_end_early(tmp_path, artifact, ltau):
    log = random_log(4, N)
    growing = Nequip(tmp_path, log)
    growing.grow(2)
    words = ["ingest", *growing.places, "-o", artifact]
    assert ltau(*words).code == 0
    np.save(growing.folder / "train_force_errors_epoch_2.npy", log[2][: N - 3])
    assert ltau(*words, "--append").code == 0
    assert np.isnan(contents(artifact)["errors"][2, N - 3 :]).all()


@pytest.mark.parametrize("kind", [Long, EpochTables])
def test_other_ids(kind, tmp_path, artifact, ltau):
    growing = kind(tmp_path, random_log(4, N))
    growing.grow(2)
    assert ltau("ingest", *growing.places, "-o", artifact).code == 0
    before = artifact.read_bytes()
    rows = long_rows(random_log(1, N, holes=0), range(500, 500 + N), epochs=[2])
    if kind is Long:
        write_long(growing.places[0], rows)
    else:
        path = growing.folder / "epoch_2.csv"
        write_long(path, [row[1:] for row in rows], ("sample", "error"))
    result = ltau("ingest", *growing.places, "-o", artifact, "--append")
    assert result.code == INPUT, result.out
    assert artifact.read_bytes() == before


@pytest.mark.usefixtures("memory")
def test_a_partial_epoch_finds_its_samples_by_id(tmp_path, artifact, ltau):
    log = random_log(4, N, holes=0)
    growing = EpochTables(tmp_path, log)
    growing.grow(2)
    assert ltau("ingest", *growing.places, "-o", artifact).code == 0
    growing.grow(4)
    write_long(growing.folder / "epoch_2.csv", [(103, 0.5), (107, 0.25)], ("sample", "error"))
    result = ltau("ingest", *growing.places, "-o", artifact, "--append")
    if result.code == 0:  # or refused; but never at the wrong place
        row = contents(artifact)["errors"][2]
        assert {i: float(row[i]) for i in np.flatnonzero(~np.isnan(row))} == {3: 0.5, 7: 0.25}
    else:
        assert result.code == INPUT


def test_other_atoms(tmp_path, artifact, ltau):
    folder = tmp_path / "eval"
    evaluated(folder, ("MACE_forces", "REF_forces"), n_epochs=3)
    last = folder / "eval_epoch_20.xyz"
    text = last.read_text()
    last.unlink()
    assert ltau("ingest", folder, "-o", artifact).code == 0
    species = contents(artifact)["species"]
    lines = text.splitlines(keepends=True)
    lines[2] = lines[2].replace(species[0], "Xe", 1)
    last.write_text("".join(lines))
    result = ltau("ingest", folder, "-o", artifact, "--append")
    assert result.code == INPUT, result.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--norm", "l1"], "--norm"),
        (["--missing", "7"], "--missing"),
        (["--every", "2"], "--every"),
        (["--epochs", "1:"], "--epochs"),
        (["--quantity", "forces"], "--quantity"),
        (["--format", "epoch-arrays"], "--format"),
        (["--column", "error=e"], "--column"),
        (["--prediction-key", "p"], "--prediction-key"),
        (["--reference-key", "r"], "--reference-key"),
        (["--units", "meV"], "eV, not meV"),
    ],
)
def test_other_options(words, said, two_epochs, artifact, ltau):
    before = artifact.read_bytes()
    two_epochs.grow(4)
    result = ltau("ingest", *two_epochs.places, "-o", artifact, "--append", *words)
    check(result, USAGE, artifact, hint="units" not in words[0])
    assert result.err.splitlines()[0].endswith(f" {said}")
    assert artifact.read_bytes() == before


@pytest.mark.parametrize("label", ["--natoms", "--group", "--sample-id", "--magnitude"])
def test_labels_are_not_dropped_in_silence(label, two_epochs, artifact, tmp_path, ltau):
    """They are attached, or refused."""
    labels = save(tmp_path / "label.npy", [N] if label == "--natoms" else np.arange(N))
    two_epochs.grow(4)
    result = ltau("ingest", *two_epochs.places, "-o", artifact, "--append", label, labels)
    name = {"--natoms": "structure"}.get(label, label[2:].replace("-", "_"))
    assert result.code == USAGE or name in contents(artifact)


def test_the_last_epochs_cannot_grow(tmp_path, artifact, ltau):
    growing = Npy(tmp_path, random_log(5, N, holes=0))
    growing.grow(3)
    assert ltau("ingest", *growing.places, "-o", artifact, "--epochs", "-2:").code == 0
    growing.grow(5)
    result = ltau("ingest", *growing.places, "-o", artifact, "--append")
    check(result, USAGE, artifact, "counted from the end")


def test_negative_errors_are_refused(two_epochs, artifact, ltau):
    before = artifact.read_bytes()
    row = np.ones(N)
    row[7] = -2
    np.save(two_epochs.folder / "errors_epoch_2.npy", row)
    result = ltau("ingest", *two_epochs.places, "-o", artifact, "--append")
    check(result, INPUT, "errors_epoch_2.npy", "sample 7", "-2")
    assert artifact.read_bytes() == before
    assert [path.name for path in artifact.parent.iterdir()] == ["errors.h5"]


def test_append_to_another_kind_of_file(two_epochs, artifact, tmp_path, ltau):
    x = save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(N, 3)))
    assert ltau("fit", artifact, x, "-o", tmp_path / "model.h5", "-k", 3).code == 0
    result = ltau("ingest", *two_epochs.places, "-o", tmp_path / "model.h5", "--append")
    check(result, 4, tmp_path / "model.h5", "kind model")
    (tmp_path / "text.h5").write_text("hello")
    result = ltau("ingest", *two_epochs.places, "-o", tmp_path / "text.h5", "--append")
    check(result, 4, tmp_path / "text.h5", "not an HDF5 file")
