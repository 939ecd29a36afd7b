"""What relaxation.py found out: the tables of docs/relaxation.md, and its figure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ase.data import covalent_radii

from ltau_cli.core.calibration.metrics import rank_correlation, rank_interval

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MOST_STEPS = 200
ENERGY_OFF = 0.1  # eV
BONDED, BROKEN = 1.2, 1.3  # times the sum of the covalent radii
FALLEN = 10  # eV/Å
PER_THIRD = 5  # frames of each third of a path
METHODS = {
    "ltau": "ltau",
    "published": "published LTAU",
    "distance": "neighbor distance",
    "committee": "committee of four",
}
FIRST_STEPS = 10
FALSE_ALARMS = 0.1
PATIENCE = 5  # frames, as Watch has it
BOOTSTRAP = 1000
POLICY_DRAWS = 300
TICKS = (0.005, 0.01, 0.02, 0.05)  # eV/Å
SHOWN = 3  # relaxations of each set in the figure


@dataclass
class Relaxation:
    """One relaxation by the network, and what EMT says of it.

    Attributes
    ----------
    set : int
        Number of its set.
    predicted : dict of str to (n_steps, n_atoms, 2)
        By each method, error and bound in eV/Å.
    true : (n_steps, n_atoms)
        True error in eV/Å.
    pvalue : (n_steps, n_atoms)
    failed, unstable, control : bool
        The end is not that of EMT; EMT leaves the end; EMT ends elsewhere from a start moved a bit.
    off, rebonded : bool
        Why it failed.
    handover : (n,) int
        Steps from which EMT went on, the last one included.
    calls : (n,) int
        Reference calculations it took.
    astray : (n,) bool
        It did not end where EMT ends from the start.
    reference_calls : int
        Of EMT from the start.
    """

    set: int
    predicted: dict[str, Floats]
    true: Floats
    pvalue: Floats
    converged: bool
    off: bool
    rebonded: bool
    unstable: bool
    control: bool
    handover: npt.NDArray[np.int64]
    calls: npt.NDArray[np.int64]
    astray: Mask
    reference_calls: int

    @property
    def failed(self) -> bool:
        return self.off or self.rebonded

    @property
    def last(self) -> int:
        return len(self.true) - 1


def file_name(of_set: str, number: int) -> str:
    return f"{of_set.replace(' ', '_')}_{number}.npz"


def read(path: Path, of_set: int) -> Relaxation:
    with np.load(path) as stored:
        found = {name: stored[name] for name in stored.files}
    radii = covalent_radii[found["numbers"]]
    energies, positions = found["reference_energy"], found["reference_positions"]

    def differ(energy: float, place: Floats, other: int) -> tuple[bool, bool]:
        """Whether the energy, and the bonds, are not those of an end of EMT."""
        return (
            abs(energy - energies[other]) > ENERGY_OFF,
            rebonded(place, positions[other], radii),
        )

    end = float(found["energy"][-1]), found["positions"][-1].astype(np.float64)
    off, other_bonds = differ(*end, 0)
    ends = [differ(*pair, 0) for pair in zip(energies, positions, strict=True)]
    return Relaxation(
        set=of_set,
        predicted={name: found[name].astype(np.float64) for name in METHODS},
        true=found["true"].astype(np.float64),
        pvalue=found["pvalue"].astype(np.float64),
        converged=bool(found["converged"]),
        off=off,
        rebonded=other_bonds,
        unstable=any(differ(*end, -1)),
        control=any(ends[1]),
        handover=found["handover"],
        calls=found["reference_calls"][2:],
        astray=np.array([any(pair) for pair in ends[2:]]),
        reference_calls=int(found["reference_calls"][0]),
    )


def rebonded(one: Floats, other: Floats, radii: Floats) -> bool:
    """Whether two atoms are bonded in one structure and clearly not in the other."""
    reach = radii[:, None] + radii
    a, b = (np.linalg.norm(p[:, None] - p, axis=2) / reach for p in (one, other))
    changed = ((a < BONDED) & (b > BROKEN)) | ((b < BONDED) & (a > BROKEN))
    return bool(changed.any())


def report(folder: Path, sets: list[str], starts: int, plot: Path | None) -> None:
    """Print all tables."""
    found = [
        read(folder / file_name(name, number), i)
        for i, name in enumerate(sets)
        for number in range(starts)
    ]
    show_failures(found, sets)
    show_path(found, sets)
    steady = [r for r in found if not r.control]
    show_forecasts("it fails", found, [r.failed for r in found])
    show_forecasts("it fails, where the control does not", steady, [r.failed for r in steady])
    show_forecasts("EMT leaves the end", found, [r.unstable for r in found])
    show_alarms(found)
    show_policies(found)
    if plot:
        draw(found, sets, plot)


def table(title: str, columns: list[str], rows: Iterator[list[str]] | list[list[str]]) -> None:
    print(f"\n{title}\n\n| " + " | ".join(columns) + " |")
    print("| --- " * len(columns) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def share(values: list[bool]) -> str:
    return f"{sum(values)} ({np.mean(values):.0%})" if values else ""


def show_failures(found: list[Relaxation], sets: list[str]) -> None:
    def rows() -> Iterator[list[str]]:
        for i, name in enumerate([*sets, "all"]):
            own = [r for r in found if r.set == i or name == "all"]
            yield [
                name, str(len(own)), f"{np.mean([r.last for r in own]):.0f}",
                f"{np.mean([r.reference_calls for r in own]):.0f}",
                share([not r.converged for r in own]),
                share([r.reference_calls > MOST_STEPS for r in own]), share([r.off for r in own]),
                share([r.rebonded for r in own]), share([r.failed for r in own]),
                share([r.unstable for r in own]), share([r.control for r in own]),
            ]  # fmt: skip

    columns = [
        "set", "relaxations", "steps", "of EMT", "not converged", "nor EMT", "energy off",
        "other bonds", "failed", "EMT leaves the end", "control: EMT fails",
    ]  # fmt: skip
    table("How often it fails", columns, rows())
    late = [r.failed for r in found if not r.converged]
    print(f"\nOf those that did not converge, {share(late)} failed")


def show_path(found: list[Relaxation], sets: list[str]) -> None:
    """Rank correlation and coverage at the start, in the middle and at the end, and in each set."""
    fallen = [r.true.max() > FALLEN for r in found]
    print(f"\nIn {sum(fallen)} relaxations some error is above {FALLEN} eV/Å")
    thirds = [
        np.linspace(r.last * third / 3, r.last * (third + 1) / 3, PER_THIRD).astype(int)
        for third in range(3)
        for r in found
    ]
    numbers = np.tile(np.arange(len(found)), 3)
    of_third = np.repeat(np.arange(3), len(found))
    of_set = np.array([found[i].set for i in numbers])
    parts = {"start": of_third == 0, "middle": of_third == 1, "end": of_third == 2}
    parts |= {name: of_set == i for i, name in enumerate(sets)}
    columns = [
        "frames", "method", "atoms: rank", "90 % bound covers", "predicted / true (medians)",
        "frames: rank", "largest error under largest bound",
    ]  # fmt: skip
    rows = []
    for part, chosen in parts.items():
        frames = [(numbers[j], np.unique(thirds[j])) for j in np.flatnonzero(chosen)]
        for name, title in METHODS.items():
            rows.append([part, title, *judge(found, frames, name)])
    table("Along the path (95 % intervals over relaxations)", columns, rows)


def judge(
    found: list[Relaxation], frames: list[tuple[int, npt.NDArray[np.int64]]], method: str
) -> list[str]:
    """Of some steps of some relaxations."""

    def joined(value: Callable[[Relaxation], Floats]) -> Floats:
        return np.concatenate([value(found[i])[steps].ravel() for i, steps in frames])

    true, error = joined(lambda r: r.true), joined(lambda r: r.predicted[method][..., 0])
    bound = joined(lambda r: r.predicted[method][..., 1])
    own = [np.full(found[i].true[steps].shape, i) for i, steps in frames]
    of_frame = (
        joined(lambda r: r.predicted[method][..., 0].mean(axis=1)),
        joined(lambda r: r.true.mean(axis=1)),
        np.concatenate([numbers[:, 0] for numbers in own]),
    )
    worst = joined(lambda r: r.true.max(axis=1))
    largest = joined(lambda r: r.predicted[method][..., 1].max(axis=1))
    return [
        with_interval(error, true, np.concatenate([numbers.ravel() for numbers in own])),
        f"{(true <= bound).mean():.1%}",
        f"{np.median(error) / np.median(true):.2f}",
        with_interval(*of_frame),
        f"{(worst <= largest).mean():.1%}",
    ]


def with_interval(a: Floats, b: Floats, draw: npt.NDArray[np.int64]) -> str:
    value, interval = rank_correlation(a, b), rank_interval(a, b, draw)
    if value is None or interval is None:
        return ""
    return f"{value:.2f} ({interval[0]:.2f}–{interval[1]:.2f})"


Signal = Callable[[Relaxation], Floats]  # a value for each step


def signals() -> dict[str, Signal]:
    """What may foretell a failure; large means danger."""

    def largest(name: str) -> Signal:
        return lambda r: r.predicted[name][..., 1].max(axis=1)

    def mean(name: str) -> Signal:
        return lambda r: r.predicted[name][..., 0].mean(axis=1)

    found = {f"{title}: largest bound": largest(name) for name, title in METHODS.items()}
    found |= {f"{title}: mean error": mean(name) for name, title in METHODS.items()}
    return found | {
        "ltau: smallest p-value": lambda r: -r.pvalue.min(axis=1),
        "true: largest error": lambda r: r.true.max(axis=1),
        "true: mean error": lambda r: r.true.mean(axis=1),
        "steps taken": lambda r: np.arange(len(r.true), dtype=np.float64),
    }


WHEN: dict[str, Callable[[Floats], float]] = {
    "first frame": lambda v: v[0],
    f"first {FIRST_STEPS} steps": lambda v: v[: FIRST_STEPS + 1].max(),
    "whole path": lambda v: v.max(),
    "last frame": lambda v: v[-1],
}


def auroc(value: Floats, failed: Mask) -> float:
    """Probability that a failed one has the larger value; ties count half."""
    bad, good = value[failed][:, None], value[~failed]
    if not (bad.size and good.size):
        return float("nan")
    return float(((bad > good) + 0.5 * (bad == good)).mean())


def auroc_within(value: Floats, failed: Mask, sets: npt.NDArray[np.int64]) -> float:
    """Of pairs of the same set only."""
    total, pairs = 0.0, 0
    for name in np.unique(sets):
        own = sets == name
        n = int(failed[own].sum()) * int((~failed[own]).sum())
        if n:
            total, pairs = total + n * auroc(value[own], failed[own]), pairs + n
    return total / pairs if pairs else float("nan")


def draws(n: int) -> Iterator[npt.NDArray[np.int64]]:
    """Relaxations drawn with replacement; the same for all that is compared."""
    random = np.random.default_rng(0)
    for _ in range(BOOTSTRAP):
        yield random.integers(0, n, n)


def show_forecasts(what: str, found: list[Relaxation], outcome: list[bool]) -> None:
    """AUROC of each signal at each time, and its difference to that of ltau."""
    failed = np.array(outcome)
    sets = np.array([r.set for r in found])
    values = {
        (name, when): np.array([pick(signal(r)) for r in found])
        for name, signal in signals().items()
        for when, pick in WHEN.items()
    }
    chosen = list(draws(len(found)))

    def cell(key: tuple[str, str]) -> str:
        value = values[key]
        if np.ptp(value) == 0:
            return ""
        drawn = [auroc(value[rows], failed[rows]) for rows in chosen]
        low, high = np.nanquantile(drawn, [0.025, 0.975])
        within = auroc_within(value, failed, sets)
        return f"{auroc(value, failed):.2f} ({low:.2f}–{high:.2f}), {within:.2f}"

    title = (
        f"AUROC of '{what}', {failed.sum()} of {len(found)} (95 % interval over relaxations), and "
        "of pairs of the same set"
    )
    rows = [[name, *(cell((name, when)) for when in WHEN)] for name in signals()]
    table(title, ["signal", *WHEN], rows)
    print("\nltau less the other, largest bound:")
    for name, method in METHODS.items():
        if name != "ltau":
            cells = []
            for when in WHEN:
                pair = [values[f"{t}: largest bound", when] for t in ("ltau", method)]
                drawn = [
                    auroc(pair[0][rows], failed[rows]) - auroc(pair[1][rows], failed[rows])
                    for rows in chosen
                ]
                low, high = np.nanquantile(drawn, [0.025, 0.975])
                here = auroc(pair[0], failed) - auroc(pair[1], failed)
                cells.append(f"{when} {here:+.2f} ({low:+.2f} to {high:+.2f})")
            print(f"{method}: " + "; ".join(cells))


def watched() -> dict[str, Signal]:
    """What a Watch with each method's bounds compares with its limit, at each step."""

    def held(values: Floats) -> Floats:
        """Of the atom that it is largest for: the smallest of so many frames in a row."""
        out = np.full(len(values), -np.inf)
        if len(values) >= PATIENCE:
            windows = np.lib.stride_tricks.sliding_window_view(values, PATIENCE, axis=0)
            out[PATIENCE - 1 :] = windows.min(axis=2).max(axis=1)
        return out

    def by(name: str) -> Signal:
        return lambda r: held(r.predicted[name][..., 1])

    found: dict[str, Signal] = {title: by(name) for name, title in METHODS.items()}
    return found | {"the true error": lambda r: held(r.true)}


