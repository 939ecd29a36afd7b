"""``ltau plot``: what is drawn, against the artifacts and the raw log; the files; every refusal."""

import csv
import itertools
import json
import shutil
from functools import partial

import h5py
import numpy as np
import pytest
from scipy.stats import norm, spearmanr
from sklearn.metrics import auc, roc_auc_score

from ltau_cli.cli.main import run
from ltau_cli.figures import accuracy, scored, training
from ltau_cli.figures.style import Panel, draw_page, looks, save_figure
from ltau_cli.stages.panels import sources
from ltau_cli.stages.panels import training as training_panels
from ltau_cli.stages.plot import KINDS
from tests.helpers import ARTIFACT, INPUT, SAMPLE, USAGE, check, save
from tests.oracles import trimmed_mean

HOT = {name: SAMPLE / f"test_900K_{name}.npy" for name in ("descriptors", "force_errors", "natoms")}
SPECIES = SAMPLE / "test_300K_species.npy"
HOT_SPECIES = SAMPLE / "test_900K_species.npy"
NATOMS = 55


@pytest.fixture(scope="module")
def more(pipeline, tmp_path_factory):
    """Artifacts with groups, of another set, and with labels."""
    folder = tmp_path_factory.mktemp("more")
    made = {name: folder / f"{name}.h5" for name in ("grouped", "calibration", "hot", "mixed")}
    both = {
        name: save(folder / f"{name}.npy", np.concatenate([np.load(a), np.load(b)]))
        for name, a, b in (
            ("x", pipeline.descriptors, HOT["descriptors"]),
            ("natoms", pipeline.natoms, HOT["natoms"]),
        )
    }
    made["labels"] = save(folder / "labels.npy", np.repeat([0, 1], 25 * NATOMS))
    score = ["score", "-m", pipeline.model]
    steps = [
        [*score, pipeline.descriptors, "--natoms", pipeline.natoms, "--group", SPECIES,
         "-o", made["grouped"]],
        ["calibrate", made["grouped"], pipeline.true_errors, "--group", "species",
         "-o", made["calibration"]],
        [*score, HOT["descriptors"], "--natoms", HOT["natoms"], "--calibration",
         made["calibration"], "--threshold", 0.2, "--group", HOT_SPECIES, "-o", made["hot"]],
        [*score, both["x"], "--natoms", both["natoms"], "-o", made["mixed"]],
    ]  # fmt: skip
    for step in steps:
        assert run([str(word) for word in [*step, "-q"]]) == 0, step
    return made


@pytest.fixture
def drawn(ltau, tmp_path):
    """Draw a figure; return its titles and the drawn data, {(panel, series): columns}."""

    def call(*words):
        made = tmp_path / "f.png", tmp_path / "f.csv"
        result = ltau.ok("plot", *words, "-o", made[0], "--data", made[1], "--force")
        first, *titles = result.out.splitlines()
        assert first.startswith(f"{made[0]}: ")
        return [title.strip() for title in titles], read(made[1])

    return call


def read(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    series = {}
    for row in rows:
        own = series.setdefault((row.get("panel", ""), row["series"]), {})
        for name, value in row.items():
            if name not in ("panel", "series") and value != "":
                own.setdefault(name, []).append(value)
    return {
        key: {name: _numbers(values) for name, values in columns.items()}
        for key, columns in series.items()
    }


def _numbers(values):
    try:
        return np.array(values, float)
    except ValueError:
        return np.array(values)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=3e-6, atol=1e-9)


def load(path, *names):
    with h5py.File(path) as file:
        return [file[name][...] for name in names]


