"""Do the error bars hold? Rank correlation, coverage and CRPS in and out of domain.

    python benchmarks/calibration.py FOLDER [SET ...]

FOLDER is ``sample_data``, or what ``calibration_data.py`` made, or holds, as numpy files:
``logs/`` (one array of training errors per epoch), ``train_descriptors``, ``train_natoms`` and for
every test set ``test_SET_descriptors``, ``test_SET_natoms``, ``test_SET_species`` and
``test_SET_force_errors`` (or ``test_SET_forces_true`` with ``test_SET_forces_pred``). The first
SET, drawn like the training set, is calibrated on: half of its structures, the other half is
reported; means over the splits of ``--splits`` seeds.

Then the coverage of the 90 % bound against the number of structures that were calibrated on,
with and without structures known: mean, 5 % and 95 % of ``--draws`` draws of these structures.
Then what a few labeled structures of the other sets buy. ``--splits 0`` leaves out the first table;
``--plot FILE`` draws the first two.

``last epoch`` is ltau with a log of one epoch, ``ltau with spread`` with ``test_SET_spread`` as a
feature, where that is there. The published method is k = 10, unscaled
descriptors, the threshold scaled (Vita et al., doi 10.1088/2632-2153/adb4b9); its 90 % bound is
the scaled quantile of the mixed CDF.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path)
parser.add_argument("sets", nargs="*", help="test sets, the one to calibrate on first")
parser.add_argument("--splits", type=int, default=20)
parser.add_argument("--draws", type=int, default=20)
parser.add_argument("--plot", type=Path)
if __name__ == "__main__":
    arguments = parser.parse_args()  # before what takes long to import

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.scores import ScoresFile
from ltau_cli.core.calibration.evaluation import evaluate
from ltau_cli.core.calibration.fit import TRIED, fit_calibration, split_rows
from ltau_cli.core.calibration.maps import Rows, join_rows
from ltau_cli.core.calibration.metrics import crps, rank_correlation, rank_within
from ltau_cli.core.calibration.model import Calibration
from ltau_cli.readers.column import Column
from ltau_cli.readers.place import Place
from ltau_cli.results import CALIBRATED, Metrics
from ltau_cli.settings import FitSettings, Method
from ltau_cli.stages import fit, ingest, score
from ltau_cli.stages.true_errors import read_known_rows

LEVELS = (np.arange(100) + 0.5) / 100
STRUCTURES = (5, 10, 20, 50, 100, 200, 500, 1000)
FAR_STRUCTURES = (0, 5, 10, 20)
NEAR_STRUCTURES = 100  # of the first set beside them, or half of those there are
COLUMNS = ("rank", "within species", "90 % covers", "predicted / true", "CRPS")
Row = tuple[float, float, float, float, float]


@dataclass
class Scored:
    """One test set as one model scores it."""

    rows: Rows
    true_error: npt.NDArray[np.float64]
    uncertainty: npt.NDArray[np.float64]
    quantiles: npt.NDArray[np.float64]
    thresholds: npt.NDArray[np.float64]


def main(arguments: argparse.Namespace) -> None:
    """Print one table."""
    warnings.simplefilter("ignore")
    sets = arguments.sets or find_sets(arguments.folder)
    with tempfile.TemporaryDirectory() as work:
        found = prepare(arguments.folder, sets, Path(work), FitSettings(), "default")
        published = prepare(
            arguments.folder, sets, Path(work), FitSettings(k=10, scale="none"), "published"
        )
    default = {s: replace(scored, rows=replace(scored.rows, own={})) for s, scored in found.items()}
    results: dict[str, dict[str, list[Row]]] = {}
    for seed in range(arguments.splits):
        for method, by_set in one_split(published, default, found, sets, seed):
            for name, row in by_set.items():
                results.setdefault(method, {}).setdefault(name, []).append(row)
    if results:
        show(results, sets)
    learning = count_structures(default, sets, arguments.draws)
    show_learning(learning, sets)
    bare = {s: without_structures(scored) for s, scored in default.items()}
    print("\nStructures not known (every row counts as one)", end="")
    show_learning(count_structures(bare, sets, arguments.draws, default), sets)
    for far in sets[1:]:
        show_far(default[sets[0]], default[far], sets[0], far, arguments.draws)
    if arguments.plot:
        draw(results, learning, sets, arguments.plot)


def find_sets(folder: Path) -> list[str]:
    """Names of the test sets, the lowest temperature first."""
    end = "_descriptors.npy"
    names = [p.name[len("test_") : -len(end)] for p in folder.glob(f"test_*{end}")]
    return sorted(names, key=lambda name: (len(name), name))


def prepare(
    folder: Path, sets: list[str], work: Path, settings: FitSettings, name: str
) -> dict[str, Scored]:
    """Ingest, fit and score every set."""

    def there(file: str) -> str | None:  # the rows of a table are no atoms
        return str(folder / file) if (folder / file).exists() else None

    errors, model = work / "errors.h5", work / f"{name}.h5"
    if not errors.exists():
        ingest.run([str(folder / "logs")], errors, natoms=there("train_natoms.npy"))
    fit.run(errors, str(folder / "train_descriptors.npy"), model, settings=settings)
    scored = {}
    for s in sets:
        output, spread = work / f"{name}_{s}.h5", there(f"test_{s}_spread.npy")
        score.run(
            folder / f"test_{s}_descriptors.npy", model, output, quantiles=tuple(LEVELS),
            natoms=there(f"test_{s}_natoms.npy"), group=there(f"test_{s}_species.npy"),
            features={"spread": spread} if spread else {},
        )  # fmt: skip
        scored[s] = read_set(folder, s, output)
    return scored


def read_set(folder: Path, name: str, path: Path) -> Scored:
    """Read the scores and the true errors of one set."""
    true_error = read_errors(folder, name)
    with open_artifact(path, ScoresFile) as artifact, Hasher() as hasher:
        return Scored(
            read_known_rows(artifact, Column(Place(folder), true_error), None, None, hasher),
            true_error,
            artifact.read("uncertainty").astype(np.float64),
            artifact.read("quantiles").astype(np.float64),
            artifact.read("thresholds"),
        )


def read_errors(folder: Path, name: str) -> npt.NDArray[np.float64]:
    """True error of each row, (n,) in error units."""
    known = folder / f"test_{name}_force_errors.npy"
    if known.exists():
        return np.asarray(np.load(known), dtype=np.float64)
    difference = np.load(folder / f"test_{name}_forces_pred.npy").astype(np.float64)
    difference -= np.load(folder / f"test_{name}_forces_true.npy")
    return np.asarray(np.linalg.norm(difference, axis=1))


def one_split(
    published: dict[str, Scored],
    default: dict[str, Scored],
    featured: dict[str, Scored],
    sets: list[str],
    seed: int,
) -> Iterator[tuple[str, dict[str, Row]]]:
    """Calibrate on half of the first set; measure the other half and the other sets."""
    first = default[sets[0]]
    chosen = split_rows(first.rows, fit_fraction=0.5, seed=seed)
    parts = {s: ~chosen if s == sets[0] else np.ones(len(default[s].rows), bool) for s in sets}

    own = published[sets[0]]
    scale = threshold_scale(
        own.true_error[chosen], own.uncertainty[chosen, 0], float(own.thresholds[0])
    )
    yield "published", {s: of_published(published[s], scale, part) for s, part in parts.items()}

    def measure(scored: dict[str, Scored]) -> dict[str, dict[str, Metrics]]:
        own = scored[sets[0]]
        fitted = calibrate(own.rows.take(chosen), own.true_error[chosen], seed)
        return {
            s: evaluate(scored[s].rows.take(part), scored[s].true_error[part], fitted).predictors
            for s, part in parts.items()
        }

    measured = measure(default)
    if first.rows.own != featured[sets[0]].rows.own:
        for s, of_set in measure(featured).items():
            measured[s]["ltau with spread"] = of_set[CALIBRATED]
    for name in measured[sets[0]]:
        yield (
            name,
            {
                s: (
                    found[name].rank_correlation or np.nan,
                    found[name].rank_correlation_within_groups or np.nan,
                    found[name].coverage["0.9"],
                    found[name].error_ratio or np.nan,
                    found[name].crps or np.nan,
                )
                for s, found in measured.items()
            },
        )


def calibrate(
    rows: Rows, true_error: npt.NDArray[np.float64], seed: int, methods: Sequence[Method] = TRIED
) -> Calibration:
    """Fit as ``ltau calibrate`` does by default, or with one method."""
    return fit_calibration(
        rows, true_error, methods=methods, levels=np.array([0.9]), thresholds=np.zeros(0), seed=seed
    ).calibration


def coverage(
    calibration: Calibration, scored: Scored, part: npt.NDArray[np.bool_]
) -> tuple[float, float]:
    """Share of the rows under the 90 % bound, and mean predicted over mean true error."""
    predicted, true_error = calibration.predict(scored.rows.take(part)), scored.true_error[part]
    covered = float((true_error <= predicted.bounds()[:, 0]).mean())
    return covered, float(predicted.mean.mean() / true_error.mean())


def without_structures(scored: Scored) -> Scored:
    """Forget which rows belong together."""
    return replace(scored, rows=replace(scored.rows, structure=None, structure_distance=None))


def count_structures(
    scored: dict[str, Scored], sets: list[str], splits: int, known: dict[str, Scored] | None = None
) -> dict[int, dict[str, npt.NDArray[np.float64]]]:
    """Coverage of the 90 % bound of each set, by structures of the first that were fitted on.

    ``known`` are the same sets with their structures, where ``scored`` has forgotten them. The
    first set is judged on its other structures.
    """
    first = scored[sets[0]]
    structure = (known or scored)[sets[0]].rows.structure
    assert structure is not None
    names = np.unique(structure)
    found: dict[int, dict[str, npt.NDArray[np.float64]]] = {}
    for n in [n for n in STRUCTURES if n < 0.9 * len(names)]:
        covered: dict[str, list[float]] = {s: [] for s in sets}
        for seed in range(splits):
            chosen = np.isin(structure, np.random.default_rng(seed).permutation(names)[:n])
            fitted = calibrate(
                first.rows.take(chosen), first.true_error[chosen], seed, ["distance"]
            )
            for s in sets:
                part = ~chosen if s == sets[0] else np.ones(len(scored[s].rows), dtype=bool)
                covered[s].append(coverage(fitted, scored[s], part)[0])
        found[n] = {s: np.array(values) for s, values in covered.items()}
    return found


def show_learning(learning: dict[int, dict[str, npt.NDArray[np.float64]]], sets: list[str]) -> None:
    """Print coverage by the number of calibration structures."""
    print("\n90 % bound covers: mean (5 % to 95 % of the draws)")
    print("structures".ljust(12) + "".join(s.rjust(24) for s in sets))
    for n, by_set in learning.items():
        cells = [spread_of(by_set[s]) for s in sets]
        print(f"{n}".ljust(12) + "".join(cell.rjust(24) for cell in cells))


def spread_of(values: npt.NDArray[np.float64]) -> str:
    """Mean, and 5 % and 95 % of the values."""
    low, high = np.quantile(values, [0.05, 0.95])
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f})"


def show_far(near: Scored, far: Scored, near_name: str, far_name: str, splits: int) -> None:
    """Print what a few structures of a set far away buy among those of the first set."""
    structure, near_structure = far.rows.structure, near.rows.structure
    assert structure is not None
    assert near_structure is not None
    names, near_names = np.unique(structure), np.unique(near_structure)
    n_near = min(NEAR_STRUCTURES, len(near_names) // 2)
    print(f"\n{n_near} structures of {near_name} and n of {far_name}; on the others of each")
    header = (f"{near_name} covers", f"{far_name} covers", "predicted / true")
    print("n".ljust(12) + "".join(column.rjust(24) for column in header))
    for n in [n for n in FAR_STRUCTURES if n <= len(names) // 2]:
        rows = []
        for seed in range(splits):
            random = np.random.default_rng(seed)
            fit = np.isin(near_structure, random.permutation(near_names)[:n_near])
            own = np.isin(structure, random.permutation(names)[:n])
            joined, errors = near.rows.take(fit), near.true_error[fit]
            if n:
                joined = join_rows([joined, far.rows.take(own)])
                errors = np.concatenate([errors, far.true_error[own]])
            fitted = calibrate(joined, errors, seed, ["distance"])
            rows.append((coverage(fitted, near, ~fit)[0], *coverage(fitted, far, ~own)))
        cells = [spread_of(values) for values in np.array(rows).T]
        print(f"{n}".ljust(12) + "".join(cell.rjust(24) for cell in cells))


def draw(
    results: dict[str, dict[str, list[Row]]],
    learning: dict[int, dict[str, npt.NDArray[np.float64]]],
    sets: list[str],
    path: Path,
) -> None:
    """Draw the coverage of each method, and against the number of calibration structures."""
    from ltau_cli.figures.style import (
        BLUE,
        GREEN,
        GREY,
        ORANGE,
        Chart,
        Panel,
        draw_page,
        looks,
        save_figure,
    )  # fmt: skip

    shown = {"published": ORANGE, "neighbor distance": GREEN, "ltau": BLUE}

    def by_method(chart: Chart) -> None:
        axes = chart.axes
        for i, (method, color) in enumerate(shown.items()):
            covered = [100 * np.mean([row[2] for row in results[method][s]]) for s in sets]
            axes.bar(
                np.arange(len(sets)) + 0.26 * (i - 1), covered, 0.24, color=color, label=method
            )
        axes.axhline(90, color=GREY, lw=0.8)
        axes.set(xticks=np.arange(len(sets)), xticklabels=sets, ylim=(0, 119),
                 ylabel="90 % bound covers (%)", title="In and out of domain")  # fmt: skip
        axes.set_yticks([0, 30, 60, 90])
        axes.legend(loc="upper center", ncols=3, fontsize=6.5, columnspacing=1, handlelength=1)

    def by_structures(chart: Chart) -> None:
        axes = chart.axes
        styles = zip(sets, (BLUE, ORANGE, GREEN), "os^", (0.96, 1.04, 1.0), strict=False)
        for s, color, marker, shift in styles:
            values = np.array([100 * learning[n][s] for n in learning])
            mean = values.mean(axis=1)
            reach = np.abs(np.quantile(values, [0.05, 0.95], axis=1) - mean)
            axes.errorbar(
                shift * np.array(list(learning)), mean, reach,
                color=color, capsize=2, label=s, marker=marker, ms=3.5, lw=1,
            )  # fmt: skip
        axes.axhline(90, color=GREY, lw=0.8)
        axes.set(xscale="log", xticks=list(learning), xticklabels=list(map(str, learning)),
                 xlabel="calibration structures", ylabel="90 % bound covers (%)",
                 title="More structures, no shorter bars")  # fmt: skip
        axes.minorticks_off()
        axes.legend(fontsize=7)

    panels = [Panel("methods", by_method), Panel("structures", by_structures)]
    with looks({}):
        save_figure(draw_page(panels, columns=2).figure, path, path.suffix.lstrip("."))


def threshold_scale(
    true_error: npt.NDArray[np.float64], uncertainty: npt.NDArray[np.float64], threshold: float
) -> float:
    """Scale s for which P(error > s * threshold) matches the predicted uncertainty.

    Rows are sorted into ten bins of equal size by uncertainty; s minimizes the mean square
    difference between the bins' mean uncertainty and observed share of errors above
    ``s * threshold`` (the calibration of Vita et al., doi 10.1088/2632-2153/adb4b9).

    Parameters
    ----------
    true_error, uncertainty : (n,) float64
        Error units, and probability.
    threshold : float
        In error units, above 0.

    Returns
    -------
    float
    """
    order = np.argsort(uncertainty, kind="stable")
    bins = np.array_split(order, min(10, len(order)))
    predicted = np.array([uncertainty[rows].mean() for rows in bins])
    errors = [np.sort(true_error[rows]) for rows in bins]
    trials = np.unique(np.quantile(true_error, np.linspace(0.0, 1.0, 1001)))
    misfit = np.zeros(len(trials))
    for p, sorted_errors in zip(predicted, errors, strict=True):
        above = 1 - np.searchsorted(sorted_errors, trials, side="right") / len(sorted_errors)
        misfit += (above - p) ** 2 * len(sorted_errors)
    return float(max(trials[np.argmin(misfit)], np.finfo(np.float32).tiny) / threshold)


def of_published(scored: Scored, scale: float, part: npt.NDArray[np.bool_]) -> Row:
    """Measure the scaled mixture."""
    rows, true_error = scored.rows.take(part), scored.true_error[part]
    quantiles = scale * scored.quantiles[part]
    bound = (quantiles[:, 89] + quantiles[:, 90]) / 2
    mean = scale * rows.expected_error
    assert rows.group is not None
    return (
        rank_correlation(mean, true_error) or np.nan,
        rank_within(mean, true_error, rows.group) or np.nan,
        float((true_error <= bound).mean()),
        float(mean.mean() / true_error.mean()),
        float(crps(true_error, quantiles, LEVELS).mean()),
    )


def show(results: dict[str, dict[str, list[Row]]], sets: list[str]) -> None:
    """Print one table per set, the standard deviation of the coverage over splits beside it."""
    for name in sets:
        print(f"\n{name}".ljust(22) + "".join(column.rjust(18) for column in COLUMNS))
        for method, by_set in results.items():
            rows = np.array(by_set[name])
            mean, spread = rows.mean(axis=0), rows[:, 2].std()
            cells = [f"{value:.3f}" for value in mean]
            cells[2] += f" +- {spread:.3f}"
            cells[4] = f"{mean[4]:.4f}"
            print(method.ljust(21) + "".join(cell.rjust(18) for cell in cells))


if __name__ == "__main__":
    main(arguments)
