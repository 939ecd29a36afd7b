"""One value for each row, in every form and of every kind; through the commands that take it."""

import gzip
import json

import ase.io
import h5py
import numpy as np
import pytest

from ltau_cli.errors import InputError
from ltau_cli.matching import Known
from ltau_cli.readers import column
from ltau_cli.readers.column import read_counts, read_labels, read_magnitudes
from ltau_cli.readers.descriptors import open_descriptors
from ltau_cli.readers.place import Place
from tests.helpers import INPUT, USAGE, check, contents, frames_of, same, save

VALUES = np.array([0.5, 0, 2, 3, 4, 5, 6, 7])  # of the atoms of three frames
WORDS = np.array(["Cu", "Au", "Cu", "Cu", "Au", "Au", "Cu", "a b"])
FORMS = [
    "a.npy", "a.npz", "a.npz:spread", "a.h5:/deep/spread", "a.txt", "plain.csv", "a.csv",
    "a.csv:spread", "a.tsv", "a.tsv.gz", "alone.csv", "bom.csv", "a.jsonl", "a.xyz", "a.xyz:std",
]  # fmt: skip


def write_forms(folder, values):
    """Write the same values in every form."""
    text = [str(value) for value in values.tolist()]
    save(folder / "a.npy", values[:, None])
    np.savez(folder / "a.npz", spread=values, other=values)
    with h5py.File(folder / "a.h5", "w") as file:
        file["deep/spread"] = values if values.dtype.kind != "U" else values.astype("S")
    for name in ("a.txt", "plain.csv"):
        (folder / name).write_text("\n".join(text) + "\n")
    (folder / "a.csv").write_text("x,spread\n" + "".join(f"9,{v}\n" for v in text))
    (folder / "a.tsv").write_text("x\tspread\n" + "".join(f"9\t{v}\n" for v in text))
    (folder / "a.tsv.gz").write_bytes(gzip.compress((folder / "a.tsv").read_bytes()))
    (folder / "alone.csv").write_text("mine\n" + "".join(f"{v}\n" for v in text))
    (folder / "bom.csv").write_text("\ufeffspread, x\n" + "".join(f"{v}, 9\n\n" for v in text))
    rows = [json.dumps({"x": 9, "spread": value}) for value in values.tolist()]
    (folder / "a.jsonl").write_text("\n".join(rows) + "\n")
    frames = frames_of()
    for frame, part in zip(frames, np.split(values, [3, 4]), strict=True):
        frame.arrays["spread"], frame.arrays["std"] = part, part
    ase.io.write(folder / "a.xyz", frames, format="extxyz")


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_numbers(name, tmp_path):
    write_forms(tmp_path, VALUES)
    found = read_magnitudes(Place.parse(tmp_path / name), ("spread",), what="values")
    same(found.of(Known("rows", 8, {})).values, VALUES)


@pytest.mark.parametrize("name", [form for form in FORMS if "plain" not in form])
def test_every_form_of_labels(name, tmp_path):
    words = np.char.replace(WORDS, " ", "") if "xyz" in name else WORDS
    write_forms(tmp_path, words)
    found = read_labels(Place.parse(tmp_path / name), ("spread",)).values
    assert found.tolist() == words.tolist()


@pytest.mark.parametrize("name", [form for form in FORMS if "xyz" not in form])
def test_every_form_of_counts(name, tmp_path):
    write_forms(tmp_path, np.array([3, 1, 4, 1, 5, 9, 2, 6]))
    place = Place.parse(tmp_path / name)
    if name in ("a.npz", "a.csv", "a.tsv", "a.tsv.gz", "bom.csv", "a.jsonl"):  # nothing says which
        with pytest.raises(InputError):
            read_counts(place)
        place = Place(place.path, "spread")
    same(read_counts(place), np.array([3, 1, 4, 1, 5, 9, 2, 6]))


def test_what_frames_say_of_their_atoms(tmp_path):
    frames = frames_of()
    for number, frame in enumerate(frames):
        frame.info["group"] = number
    ase.io.write(tmp_path / "a.xyz", frames, format="extxyz")
    natoms = [len(frame) for frame in frames]
    found = read_labels(Place(tmp_path / "a.xyz"), column.GROUPS).values
    assert found.tolist() == np.repeat(range(3), natoms).tolist()
    symbols = [symbol for frame in frames for symbol in frame.get_chemical_symbols()]
    assert read_labels(Place(tmp_path / "a.xyz", "species")).values.tolist() == symbols