def test_reliability(more, drawn):
    titles, data = drawn("reliability", more["calibration"])
    truth, plain, mean, stratum, groups = load(
        more["calibration"], "heldout_true_error", "heldout_uncertainty",
        "heldout_calibrated_error", "heldout_stratum", "heldout_group",
    )  # fmt: skip
    threshold, ratios, levels, spread = load(
        more["calibration"], "thresholds", "ratio_quantiles", "levels", "heldout_spread"
    )
    widened = np.exp(spread[:, None].astype(float) * norm.ppf((np.arange(100) + 0.5) / 100))
    exceeded = truth > threshold[0]

    def curve(p, rows):
        bins = np.array_split(np.flatnonzero(rows)[np.argsort(p[rows], kind="stable")], 10)
        return [p[b].mean() for b in bins], [exceeded[b].mean() for b in bins]

    after = np.empty(len(truth))
    grid = np.concatenate([[0], (np.arange(100) + 0.5) / 100, [1]])
    for i in range(len(truth)):
        own = ratios[stratum[i]] * widened[i]
        knots = np.concatenate([[0], own, [1.5 * own[-1]]]) * mean[i]
        after[i] = 1 - np.interp(threshold[0], knots, grid)
    everything = np.ones(len(truth), bool)
    for name, p, rows in [
        ("before calibration", plain[:, 0], everything), ("after calibration", after, everything),
        ("Au", after, groups == b"Au"), ("Cu", after, groups == b"Cu"),
    ]:  # fmt: skip
        predicted, observed = curve(p.astype(float), rows)
        close(data["reliability", name]["predicted"], predicted)
        close(data["reliability", name]["observed"], observed)
        assert data["reliability", name]["rows"].sum() == rows.sum()
    ece = [
        np.mean(np.abs(np.subtract(*curve(p.astype(float), everything))))
        for p in (plain[:, 0], after)
    ]
    assert titles[0] == (
        f"Calibration error of P(error > {threshold[0]:.3g} eV/Å): {ece[0]:.3f} → {ece[1]:.3f}"
    )
    quantiles = mean[:, None].astype(float) * ratios[stratum] * widened
    for name, rows in [("after calibration", everything), ("Cu", groups == b"Cu")]:
        shares = (truth[rows, None] <= quantiles[rows]).mean(axis=0)
        close(data["interval coverage", name]["observed"], shares)
    shares = data["interval coverage", "after calibration"]["observed"]
    fine = np.linspace(0, 1, 200_001)
    area = np.abs(np.interp(fine, grid, [0, *shares, 1]) - fine).mean()
    assert titles[1].endswith(f"→ {area:.3f}")
    low = data["interval coverage", f"95 % by chance ({len(truth):,} rows), low"]
    close(low["observed"][50], 0.5 - 1.96 * np.sqrt(0.25 / len(truth)))
    assert len(levels) == 4


@pytest.mark.slow
def test_reliability_of_scores_is_that_of_their_calibration(more, pipeline, drawn, ltau, tmp_path):
    scores = tmp_path / "s.h5"
    words = ("score", pipeline.descriptors, "-m", pipeline.model, "--natoms", pipeline.natoms)
    words += ("--calibration", more["calibration"], "--group", SPECIES, "-q", "-o", scores)
    ltau.ok(*words)
    of_calibration = drawn("reliability", more["calibration"])
    of_scores = drawn("reliability", scores, "--true", pipeline.true_errors)
    assert of_scores[0] == of_calibration[0]
    for key, columns in of_calibration[1].items():
        for name, values in columns.items():
            np.testing.assert_allclose(of_scores[1][key][name], values, atol=2e-5)
    for kind in ("parity", "sparsification", "coverage"):
        pair = (
            drawn(kind, more["calibration"])[0],
            drawn(kind, scores, "--true", pipeline.true_errors)[0],
        )
        assert pair[0] == pair[1]


def test_group_labels_of_scores(pipeline, drawn):
    words = ("reliability", pipeline.scores, "--true", pipeline.true_errors, "--group", SPECIES)
    _, data = drawn(*words)
    truth, gold = np.load(pipeline.true_errors), np.load(SPECIES) == "Au"
    uncertainty, threshold = load(pipeline.scores, "uncertainty", "thresholds")
    close(
        np.average(
            data["reliability", "Au"]["observed"], weights=data["reliability", "Au"]["rows"]
        ),
        (truth[gold] > threshold[0]).mean(),
    )
    quantiles, levels = load(pipeline.scores, "quantiles", "quantile_levels")
    close(data["interval coverage", "plain quantiles"]["predicted"], levels)
    shares = (truth[:, None] <= quantiles).mean(axis=0)
    close(data["interval coverage", "plain quantiles"]["observed"], shares)
    assert len(uncertainty) == len(truth)


def test_groups_may_be_numbers_and_small_ones_have_no_curve(pipeline, drawn, tmp_path):
    labels = np.full(1375, 7)
    labels[:150], labels[150:240] = 3, 29
    words = ("reliability", pipeline.scores, "--true", pipeline.true_errors, "--group")
    _, data = drawn(*words, save(tmp_path / "g.npy", labels))
    curves = {key[1] for key in data if key[0] == "reliability" and "chance" not in key[1]}
    assert curves == {"without calibration", "group 3", "group 7"}