def first_above(values: Floats, limit: float, last: int) -> int:
    """First step above the limit; ``last`` + 1 if there is none."""
    above = np.flatnonzero(values > limit)
    return int(above[0]) if len(above) else last + 1


def show_alarms(found: list[Relaxation]) -> None:
    """Alarms of Watch, with a limit set on the other half of the relaxations."""
    half = np.arange(len(found)) % 2

    def rows() -> Iterator[list[str]]:
        for name, signal in watched().items():
            of_all = [signal(r) for r in found]
            hit, lead, early, false = [], [], [], []
            for part in (0, 1):
                good = [
                    v.max() for v, r, h in zip(of_all, found, half, strict=True)
                    if h != part and not r.failed
                ]  # fmt: skip
                limit = float(np.quantile(good, 1 - FALSE_ALARMS)) if good else np.inf
                for v, r, h in zip(of_all, found, half, strict=True):
                    if h != part:
                        continue
                    step = first_above(v, limit, r.last)
                    if not r.failed:
                        false.append(step <= r.last)
                        continue
                    hit.append(step <= r.last)
                    if step <= r.last:
                        lead.append(r.last - step)
                        early.append(not r.astray[before(r, step)])
            yield [
                name, share(false), share(hit),
                f"{np.median(lead):.0f}" if lead else "", share(early),
            ]  # fmt: skip

    columns = [
        "bounds of", "alarm, did not fail", "alarm, failed", "steps before the end (median)",
        "EMT still gets right",
    ]  # fmt: skip
    table(
        f"Alarms of Watch (patience {PATIENCE}), its limit set on the other half", columns, rows()
    )