@pytest.mark.parametrize(("values", "said"), [
    (VALUES[1:], "has 7 values, rows has 8 rows"),
    (-VALUES, "7 values are negative, the first is row 0"),
    (np.where(VALUES == 3, np.nan, VALUES), "NaN or infinite, the first is row 3"),
    (VALUES * 1e300, "the first is row 0"),
    (np.ones((8, 2)), r"shape \(8, 2\)"),
    (np.ones((2, 4, 1)), r"shape \(2, 4, 1\)"),
])  # fmt: skip
def test_what_are_no_magnitudes(values, said, tmp_path):
    place = Place(save(tmp_path / "bad.npy", values))
    with pytest.raises(InputError, match=said):
        read_magnitudes(place, ("spread",), what="values").of(Known("rows", 8, {}))


def test_norms_and_magnitudes(tmp_path):
    vectors = np.array([[3, 4, 0], [0, -5, 12]])
    place = Place(save(tmp_path / "v.npy", vectors))
    same(read_magnitudes(place, (), what="values").values, np.array([5.0, 13]))
    place = Place(save(tmp_path / "s.npy", np.array([-1, 2])))
    same(read_magnitudes(place, (), what="values", signed=True).values, np.array([1.0, 2]))


@pytest.mark.parametrize("values", [[1.5], [0], [-1], [[1, 2]], [np.nan]])
def test_what_are_no_counts(values, tmp_path):
    with pytest.raises(InputError):
        read_counts(Place(save(tmp_path / "n.npy", np.array(values))))


def test_what_is_not_there(tmp_path):
    write_forms(tmp_path, VALUES)
    np.savez(tmp_path / "rows.npz", descriptors=np.ones((8, 2)), spread=VALUES[:, None])
    with open_descriptors(Place(tmp_path / "rows.npz")) as source:
        same(source.column("spread").values, VALUES)
        with pytest.raises(InputError, match="has no array std"):
            source.column("std")
    for name in ("a.xyz", "a.csv"):
        with pytest.raises(InputError, match="has no column gap"):
            read_magnitudes(Place(tmp_path / name, "gap"), ("spread",), what="values")
    (tmp_path / "latin.txt").write_bytes(b"\xe4\n")
    with pytest.raises(InputError, match="cannot read it as text"):
        read_labels(Place(tmp_path / "latin.txt"))


def test_values_that_carry_ids_are_put_in_the_order_of_the_rows(small, tmp_path, ltau):
    x, order = np.load(small["x"]), np.random.default_rng(0).permutation(20)
    ids = np.array([f"atom {i}" for i in range(20)])
    np.savez(tmp_path / "rows.npz", descriptors=x, sample_id=ids)
    names = np.array(["a", "b"])[np.arange(20) % 2]
    lines = ["sample_id,spread,group", *(f"{ids[i]},{i}.5,{names[i]}" for i in order)]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    out, table = tmp_path / "s.h5", tmp_path / "t.csv"
    words = ("score", tmp_path / "rows.npz", "-m", small["model"], "-o", out)
    ltau.ok(*words, "--feature", f"spread={table}", "--group", table)
    found = contents(out)
    same(found["features"][:, 0], np.arange(20, dtype=np.float32) + 0.5)
    assert found["group"].tolist() == names.tolist()
    (tmp_path / "t.csv").write_text("\n".join(lines[:-1]) + "\n")
    result = ltau(*words, "--group", table, "-f")
    check(result, INPUT, table, "no labels for 1 rows", f"sample_id {ids[order[-1]]}")


def test_counts_are_no_frames(small, tmp_path, ltau):
    """--natoms takes counts, --frames takes frames, each in every command that has both."""
    path, out, weights = tmp_path / "frames.xyz", tmp_path / "o.h5", tmp_path / "w.txt"
    ase.io.write(path, [ase.Atoms("Cu3"), ase.Atoms("Cu17")])
    counts = save(tmp_path / "n.npy", [3, 17])
    log = save(tmp_path / "log.npy", np.random.default_rng(0).random((4, 20)))
    for words in (
        ("ingest", log, "-o", out),
        ("score", small["x"], "-m", small["model"], "-o", out),
        ("weights", small["model"], "--per", "structure", "--suspects", 0, "-o", weights),
    ):
        result = ltau(*words, "-f", "--natoms", path)
        check(result, INPUT, path, "holds frames, not the number of atoms")
        assert f"--frames {path}" in result.err
        check(ltau(*words, "-f", "--natoms", counts, "--frames", path), USAGE, "--natoms")
        made = []
        for given in (("--natoms", counts), ("--frames", path)):
            ltau.ok(*words, "-f", *given)
            is_text = words[0] == "weights"
            made.append(weights.read_text() if is_text else contents(out)["structure"].tolist())
        assert made[0] == made[1]