def test_parity(pipeline, drawn):
    titles, data = drawn("parity", pipeline.calibration)
    names = ("heldout_calibrated_error", "heldout_expected_error", "heldout_true_error")
    mean, expected, truth = (v.astype(float) for v in load(pipeline.calibration, *names))
    for name, x in [("binned mean", mean), ("binned mean before calibration", expected)]:
        bins = np.array_split(np.argsort(x, kind="stable"), 12)
        close(data["", name]["expected"], [x[b].mean() for b in bins])
        close(data["", name]["true"], [truth[b].mean() for b in bins])
    cells = data["", "density"]
    assert 0.99 * len(truth) < cells["rows"].sum() <= len(truth)
    center = np.exp(np.average(np.log(cells["true"]), weights=cells["rows"]))
    assert center == pytest.approx(np.exp(np.log(truth).mean()), rel=0.02)
    assert titles == [
        f"Rank correlation {spearmanr(mean, truth).statistic:.2f} over {len(truth)} rows; mean "
        f"error {truth.mean():.3g} eV/Å, predicted {mean.mean():.3g} eV/Å"
    ]
    _, plain = drawn("parity", pipeline.scores, "--true", SAMPLE / "test_300K.xyz")
    expected = load(pipeline.scores, "expected_error")[0].astype(float)
    bins = np.array_split(np.argsort(expected, kind="stable"), 12)
    truth = np.load(pipeline.true_errors)
    np.testing.assert_allclose(
        plain["", "binned mean"]["true"], [truth[b].mean() for b in bins], rtol=1e-4
    )
    assert ("", "binned mean before calibration") not in plain


def test_cdf_of_the_model_is_that_of_the_log(pipeline, drawn, log):
    titles, data = drawn("cdf", pipeline.model, "--rows", "7,1000")
    edges, threshold = load(pipeline.model, "bin_edges", "thresholds")
    close(data["", "the training set"]["error"], edges)
    exact = [(log <= edge).mean() for edge in edges]
    np.testing.assert_allclose(data["", "the training set"]["probability"], exact, atol=1e-6)
    for sample in (7, 1000):
        exact = (log[:, sample, None] <= edges).mean(axis=0)
        close(data["", f"sample {sample}"]["probability"], exact)
    share = 100 * (log <= threshold[0]).mean()
    assert titles[0].startswith(f"{share:.0f} % of the errors of the training set are at most ")
    _, data = drawn("cdf", pipeline.model)
    mean = log.astype(float).mean(axis=0)
    assert {key[1] for key in data} >= {
        f"lowest (sample {mean.argmin()})", f"highest (sample {mean.argmax()})"
    }  # fmt: skip


def test_cdf_of_scores(pipeline, drawn):
    _, data = drawn("cdf", pipeline.calibrated, pipeline.model, "--rows", "3")
    cdf, edges = load(pipeline.calibrated, "cdf", "cdf_edges")
    close(data["", "row 3"]["probability"], cdf[3])
    close(data["", "row 3"]["error"], edges)
    whole = data["", "all rows of calibrated, plain"]["probability"]
    np.testing.assert_allclose(whole, cdf.mean(axis=0, dtype=float), rtol=1e-5)
    assert ("", "the training set") in data
    _, data = drawn("cdf", pipeline.calibrated)
    bars = load(pipeline.calibrated, "calibrated_error")[0]
    assert ("", f"highest (row {bars.argmax()})") in data


def test_trajectories(pipeline, drawn, log):
    titles, data = drawn("trajectories", pipeline.errors, "--rows", "5,3000")
    for level in (0.05, 0.25, 0.5, 0.75, 0.95):
        exact = np.quantile(log.astype(float), level, axis=1)
        np.testing.assert_allclose(data["", f"quantile {level:g}"]["error"], exact, rtol=1e-5)
    mean = log.mean(axis=1, dtype=float)
    close(data["", "mean"]["error"], mean)
    close(data["", "sample 3000"]["error"], log[:, 3000])
    last = max(t for t in range(60) if mean[t] > 2 * mean[-1])
    close(data["", "burn-in"]["epoch"], np.arange(last + 1))
    assert titles == [
        f"Mean error {mean[0]:.3g} → {mean[-1]:.3g} eV/Å in 60 epochs, burn-in up to epoch {last}"
    ]


