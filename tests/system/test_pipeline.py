"""The stages together, on the sample data."""

import json

import h5py
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import ndtri

from tests.helpers import SAMPLE, finish, start
from tests.oracles import trimmed_mean


def nearest(train, queries, k=10):
    """Row numbers of the k nearest training samples, by the plain definition."""
    distance = cdist(queries.astype(float), train.astype(float))
    order = np.argsort(distance, axis=1)[:, :k]
    return order, np.take_along_axis(distance, order, axis=1)


@pytest.fixture(scope="module")
def plain(train, log):
    """Indices and distances of the neighbors of the first 200 test rows."""
    return nearest(train, np.load(SAMPLE / "test_300K_descriptors.npy")[:200])


def test_ingest_keeps_the_log_in_the_order_of_the_epochs(pipeline, log):
    with h5py.File(pipeline.errors) as file:
        np.testing.assert_array_equal(file["errors"], log)
        assert file["epoch"][...].tolist() == list(range(60))
        np.testing.assert_allclose(file["epoch_mean"], log.mean(axis=1, dtype=float))
        assert file["errors"].attrs["units"] == "eV/Å"


def test_expected_error_and_uncertainty_are_those_of_the_definition(pipeline, log, plain):
    order, distance = plain
    with h5py.File(pipeline.scores) as file:
        threshold = file["thresholds"][0]
        np.testing.assert_allclose(
            file["expected_error"][:200], log.mean(axis=0, dtype=float)[order].mean(axis=1), 1e-5
        )
        np.testing.assert_allclose(
            file["uncertainty"][:200, 0], (log > threshold).mean(axis=0)[order].mean(axis=1), 1e-5
        )
        np.testing.assert_allclose(file["neighbor_distance"][:200], distance.mean(axis=1), 1e-5)
        assert threshold == pytest.approx(trimmed_mean(log[-1]))


def test_quantiles_are_close_to_those_of_the_pooled_errors(pipeline, log, plain):
    order, _ = plain
    pooled = log[:, order].transpose(1, 0, 2).reshape(200, -1)
    with h5py.File(pipeline.scores) as file:
        for level, got in zip(file["quantile_levels"], file["quantiles"][:200].T, strict=True):
            exact = np.quantile(pooled, level, axis=1, method="inverted_cdf")
            # a log bin is 9 % wide here
            np.testing.assert_allclose(got, exact, rtol=0.1)


def test_distances_have_a_leave_one_out_reference(pipeline, train, plain):
    order, _ = plain
    own = nearest(train, train, 11)[1][:, 1:].mean(axis=1)
    with h5py.File(pipeline.scores) as file:
        d = file["neighbor_distance"][:200]
        np.testing.assert_allclose(file["relative_distance"][:200], d / own[order].mean(1), 1e-5)
        expected = [(1 + (own >= x * (1 - 1e-6)).sum()) / (len(own) + 1) for x in d]
        np.testing.assert_allclose(file["ood_pvalue"][:200], expected, atol=1e-3)


def test_structures_are_aggregated(pipeline):
    natoms = np.load(pipeline.natoms)
    with h5py.File(pipeline.scores) as file:
        np.testing.assert_array_equal(file["structures/n_samples"], natoms)
        per_row = file["expected_error"][...].reshape(len(natoms), -1)
        np.testing.assert_allclose(
            file["structures/expected_error_mean"], per_row.mean(axis=1), rtol=1e-6
        )
        np.testing.assert_array_equal(file["structures/expected_error_max"], per_row.max(axis=1))
        np.testing.assert_array_equal(
            file["structures/out_of_domain_share"],
            (file["ood_pvalue"][...] < 0.01).reshape(25, -1).mean(axis=1, dtype=np.float32),
        )


