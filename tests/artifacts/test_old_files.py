"""Artifacts of every kind and format version that ever was: they are read and used, forever."""

from __future__ import annotations

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
EXACT = tuple(
    DATA / f"model-{version}.h5" for version in (1, 2, 3)
)  # the others are NN-descent, which compiles
MODELS = [
    pytest.param(path, marks=[] if path in EXACT else pytest.mark.slow, id=path.stem)
    for path in FILES
    if path.stem.startswith("model-")
]


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
    assert ltau("info", path).code == 0
    if not path.stem.startswith("described-"):  # there is no figure of these
        assert ltau("plot", path, "-o", tmp_path / "figure.svg").code == 0


@pytest.mark.parametrize("version", sorted(versions("errors")))
def test_old_errors_can_be_fitted(version, ltau, tmp_path):
    log = DATA / f"errors-{version}.h5"
    model = tmp_path / "model.h5"
    assert ltau("fit", log, f"{DATA}/train.npz:descriptors", "-k", 5, "-o", model).code == 0
    errors, stored, mean = *read(log, "errors"), *read(model, "point", "mean_error")
    np.testing.assert_allclose(mean[stored], errors.mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("path", MODELS)
def test_an_old_model_scores(path, ltau, tmp_path):
    scores = tmp_path / "scores.h5"
    result = ltau("score", QUERIES, "-m", path, "-o", scores)
    assert result.code == 0, result.err
    descriptors, mean_error, point = read(path, "descriptors", "mean_error", "point")
    assert len(point) == len(np.load(DATA / "train.npz")["descriptors"])
    expected, distance = read(scores, "expected_error", "neighbor_distance")
    with h5py.File(path) as file:
        transform = file.get("descriptor_transform")
        queries = np.load(DATA / "test.npz")["descriptors"] - file["descriptor_shift"][...]
        queries = queries if transform is None else queries @ transform[...]
    apart = np.linalg.norm(queries[:, None] - descriptors[None], axis=-1)
    nearest = np.argsort(apart, axis=1)[:, :5]
    apart = np.take_along_axis(apart, nearest, axis=1)
    found = np.isclose(distance, apart.mean(axis=1), rtol=1e-4)
    assert found.mean() >= (1 if path in EXACT else 0.95)
    weight = 1 / apart if path.stem in ("model-2", "model-3") else np.ones_like(apart)
    mixed = np.average(mean_error[nearest], axis=1, weights=weight)
    np.testing.assert_allclose(expected[found], mixed[found], rtol=1e-4)


def test_an_old_model_scores_as_it_did(ltau, tmp_path):
    """The numbers of scores-1.h5, which the code of that time made with model-1.h5."""
    scores = tmp_path / "scores.h5"
    assert ltau("score", QUERIES, "-m", DATA / "model-1.h5", "-o", scores).code == 0
    names = ("expected_error", "uncertainty", "quantiles", "neighbor_distance", "structure")
    for now, then in zip(read(scores, *names), read(DATA / "scores-1.h5", *names), strict=True):
        np.testing.assert_allclose(now, then, rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "calibration"),
    [
        ("model-1", "calibration-1"),
        ("model-2", "calibration-1-groups"),
        ("model-2", "calibration-2"),
        ("model-3-epoch", "calibration-3"),
    ],
)
def test_an_old_calibration_is_applied(model, calibration, ltau, tmp_path):
    scores = tmp_path / "scores.h5"
    result = ltau(
        "score", QUERIES, "-m", DATA / f"{model}.h5", "--group", SPECIES,
        "--feature", f"spread={TRUE_ERRORS}", "--calibration", DATA / f"{calibration}.h5",
        "-o", scores,
    )  # fmt: skip
    assert result.code == 0, result.err
    calibrated, bounds, levels = read(scores, "calibrated_error", "error_bound", "levels")
    assert levels.tolist() == [0.5, 0.8, 0.9, 0.95]
    assert (np.diff(bounds, axis=1) >= 0).all()
    made_with = {
        "calibration-1-groups": "scores-1-calibrated",
        "calibration-2": "scores-2",
        "calibration-3": "scores-3",
    }
    if calibration in made_with:
        then = read(DATA / f"{made_with[calibration]}.h5", "calibrated_error", "error_bound")
        np.testing.assert_allclose(calibrated, then[0], rtol=1e-5)
        np.testing.assert_allclose(bounds, then[1], rtol=1e-5)
    else:
        parts = read(scores, "expected_error", "relative_distance", "structure")
        (powers,) = read(DATA / "calibration-1.h5", "coefficients")
        logs = [np.log(part.astype(float)) for part in parts[:2]]
        whole = np.bincount(parts[2], logs[1]) / np.bincount(parts[2])
        by_hand = np.exp(powers[0] + powers[1] * logs[0] + powers[2] * logs[1]
                         + powers[3] * whole[parts[2]])  # fmt: skip
        np.testing.assert_allclose(calibrated, by_hand, rtol=1e-4)


@pytest.mark.parametrize("name", ["scores-1", "scores-1-calibrated", "scores-2", "scores-3"])
def test_old_scores_are_used(name, ltau, tmp_path):
    scores = DATA / f"{name}.h5"
    table, chosen = tmp_path / "scores.csv", tmp_path / "chosen.txt"
    assert ltau("calibrate", scores, TRUE_ERRORS, "-o", tmp_path / "c.h5").code == 0
    assert ltau("evaluate", scores, TRUE_ERRORS).code == 0
    assert ltau("export", scores, "-o", table).code == 0
    assert ltau("select", scores, "-n", 3, "-o", chosen).code == 0
    (expected,) = read(scores, "expected_error")
    exported = np.genfromtxt(table, delimiter=",", names=True, dtype=None, encoding="utf-8")
    np.testing.assert_allclose(exported["expected_error"], expected, rtol=1e-6)
    assert len(chosen.read_text().split()) == 3


@pytest.mark.parametrize("version", sorted(versions("model")))
def test_an_old_model_gives_weights(version, ltau, tmp_path):
    weights = tmp_path / "weights.npy"
    assert ltau("weights", DATA / f"model-{version}.h5", "-o", weights).code == 0
    assert np.load(weights).shape == np.load(DATA / "train.npz")["errors"].shape[1:]