def test_trajectories_of_runs_are_pooled(tmp_path, drawn, ltau):
    rng = np.random.default_rng(0)
    logs = rng.random((2, 5, 30)).astype(np.float32)
    logs[1, 2, 4] = np.nan
    paths = [save(tmp_path / f"{i}.npy", log) for i, log in enumerate(logs)]
    ltau.ok("ingest", *paths, "-o", tmp_path / "e.h5", "-q")
    titles, data = drawn(tmp_path / "e.h5", "--rows", "4")
    close(data["", "sample 4"]["error"], np.nanmean(logs[:, :, 4], axis=0))
    close(data["", "mean"]["error"], np.nanmean(logs.astype(float), axis=(0, 2)))
    fan = np.nanquantile(logs, 0.75, axis=(0, 2))
    np.testing.assert_allclose(data["", "quantile 0.75"]["error"], fan, rtol=1e-5)
    assert "mean of 2 runs" in titles[0]


def test_map(pipeline, drawn, log):
    titles, data = drawn("map", pipeline.errors)
    log = log.astype(float)
    mean, spread = log.mean(axis=0), log.std(axis=0)
    under = (log <= trimmed_mean(log[-1])).mean(axis=0)
    hard = (mean >= 2 * np.median(mean)) & (under <= 0.05)
    suspects = np.flatnonzero(hard & (spread / mean <= 0.5 * np.median(spread / mean)))
    assert len(suspects) > 10
    assert data["", "stay_hard"]["sample"].tolist() == suspects.tolist()
    close(data["", "stay_hard"]["mean_error"], mean[suspects])
    close(data["", "stay_hard"]["deviation"], spread[suspects])
    cells = data["", "cells"]
    x, y = np.log10(spread), np.log10(mean)
    for cx, cy, share in zip(
        cells["deviation"], cells["mean_error"], cells["share_under"], strict=True
    ):  # fmt: skip
        near = np.abs(x - np.log10(cx)) < np.ptp(x) / 40
        own = under[near & (np.abs(y - np.log10(cy)) < np.ptp(y) / 20)]
        assert own.min() - 1e-6 <= share <= own.max() + 1e-6
    assert titles[0].startswith(f"{len(suspects)} of 3,960 samples (0.8 %) stay hard")


def test_ood(pipeline, more, drawn):
    titles, data = drawn("ood", pipeline.model, pipeline.calibrated, more["hot"])
    (reference,) = load(pipeline.model, "loo_distance")
    line = data["", "p = 0.01"]["distance_from"][0]
    for path, name in ((pipeline.calibrated, "calibrated"), (more["hot"], "hot")):
        distance, pvalue = load(path, "neighbor_distance", "ood_pvalue")
        beyond = (distance > line * (1 + 1e-6)).mean()
        assert beyond == (pvalue < 0.01).mean()
        assert f"{100 * beyond:.1f} % of {name}" in titles[0]
        bars = data["", name]
        edges = np.append(bars["distance_from"], bars["distance_to"][-1])
        exact, _ = np.histogram(distance, edges)
        np.testing.assert_allclose(bars["percent"], 100 * exact / len(distance), atol=0.08)
    own = data["", "training set (leave-one-out)"]
    assert own["percent"].sum() == pytest.approx(100)
    assert own["percent"][own["distance_from"] > line].sum() <= 1
    assert reference.max() <= own["distance_to"][-1]


def test_roc(pipeline, more, drawn):
    words = ("ood", pipeline.model, more["mixed"], "--ood-labels", more["labels"])
    titles, data = drawn(*words)
    (pvalue,) = load(more["mixed"], "ood_pvalue")
    labels = np.load(more["labels"])
    assert f"{roc_auc_score(labels, -pvalue):.3f}" in titles[1]
    roc = data["roc", "roc"]
    area = auc(roc["false_positive_rate"], roc["true_positive_rate"])
    assert area == pytest.approx(roc_auc_score(labels, -pvalue), abs=1e-6)