def before(r: Relaxation, step: int) -> int:
    """Number of the last step of the handover up to this one."""
    return int(np.searchsorted(r.handover, step, side="right")) - 1


FIXED = "a fixed number of steps"
PARTS = (0.75, 0.5, 0.25)  # of what is wrong with the network alone


def show_policies(found: list[Relaxation]) -> None:
    """Reference calculations of each rule to stop by, at equal shares of wrong ends."""
    rules = {FIXED: fixed_steps(found)}
    rules |= {f"Watch, {name}": by_signal(found, signal) for name, signal in watched().items()}
    for title, accept, wrong in (
        ("EMT goes on from every stop and every end; wrong: not the end of EMT", False, "failed"),
        ("EMT goes on from a stop only; wrong: not the end of EMT", True, "failed"),
        ("EMT goes on from a stop only; wrong: EMT leaves an accepted end", True, "unstable"),
    ):
        outcomes = {
            name: np.array([
                [outcome_of(r, step, accept, wrong) for r, step in zip(found, stop, strict=True)]
                for stop in stops
            ])
            for name, stops in rules.items()
        }  # (n_limits, n, 2): calls, wrong  # fmt: skip
        alone = outcomes[FIXED][-1].mean(axis=0)
        targets = [alone[1] * part for part in PARTS]
        full = np.mean([r.reference_calls for r in found])
        print(f"\n{title}: the network alone {alone[1]:.1%} wrong with {alone[0]:.1f} "
              f"calculations; EMT alone none with {full:.1f}")  # fmt: skip
        table(
            "Reference calculations per relaxation",
            ["stopped by", *(f"{target:.1%} wrong" for target in targets)],
            [
                [name, *(saved(own, outcomes[FIXED], target) for target in targets)]
                for name, own in outcomes.items()
            ],
        )