def test_calibration_holds_on_rows_it_did_not_see(pipeline):
    with h5py.File(pipeline.calibration) as file:
        summary = json.loads(file.attrs["summary"])
        fit, held = set(file["fit_row"]), set(file["heldout_row"])
    assert fit.isdisjoint(held)
    assert len(fit | held) == 1375
    assert {row // 55 for row in fit}.isdisjoint({row // 55 for row in held})
    coverage = summary["heldout"]["predictors"]["ltau"]["coverage"]
    assert list(coverage) == ["0.5", "0.8", "0.9", "0.95"]
    for level, covered in coverage.items():
        assert covered >= float(level) - 0.08  # cautious: twelve structures are few
    (metrics,) = summary["heldout"]["thresholds"]
    assert metrics["calibration_error_after"] < metrics["calibration_error_before"] / 2


def test_calibrated_scores_follow_the_maps(pipeline):
    with h5py.File(pipeline.calibrated) as scores, h5py.File(pipeline.calibration) as maps:
        m, r = (scores[n][...].astype(float) for n in ("expected_error", "relative_distance"))
        of_structure = np.exp(np.log(r).reshape(25, -1).mean(axis=1)).repeat(55)
        a, b, c, g, none, h, alone, last, table = maps["coefficients"][...]
        assert none == alone == last == table == 0
        r, of_structure = np.minimum(r, 5), np.minimum(of_structure, 3)
        bent = np.maximum(of_structure, maps["feature_floors"][4])
        mean = np.exp(a) * m**b * r**c * of_structure**g * bent**h
        np.testing.assert_allclose(scores["calibrated_error"], mean, rtol=1e-6)
        ones = np.ones_like(m)
        x = (
            np.log([m, r, of_structure, ones, bent, ones, ones, ones]).T
            - maps["exponent_center"][...]
        )
        x *= np.diag(maps["exponent_covariance"][...]) > 0  # of no exponent, no doubt
        spread = np.sqrt(np.einsum("ij,jk,ik->i", x, maps["exponent_covariance"][...], x))
        widen = np.exp(spread[:, None] * ndtri(maps["levels"][...]))
        bounds = np.maximum.accumulate(maps["bound_ratio"][0] * widen, axis=1)
        np.testing.assert_allclose(scores["error_bound"], mean[:, None] * bounds, rtol=1e-5)
        used = scores["in_calibration"][...]
        np.testing.assert_array_equal(np.flatnonzero(used), maps["fit_row"])
        ratio = scores["thresholds"][0] / mean
        shares = (np.arange(100) + 0.5) / 100
        quantiles = maps["ratio_quantiles"][0] * np.exp(spread[:, None] * ndtri(shares))
        wanted = (np.maximum.accumulate(quantiles, axis=1) > ratio[:, None]).mean(axis=1)
        np.testing.assert_allclose(scores["calibrated_uncertainty"][:, 0], wanted, atol=0.01)


def test_missing_values_are_left_out(tmp_path, ltau):
    log = np.array([[1, np.nan, 3.0], [2, 5, np.inf], [6, np.nan, 3.0]])
    np.save(tmp_path / "log.npy", log)
    np.save(tmp_path / "x.npy", np.arange(3.0)[:, None])
    ltau.ok("ingest", tmp_path / "log.npy", "-o", tmp_path / "e.h5")
    ltau.ok("fit", tmp_path / "e.h5", tmp_path / "x.npy", "-o", tmp_path / "m.h5", "-k", 1,
            "--threshold", 2)  # fmt: skip
    with h5py.File(tmp_path / "m.h5") as file:
        assert file["mean_error"][...].tolist() == [3, 5, 3]
        np.testing.assert_allclose(file["uncertainty"][:, 0], [1 / 3, 1, 1])
        assert file["counts"][...].sum(axis=1).tolist() == [3, 1, 2]


def test_identical_descriptors_are_pooled(tmp_path, ltau):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (300, 2)).astype(np.float32)
    log = rng.random((7, 300)).astype(np.float32)
    np.save(tmp_path / "log.npy", log)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "q.npy", x[:9] + np.float32(0.1))
    ltau.ok("ingest", tmp_path / "log.npy", "-o", tmp_path / "e.h5")
    ltau.ok("fit", tmp_path / "e.h5", tmp_path / "x.npy", "-o", tmp_path / "m.h5")
    score = ("score", tmp_path / "q.npy", "-m", tmp_path / "m.h5", "-o", tmp_path / "s.h5")
    ltau.ok(*score, "-k", 1)
    mean = log.mean(axis=0)
    with h5py.File(tmp_path / "s.h5") as scores, h5py.File(tmp_path / "m.h5") as model:
        assert len(model["counts"]) == 9
        same = [(x == x[i]).all(axis=1) for i in range(9)]
        wanted = [mean[rows].mean() for rows in same]  # all that coincide share the place
        np.testing.assert_allclose(scores["expected_error"], wanted, rtol=1e-5)


def test_thresholds_and_k_can_be_chosen_late(pipeline, log, plain, tmp_path, ltau):
    out = tmp_path / "s.h5"
    ltau.ok("score", pipeline.descriptors, "-m", pipeline.model, "-o", out, "-k", 3,
            "--threshold", 0.05, "--threshold", 0.2, "--quantile", 0.8)  # fmt: skip
    order = plain[0][:, :3]
    with h5py.File(out) as file:
        wanted = np.stack([(log > t).mean(axis=0)[order].mean(axis=1) for t in (0.05, 0.2)], 1)
        np.testing.assert_allclose(file["uncertainty"][:200], wanted, atol=0.05)
        assert file["quantiles"].shape == (1375, 1)
        assert json.loads(file.attrs["parameters"])["k"] == 3
        assert 0.5 < np.median(file["ood_pvalue"]) + 0.3 < 1.3


@pytest.mark.slow
def test_same_bytes_in_another_process(pipeline, tmp_path):
    steps = [
        ["ingest", pipeline.logs, "-o", tmp_path / "errors.h5", "--units", "eV/Å"],
        ["fit", tmp_path / "errors.h5", pipeline.train, "-o", tmp_path / "model.h5",
         "-k", 10, "--scale", "none", "--threads", 1],
        ["score", pipeline.descriptors, "-m", tmp_path / "model.h5", "--natoms", pipeline.natoms,
         "-o", tmp_path / "scores.h5", "--threads", 1],
        ["calibrate", tmp_path / "scores.h5", pipeline.true_errors, "-o",
         tmp_path / "calibration.h5"],
    ]  # fmt: skip
    for step in steps:
        result = finish(start(*step))
        assert result.code == 0, result.err
    for name in ("errors", "model", "scores", "calibration"):
        assert (tmp_path / f"{name}.h5").read_bytes() == getattr(pipeline, name).read_bytes(), name