def test_sparsification(pipeline, drawn):
    titles, data = drawn("sparsification", pipeline.calibration)
    names = ("heldout_calibrated_error", "heldout_true_error")
    mean, truth = (v.astype(float) for v in load(pipeline.calibration, *names))
    n = len(truth)
    curves = {}
    for name, by in (("by calibrated error", mean), ("oracle (by true error)", truth)):
        order = np.argsort(by, kind="stable")
        curves[name] = np.array([truth[order[: n - i]].mean() for i in range(n)])
        removed = np.round(data["", name]["removed_percent"] * n / 100).astype(int)
        close(data["", name]["mean_error"], curves[name][removed])
        assert removed[0] == 0
        assert removed[-1] == n - 1
    own, oracle = curves.values()
    ause = (own - oracle).mean() / truth.mean()
    half = 100 * (1 - own[n // 2] / own[0])
    assert titles[0].startswith(f"AUSE {ause:.3f}; ")
    assert titles[0].endswith(f"{half:.0f} % lower")


def test_trace(pipeline, more, drawn):
    titles, data = drawn("trace", more["hot"])
    frames = load(more["hot"], "calibrated_error")[0].reshape(-1, NATOMS)
    close(data["", "hot"]["worst"], frames.max(axis=1))
    close(data["", "hot"]["median"], np.median(frames, axis=1))
    above = frames.max(axis=1) > 0.2
    assert data["", "hot"]["above"].tolist() == above.tolist()
    assert titles[0].startswith(f"Worst atom above 0.2 eV/Å in {above.sum()} of 25 frames")
    titles, data = drawn(more["hot"], pipeline.calibrated)
    assert {key[1] for key in data} >= {"hot", "calibrated"}
    assert "25 frames of calibrated" in titles[0]


def test_crossings():
    own = scored.Trace("a", np.array([0, 1, 2, 4]), np.zeros(4), np.array([1.0, 3.0, 3.0, 1.0]))
    assert own.crossings(2.0).tolist() == [0.5, 3.0]
    assert own.crossings(5.0).tolist() == []


def test_trace_of_rows_without_structures(pipeline, drawn, ltau, tmp_path):
    scores = tmp_path / "s.h5"
    ltau.ok("score", pipeline.descriptors, "-m", pipeline.model, "-o", scores)
    titles, data = drawn(scores)
    close(data["", "s"]["worst"], load(scores, "expected_error")[0])
    assert "of 1,375 rows" in titles[0]


def test_coverage(more, drawn):
    titles, data = drawn("coverage", more["calibration"])
    truth, mean, stratum, r, groups = load(
        more["calibration"], "heldout_true_error", "heldout_calibrated_error", "heldout_stratum",
        "heldout_relative_distance", "heldout_group",
    )  # fmt: skip
    ratio, levels, spread = load(more["calibration"], "bound_ratio", "levels", "heldout_spread")
    widened = np.exp(spread[:, None].astype(float) * norm.ppf(levels))
    bounds = mean[:, None].astype(float) * ratio[stratum] * widened
    everything = np.ones(len(truth), bool)
    parts = {"all": everything, "Au": groups == b"Au", "Cu": groups == b"Cu"}
    edges = (0, 1.25, 1.5, 2, 3, np.inf)
    bins = [(r >= low) & (r < high) for low, high in itertools.pairwise(edges)]
    expected = [*parts.values(), *(rows for rows in bins if rows.any())]
    for j, level in enumerate(levels):
        own = data["coverage", f"{level:g} bound"]
        assert own["part"][:4].tolist() == ["all", "Au", "Cu", "r < 1.25"]
        assert own["rows"].tolist() == [rows.sum() for rows in expected]
        close(own["coverage"], [(truth <= bounds[:, j])[rows].mean() for rows in expected])
        close(
            data["width", f"{level:g} bound"]["width"],
            [bounds[rows, j].mean() for rows in expected],
        )
    close(
        data["width", "mean true error"]["width"],
        [truth[rows].mean(dtype=float) for rows in expected],
    )
    parts = [(truth <= bounds[:, 2])[rows].mean() for rows in expected[1:] if rows.sum() >= 20]
    assert f", {100 * min(parts):.0f} to {100 * max(parts):.0f} % of each part" in titles[0]
    covered = (truth <= bounds[:, 2]).mean()
    assert f"90 % bound covers {100 * covered:.1f} % of {len(truth)} rows" in titles[0]


@pytest.mark.slow
def test_overview_holds_all_panels(pipeline, more, drawn):
    words = [pipeline.errors, pipeline.model, pipeline.calibration, pipeline.calibrated]
    titles, data = drawn(*words, more["hot"])
    panels = {key[0] for key in data}
    assert panels == {*KINDS} - {"overview"} | {"interval coverage", "width"}
    assert len(titles) == len(panels)
    titles, data = drawn("overview", pipeline.scores, "--true", pipeline.true_errors)
    panels = {key[0] for key in data}
    assert panels == {"reliability", "interval coverage", "parity", "sparsification", "trace"}


@pytest.mark.parametrize(
    ("artifacts", "kind"),
    [("errors", "trajectories"), ("model", "cdf"), ("calibration", "reliability"),
     ("scores", "trace"), ("scores calibrated", "overview"), ("model scores", "ood"),
     ("errors model", "overview")],
)  # fmt: skip
def test_the_kind_that_fits(artifacts, kind, pipeline, ltau, tmp_path):
    words = [getattr(pipeline, name, name) for name in artifacts.split()]
    if artifacts == "scores calibrated":
        check(ltau("plot", *words, "-o", tmp_path / "f.png"), USAGE, "without a calibration")
        return
    result = ltau("plot", *words, "-o", tmp_path / "f.png", "--json")
    assert json.loads(result.out)["kind"] == kind


@pytest.mark.slow
def test_large_logs_are_read_in_blocks_and_sampled(pipeline, drawn, log, tmp_path, monkeypatch):
    path = tmp_path / "blocks.h5"
    shutil.copyfile(pipeline.errors, path)
    with h5py.File(path, "r+") as file:
        values, attributes = file["errors"][...], dict(file["errors"].attrs)
        del file["errors"]
        made = file.create_dataset("errors", data=values, chunks=(16, 700))
        made.attrs.update(attributes)
    whole = drawn("map", pipeline.errors)
    assert drawn("map", path)[0] == whole[0]
    monkeypatch.setattr(sources, "FAN_SAMPLES", 500)
    monkeypatch.setattr(training_panels, "MAP_SAMPLES", 1000)
    titles, data = drawn("trajectories", path)
    assert "fan of 500 of 3,960 samples" in titles[0]
    chosen = np.sort(np.random.default_rng(0).choice(3960, 500, replace=False))
    exact = np.median(log[:, chosen].astype(float), axis=1)
    np.testing.assert_allclose(data["", "quantile 0.5"]["error"], exact, rtol=1e-5)
    close(data["", "mean"]["error"], log.mean(axis=1, dtype=float))
    titles, sampled = drawn("map", path)
    assert "cells of 1,000 samples" in titles[0]
    key = ("", "stay_hard")
    assert sampled[key]["sample"].tolist() == whole[1][key]["sample"].tolist()


def draw_large(kind):
    rng = np.random.default_rng(0)
    n = 1_000_000
    x = rng.lognormal(-3, 0.5, n)
    if kind == "parity":
        y = x * rng.lognormal(0, 0.7, n)
        return partial(
            accuracy.draw_parity, expected=x, true=y, plain=2 * x, rank_correlation=0.5, units=""
        )
    if kind == "map":
        y, every = x * rng.lognormal(0, 0.7, n), np.arange(n)
        return partial(
            training.draw_map, mean=x, deviation=y, share=np.full(n, 0.5), hard=every[::10],
            drawn=every[:100_000], n=n, threshold=0.1, units="",
        )  # fmt: skip
    traces = [scored.Trace(str(i), np.arange(n), x, x * 2) for i in range(2)]
    return partial(
        scored.draw_traces, traces=traces, threshold=0.1, label="error", unit="frame", units=""
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parity", "map", "trace"])
def test_a_million_points_are_a_small_file(kind, tmp_path):
    with looks({}):
        page = draw_page([Panel(kind, draw_large(kind))])
        save_figure(page.figure, tmp_path / "f.pdf", "pdf")
    assert (tmp_path / "f.pdf").stat().st_size < 1e6


def words_of(kind, pipeline, more):
    return {
        "reliability": [more["calibration"]],
        "parity": [pipeline.scores, "--true", pipeline.true_errors],
        "cdf": [pipeline.model, pipeline.calibrated],
        "trajectories": [pipeline.errors],
        "map": [pipeline.errors],
        "ood": [pipeline.model, more["mixed"], "--ood-labels", more["labels"]],
        "sparsification": [pipeline.calibration],
        "trace": [more["hot"], pipeline.calibrated],
        "coverage": [more["calibration"]],
        "overview": [pipeline.errors, pipeline.model, more["calibration"], more["hot"]],
    }[kind]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_figures_are_drawn_the_same_each_time(kind, ending, pipeline, more, tmp_path, ltau):
    made = []
    for i in range(2):
        paths = tmp_path / f"{i}.{ending}", tmp_path / f"{i}.csv"
        words = ("plot", kind, *words_of(kind, pipeline, more))
        result = ltau.ok(*words, "-o", paths[0], "--data", paths[1])
        assert result.out.splitlines()[0] == f"{paths[0]}: {kind}"
        made.append([path.read_bytes() for path in paths])
    assert made[0] == made[1]
    assert len(made[0][0]) > 5000
    assert len(made[0][0]) < 1e6


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_clipped_or_overlaps(kind, pipeline, more, tmp_path, ltau, monkeypatch):
    figures = []

    def keep(figure, path, file_format):
        save_figure(figure, path, file_format)
        figures.append(figure)

    monkeypatch.setattr("ltau_cli.stages.plot.save_figure", keep)
    words = ("plot", kind, *words_of(kind, pipeline, more), "-o", tmp_path / "f.png")
    ltau.ok(*words)
    (figure,) = figures
    with looks({}):
        figure.draw_without_rendering()
    assert figure.bbox.width / figure.dpi == pytest.approx(3.4 * (3 if kind == "overview" else 1))
    n_axes = 0
    for place in figure.subfigs:
        if not place.axes:  # the last row may not be full
            continue
        inside = place.bbox.padded(1)
        title = place._suptitle.get_window_extent()
        texts = [title]
        for axes in place.axes:
            n_axes += 1
            assert axes.get_window_extent().y1 <= title.y0, "title over the axes"
            for axis in (axes.xaxis, axes.yaxis):
                labels = [
                    label.get_window_extent()
                    for label in axis.get_ticklabels()
                    if label.get_text() and label.get_rotation() == 0
                    and axis.get_view_interval()[0] <= _place(label, axis)
                    <= axis.get_view_interval()[1]
                ]  # fmt: skip
                for a, b in itertools.combinations(labels, 2):
                    assert not a.overlaps(b), "tick labels overlap"
                texts += [*labels, axis.label.get_window_extent()]
            assert axes.get_xlabel() or axes.get_ylabel()
            assert axes.xaxis.label.get_window_extent().y1 <= axes.get_window_extent().y0 + 1
        for legend in place.legends:
            box = legend.get_window_extent()
            texts.append(box)
            for axes in place.axes:
                assert not box.overlaps(axes.get_tightbbox()), "legend over the axes"
        for box in texts:
            if box.width:
                assert inside.x0 <= box.x0, "clipped"
                assert box.x1 <= inside.x1, "clipped"
                assert inside.y0 <= box.y0, "clipped"
                assert box.y1 <= inside.y1, "clipped"
    assert n_axes > 0


def _place(label, axis):
    return label.get_position()[0 if axis.axis_name == "x" else 1]


def test_style(pipeline, ltau, tmp_path):
    style = tmp_path / "paper.mplstyle"
    style.write_text('font.size: 10  # larger\nfigure.figsize: 5, 4\naxes.edgecolor: "#ff0000"\n')
    figures = {}
    for name, more_words in (("plain", ()), ("styled", ("--style", style))):
        path = tmp_path / f"{name}.svg"
        ltau.ok("plot", pipeline.calibration, "-o", path, *more_words)
        figures[name] = path.read_text()
    assert "#ff0000" in figures["styled"]
    assert "#ff0000" not in figures["plain"]
    assert 'width="360pt"' in figures["styled"]


@pytest.mark.parametrize(
    ("text", "said"),
    [("font.sise: 10\n", "line 1: 'font.sise: 10' is no setting"),
     ("\nfont.size: huge\n", "font.size"), ("text.usetex: True\n", "LaTeX")],
)  # fmt: skip
def test_styles_that_cannot_be_used(text, said, pipeline, ltau, tmp_path):
    style = tmp_path / "paper.mplstyle"
    style.write_text(text)
    words = ("plot", pipeline.calibration, "-o", tmp_path / "f.png", "--style", style)
    result = ltau(*words)
    check(result, INPUT, style, said, hint="hint:" in result.err)
    check(ltau(*words[:-1], tmp_path / "no"), INPUT, "no such file", hint=False)
    assert not (tmp_path / "f.png").exists()


def test_data_on_standard_output(pipeline, ltau, tmp_path):
    path = tmp_path / "f.png"
    result = ltau("plot", "parity", pipeline.calibration, "-o", path, "--data", "-")
    assert result.out.startswith("series,expected,true,rows\ndensity,")
    assert result.err.startswith(f"{path}: parity\n  Rank correlation ")


@pytest.mark.parametrize(("words", "said", "hint"), [
    ("reliability", "no artifact to draw reliability from", True),
    ("reliability {model}", "kind model", True),
    ("{scores} -o figure.gif", "figure.gif", True),
    ("relaibility {calibration}", "there is no figure 'relaibility'; kinds: reliability", True),
    ("map {model}", "of kind model", True),
    ("trace {scores} {model}", "of kind model", True),
    ("parity {scores}", "true errors", True),
    ("parity {calibration} {calibration}", "one artifact, not 2", False),
    ("cdf {model} {model}", "one artifact of kind model", False),
    ("overview {errors} {errors}", "one artifact of kind errors", False),
    ("ood {scores}", "is drawn from a model and scores", True),
    ("ood {model}", "is drawn from a model and scores", True),
    ("coverage {scores} --true {true_errors}", "has no bounds", True),
    ("trace {scores} {calibrated}", "without a calibration", True),
    ("cdf {scores}", "no CDFs", True),
    ("cdf {model} --rows 1,2,3,4,5", "at most 4", False),
    ("cdf {model} --rows 3960", "has 3,960 samples", False),
    ("trajectories {errors} --rows 5000", "has 3,960 samples", False),
    ("trajectories {errors} --rows 1,x", "'1,x' is not a list of row numbers", True),
    ("parity {calibration} --rows 1", "--rows belongs to cdf and trajectories", False),
    ("overview {model} --rows 1", "--rows belongs to cdf and trajectories", False),
    ("trace {scores} --true {true_errors}", "--true belongs to", False),
    ("parity {calibration} --true {true_errors}", "one scores artifact", False),
    ("overview {scores} {calibrated} --true {true_errors}", "2 were given", False),
    ("reliability {scores} --group species", "--group needs the true errors", True),
    ("parity {scores} --true {true_errors} --group species", "--group belongs to", False),
    ("parity {calibration} --ood-labels {true_errors}", "--ood-labels belongs to ood", False),
    ("ood {model} {scores} {calibrated} --ood-labels {true_errors}", "2 were given", False),
    ("{calibration} --data {figure}", "-o and --data both name", False),
    ("{calibration} --data - --json", "both want standard output", True),
])  # fmt: skip
def test_figures_that_cannot_be_drawn(words, said, hint, pipeline, ltau, tmp_path):
    names = ("errors", "model", "scores", "calibrated", "calibration", "true_errors")
    paths = {name: getattr(pipeline, name) for name in names} | {"figure": tmp_path / "f.png"}
    result = ltau("plot", "-o", paths["figure"], *words.format(**paths).split())
    check(result, USAGE, said, hint=hint)
    assert not list(tmp_path.iterdir())


def test_models_and_scores_that_do_not_match(pipeline, ltau, tmp_path):
    other, few = tmp_path / "other.h5", tmp_path / "few.h5"
    figure = tmp_path / "f.png"
    ltau.ok("fit", pipeline.errors, pipeline.train, "-k", 5, "-o", other)
    check(ltau("plot", "ood", other, pipeline.scores, "-o", figure), USAGE, "not scored with")
    words = ("score", pipeline.descriptors, "-m", pipeline.model, "-k", 5, "-o", few)
    ltau.ok(*words)
    check(ltau("plot", "ood", pipeline.model, few, "-o", figure), USAGE, "-k 5", "-k 10")


def test_other_bad_inputs(pipeline, ltau, tmp_path):
    figure = tmp_path / "f.png"
    check(ltau("plot", tmp_path / "no.h5", "-o", figure), INPUT, "no such file", hint=False)
    check(ltau("plot", pipeline.train, "-o", figure), ARTIFACT, "not an HDF5 file")
    short = save(tmp_path / "short.npy", np.ones(3))
    words = ("plot", "parity", pipeline.scores, "--true", short, "-o", figure)
    check(ltau(*words), INPUT, "3 true errors", "1,375 rows")
    words = ("plot", "ood", pipeline.model, pipeline.scores, "--ood-labels")
    check(ltau(*words, short, "-o", figure), INPUT, "3 labels")
    same = save(tmp_path / "same.npy", np.ones(1375))
    check(ltau(*words, same, "-o", figure), INPUT, "must be 0 and 1")


def test_a_sample_that_was_never_logged(tmp_path, ltau):
    log = np.random.default_rng(0).random((4, 30))
    log[:, 3] = np.nan
    errors = tmp_path / "e.h5"
    assert (
        ltau("ingest", save(tmp_path / "log.npy", log), "--allow-missing", "-o", errors).code == 0
    )
    words = ("plot", "trajectories", errors, "-o", tmp_path / "f.png", "--rows")
    check(ltau(*words, 3), USAGE, "never logged", hint=False)
    ltau.ok(*words, 4)