def saved(own: Floats, fixed: Floats, target: float) -> str:
    """Calculations for so many wrong ends, and the share that the fixed number takes more."""
    calls = calls_at(own.mean(axis=1), target)
    if own is fixed:
        return f"{calls:.1f}"
    part = 1 - calls / calls_at(fixed.mean(axis=1), target)
    pairs = np.array([
        [calls_at(outcomes[:, rows].mean(axis=1), target) for outcomes in (own, fixed)]
        for rows in islice(draws(own.shape[1]), POLICY_DRAWS)
    ])  # fmt: skip
    needed = pairs[:, 1] > 0
    low, high = np.quantile(1 - pairs[needed, 0] / pairs[needed, 1], [0.025, 0.975])
    return f"{calls:.1f}, saves {part:.0%} ({low:.0%} to {high:.0%})"


def fixed_steps(found: list[Relaxation]) -> list[list[int]]:
    """Stops after each number of steps that EMT went on from."""
    numbers = sorted({int(step) for r in found for step in r.handover[:-1]})
    return [[min(n, r.last + 1) for r in found] for n in [*numbers, max(r.last for r in found) + 1]]


def by_signal(found: list[Relaxation], signal: Signal) -> list[list[int]]:
    """No step at all, or stops at the first step above each of some limits."""
    values = [signal(r) for r in found]
    limits = np.quantile([v.max() for v in values], np.linspace(0, 1, 31))
    limits = np.concatenate([[-np.inf], limits])
    return [[0] * len(found)] + [
        [first_above(v, limit, r.last) for v, r in zip(values, found, strict=True)]
        for limit in limits
    ]


