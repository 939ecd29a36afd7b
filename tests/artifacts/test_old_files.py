"""Artifacts of every kind and format version that ever was: they are read and used, forever."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

import ltau_cli
from ltau_cli.artifacts.schema import SPECS

DATA = Path(__file__).parent.parent / "data"
FILES = sorted(DATA.glob("*.h5"))
QUERIES, TRUE_ERRORS, SPECIES = (
    f"{DATA}/test.npz:{name}" for name in ("descriptors", "errors", "species")
)


def versions(kind: str) -> set[int]:
    """Format versions of a kind that files are kept of."""
    found = (re.fullmatch(rf"{kind}-(\d+)(-[a-z]+)?", path.stem) for path in FILES)
    return {int(match[1]) for match in found if match}


def read(path: Path, *names: str) -> list[np.ndarray]:
    with h5py.File(path) as file:
        return [file[name][...] for name in names]


@pytest.mark.parametrize("kind", SPECS)
def test_a_file_of_every_version_is_kept(kind):
    assert versions(kind) == set(range(1, SPECS[kind].version + 1)), (
        f"keep a {kind} artifact of each format version in tests/data (see its README.md)"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_dataset_is_read(path):
    stored = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: stored.append(name) if hasattr(item, "shape") else None)
    with ltau_cli.open_artifact(path) as artifact:
        assert path.stem.startswith(f"{artifact.kind}-{artifact.attributes['format_version']}")
        assert sorted(spec.name for spec in artifact.present()) == sorted(stored)
        for name in stored:
            assert artifact.read(name).size > 0
        assert artifact.parameters
        assert artifact.inputs
        assert artifact.summary


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_described_and_drawn(path, ltau, tmp_path):
    ltau.ok("info", path)
    if not path.stem.startswith("described-"):  # there is no figure of these
        ltau.ok("plot", path, "-o", tmp_path / "figure.svg")


def kept(kind: str) -> list[Path]:
    """Files that are kept of a kind, one of each version."""
    return [DATA / f"{kind}-{version}.h5" for version in sorted(versions(kind))]


def named(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", kept(kind), ids=lambda path: path.stem)


@named("errors")
def test_old_errors_can_be_fitted(path, ltau, tmp_path):
    model = tmp_path / "model.h5"
    ltau.ok("fit", path, f"{DATA}/train.npz:descriptors", "-k", 5, "-o", model)
    errors, stored, mean = *read(path, "errors"), *read(model, "point", "mean_error")
    np.testing.assert_allclose(mean[stored], errors.mean(axis=0), rtol=1e-6)


@named("model")
def test_an_old_model_scores(path, ltau, tmp_path):
    scores = tmp_path / "scores.h5"
    ltau.ok("score", QUERIES, "-m", path, "-o", scores)
    descriptors, mean_error, point = read(path, "descriptors", "mean_error", "point")
    assert len(point) == len(np.load(DATA / "train.npz")["descriptors"])
    expected, distance = read(scores, "expected_error", "neighbor_distance")
    shift, transform = read(path, "descriptor_shift", "descriptor_transform")
    queries = (np.load(DATA / "test.npz")["descriptors"] - shift) @ transform
    apart = np.linalg.norm(queries[:, None] - descriptors[None], axis=-1)
    nearest = np.argsort(apart, axis=1)[:, :5]
    apart = np.take_along_axis(apart, nearest, axis=1)
    np.testing.assert_allclose(distance, apart.mean(axis=1), rtol=1e-4)
    mixed = np.average(mean_error[nearest], axis=1, weights=1 / apart)
    np.testing.assert_allclose(expected, mixed, rtol=1e-4)


@pytest.mark.parametrize("version", sorted(versions("scores")))
def test_old_artifacts_score_as_they_did(version, ltau, tmp_path):
    """The numbers of scores-N.h5, which the code of that time made with model and calibration N."""
    model, calibration, then = (
        DATA / f"{kind}-{version}.h5" for kind in ("model", "calibration", "scores")
    )
    scores = tmp_path / "scores.h5"
    ltau.ok(
        "score", QUERIES, "-m", model, "--group", SPECIES, "--feature", f"spread={TRUE_ERRORS}",
        "--cdf", "--calibration", calibration, "-o", scores,
    )  # fmt: skip
    for spec in SPECS["scores"].datasets:
        with h5py.File(then) as file:
            there = spec.name in file and file[spec.name].dtype.kind == "f"
        if there:
            now, before = read(scores, spec.name)[0], read(then, spec.name)[0]
            np.testing.assert_allclose(now, before, rtol=1e-5, atol=1e-12, err_msg=spec.name)
    assert (np.diff(read(scores, "error_bound")[0], axis=1) >= 0).all()


@named("scores")
def test_old_scores_are_used(path, ltau, tmp_path):
    table, chosen = tmp_path / "scores.csv", tmp_path / "chosen.txt"
    ltau.ok("calibrate", path, TRUE_ERRORS, "-o", tmp_path / "c.h5")
    ltau.ok("evaluate", path, TRUE_ERRORS)
    ltau.ok("export", path, "-o", table)
    ltau.ok("select", path, "-n", 3, "-o", chosen)
    (expected,) = read(path, "expected_error")
    exported = np.genfromtxt(table, delimiter=",", names=True, dtype=None, encoding="utf-8")
    np.testing.assert_allclose(exported["expected_error"], expected, rtol=1e-6)
    assert len(chosen.read_text().split()) == 3


@named("model")
def test_an_old_model_gives_weights(path, ltau, tmp_path):
    weights = tmp_path / "weights.npy"
    ltau.ok("weights", path, "-o", weights)
    assert np.load(weights).shape == np.load(DATA / "train.npz")["errors"].shape[1:]


@named("described")
def test_old_descriptors_are_fitted_and_scored(path, ltau, tmp_path):
    """And their forces are true errors."""
    log, model, scores = (tmp_path / name for name in ("e.h5", "m.h5", "s.h5"))
    n = len(read(path, "species")[0])
    np.save(tmp_path / "log.npy", np.random.default_rng(0).lognormal(size=(3, n)))
    ltau.ok("ingest", tmp_path / "log.npy", "--units", "eV/Å", "-o", log)
    ltau.ok("fit", log, path, "-k", 3, "-o", model)
    ltau.ok("score", path, "-m", model, "-o", scores)
    ltau.ok("evaluate", scores, path)
    assert len(np.unique(read(scores, "structure")[0])) == len(read(path, "natoms")[0])