def outcome_of(r: Relaxation, stop: int, accept: bool, wrong: str) -> tuple[int, bool]:
    """Reference calculations, and whether the end is wrong."""
    if stop > r.last and accept:
        return 0, bool(getattr(r, wrong))
    place = before(r, min(stop, r.last))
    return int(r.calls[place]), bool(r.astray[place]) if wrong == "failed" else False


def calls_at(points: Floats, target: float) -> np.float64:
    """Fewest calculations (n_limits, 2: calls, wrong) for so many wrong, mixing two limits.

    One of the limits stops at once and has none wrong.
    """
    calls, wrong = points.T
    good, bad = wrong <= target, wrong > target
    part = (wrong[bad][:, None] - target) / (wrong[bad][:, None] - wrong[good])
    mixed = calls[bad][:, None] * (1 - part) + calls[good] * part
    return np.float64(min(calls[good].min(), mixed.min(initial=np.inf)))


def draw(found: list[Relaxation], sets: list[str], path: Path) -> None:
    """Draw predicted and true error along the first relaxations of each set."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ltau_cli.figures.style import BLUE, ORANGE, RED, looks, save_figure

    with looks({"font.size": 7}):
        figure = Figure(figsize=(7.2, 6.4), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(sets), SHOWN, squeeze=False, sharey=True)
        for i, name in enumerate(sets):
            own = [r for r in found if r.set == i][:SHOWN]
            for axes, r in zip(grid[i], own, strict=False):
                steps = thinned(r.last)
                axes.plot(steps, r.true[steps].mean(axis=1), color="black", label="true")
                for method, color, title in (
                    ("ltau", BLUE, "ltau"), ("committee", ORANGE, METHODS["committee"]),
                ):  # fmt: skip
                    mean = r.predicted[method][steps][..., 0].mean(axis=1)
                    axes.plot(steps, mean, color=color, label=title, lw=0.9)
                axes.set(yscale="log")
                axes.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
                axes.minorticks_off()
                axes.set_title(f"{name}{', failed' if r.failed else ''}",
                               color=RED if r.failed else "black", fontsize=7)  # fmt: skip
        grid[0, 0].legend(fontsize=6)
        figure.supxlabel("step", fontsize=8)
        figure.supylabel("mean force error of the atoms (eV/Å)", fontsize=8)
        save_figure(figure, path, path.suffix.lstrip("."))


def thinned(last: int, most: int = 25) -> npt.NDArray[np.int64]:
    """Steps from 0 to last, evenly spaced, at most so many."""
    return np.unique(np.linspace(0, last, most).round().astype(int))
