"""The CSV, the tables and the figure of the scorecard."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scorecard.judge import DISTANCES, Record
from scorecard.ways import LLPR, LTAU, MAPIE, ON_THE_WAY, WAYS

Floats = npt.NDArray[np.float64]

TABLES = "tables"  # what stands in the place of the network, where rows are no atoms
KEYS = ("system", "network", "seed", "set", "way")
COUNTS = {2: "two", 3: "three", 4: "four"}
BEGIN, END = "<!-- tables: made by make scorecard -->", "<!-- end of the tables -->"
BEGIN_ROWS, END_ROWS = "<!-- rows of tables: made by make scorecard -->", "<!-- end of the rows -->"


# CSV --------------------------------------------------------------------------------------------


def write_csv(records: Sequence[Record], about: Sequence[Record], path: Path) -> None:
    """One row for each system, network, seed, set and way: means over the splits.

    ``coverage_90_low`` and ``_high`` are the 5 % and 95 % of the splits.
    """
    measures = [name for name in records[0] if name not in (*KEYS, "split") and "by_" not in name]
    described = {tuple(r[key] for key in KEYS[:-1]): r for r in about}
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*KEYS, *measures, "coverage_90_low", "coverage_90_high", "rank_ceiling",
                         "mean_true_error"])  # fmt: skip
        for key, own in grouped(records, KEYS):
            means = [mean_of(own, name) for name in measures]
            ends = np.quantile([r["coverage_90"] for r in own], [0.05, 0.95])
            of_set = described[key[:-1]]
            rest = [of_set["ceiling"], of_set["mean_error"]]
            writer.writerow([*key, *map(short, [*means, *ends, *rest])])


def short(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.4g}"


def grouped(records: Iterable[Record], keys: Sequence[str]) -> Iterator[tuple[Any, list[Record]]]:
    """Records that agree in some keys, in the order they first come in."""
    found: dict[Any, list[Record]] = {}
    for record in records:
        found.setdefault(tuple(record[key] for key in keys), []).append(record)
    yield from found.items()


def values_of(records: Iterable[Record], name: str) -> Floats:
    values = np.array([np.nan if r[name] is None else r[name] for r in records], dtype=float)
    return np.asarray(values[~np.isnan(values)])


def mean_of(records: Iterable[Record], name: str) -> float:
    values = values_of(records, name)
    return float(values.mean()) if len(values) else float("nan")


# Tables -----------------------------------------------------------------------------------------


def write_page(records: Sequence[Record], about: Sequence[Record], path: Path) -> None:
    """Replace the tables of a page, or write a page of nothing else.

    The first network fills the tables; each of the others gets one of its own at the end.
    """
    records = in_mean_errors(records, about)
    (_, main), *others = grouped(records, ["network"])
    ceilings = ceilings_of(about, main[0]["network"])
    tables = "\n\n".join([
        about_table(about),
        *(set_table(name, own, ceilings[name]) for (name,), own in grouped(main, ["set"])),
        system_table(main),
        cost_table(main),
        *(package_table(own) for _, own in others),
    ])  # fmt: skip
    replace_part(path, BEGIN, tables, END)


def write_rows(records: Sequence[Record], about: Sequence[Record], path: Path) -> None:
    """Replace what a page tells of rows of tables, or add it."""
    records = in_mean_errors(records, about)
    tables = [about_table(about), package_table(records), noise_table(records),
              cost_table(records, "Tables: what it costs")]  # fmt: skip
    replace_part(path, BEGIN_ROWS, "\n\n".join(tables), END_ROWS)


def replace_part(path: Path, begin: str, text: str, end: str) -> None:
    """Replace the part of a file between two lines, or add it at the end."""
    before, _, rest = (path.read_text() if path.exists() else "").partition(begin)
    after = rest.partition(end)[2] or "\n"
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"### {title}", "", f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def bold(name: str, cells: Sequence[str]) -> list[str]:
    return [f"**{cell}**" if name in (LTAU, ON_THE_WAY) else cell for cell in (name, *cells)]


def about_table(about: Sequence[Record]) -> str:
    """What is learned, what that takes, and how far off the networks are."""
    sets = list(dict.fromkeys(r["set"] for r in about))
    rows = []
    for (network, system), own in grouped(about, ["network", "system"]):
        first, seconds = own[0], mean_of(own, "training_seconds")
        cells = [network, system, f"{first['train_frames']} ({first['train_atoms']:,})",
                 "–" if np.isnan(seconds) else f"{seconds:.0f}"]  # fmt: skip
        for name in sets:
            of_set = [r for r in own if r["set"] == name]
            mean, joined = mean_of(of_set, "mean_error"), mean_of(of_set, "error_of_mean")
            large, members = mean_of(of_set, "large"), COUNTS.get(first["members"], "all")
            too = "" if np.isnan(joined) else f", {members} together {joined:.3g}"
            cells.append(f"{mean:.3g}{too} ({large:.0%} large)")
        rows.append(cells)
    what, of = "frames (atoms)", "Mean force errors (eV/Å)"
    if about[0]["network"] == TABLES:
        what, of = "rows (all)", "Tables: mean errors of the predictions"
    head = ["network", "system", f"training {what}", "training (s)", *sets]
    return table(of, head, rows)


def in_mean_errors(records: Sequence[Record], about: Sequence[Record]) -> list[Record]:
    """Records with width and CRPS in units of the network's mean error on the set, too."""
    errors = {tuple(r[key] for key in KEYS[:-1]): r["mean_error"] for r in about}
    found = []
    for r in records:
        unit = errors[tuple(r[key] for key in KEYS[:-1])]
        found.append(
            r | {"relative_width": r["width_90"] / unit, "relative_crps": r["crps"] / unit}
        )
    return found


def ceilings_of(about: Sequence[Record], network: str) -> dict[str, float]:
    """Best possible rank correlation on each set."""
    own = [r for r in about if r["network"] == network]
    return {name: mean_of(of_set, "ceiling") for (name,), of_set in grouped(own, ["set"])}


def set_table(name: str, records: Sequence[Record], ceiling: float) -> str:
    """All ways on one kind of frames: means, and 5 % to 95 % over systems, networks and splits."""
    rows = []
    for (way,), of_way in grouped(records, ["way"]):
        cells = [
            *(spread(of_way, f"coverage_{level}") for level in (50, 90, 95)),
            percent(mean_of(of_way, "worst_slab_90")),
            spread(of_way, "relative_width", "{:.2f}"),
            spread(of_way, "rank", "{:.2f}"),
            number(mean_of(of_way, "rank_within_species")),
            number(mean_of(of_way, "auroc")),
            spread(of_way, "relative_crps", "{:.2f}"),
        ]
        rows.append(bold(way, cells))
    head = ["way", "50 %", "90 %", "95 % bound covers", "90 %: worst slab", "90 %: width", "rank",
            "within species", "AUROC", "CRPS"]  # fmt: skip
    title = f"{name}: best possible rank correlation {number(ceiling)}"
    return table(title[0].upper() + title[1:], head, rows)


def spread(records: Sequence[Record], name: str, form: str = "") -> str:
    """Mean, and 5 % to 95 %."""
    values = values_of(records, name)
    if not len(values):
        return "–"
    low, high = np.quantile(values, [0.05, 0.95])
    if form:
        return f"{form.format(values.mean())} ({form.format(low)}–{form.format(high)})"
    return f"{100 * values.mean():.1f} ({100 * low:.0f}–{100 * high:.0f})"


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}"


def system_table(records: Sequence[Record]) -> str:
    """Coverage of the 90 % bound of each system, a number for each set."""
    sets = list(dict.fromkeys(r["set"] for r in records))
    systems = list(dict.fromkeys(r["system"] for r in records))
    rows = []
    for (way,), of_way in grouped(records, ["way"]):
        cells = []
        for system in systems:
            of_system = [r for r in of_way if r["system"] == system]
            means = [mean_of([r for r in of_system if r["set"] == s], "coverage_90") for s in sets]
            cells.append(" / ".join(f"{100 * mean:.0f}" for mean in means))
        rows.append(bold(way, cells))
    return table(f"90 % bound covers, by system ({' / '.join(sets)})", ["way", *systems], rows)


def package_table(records: Sequence[Record]) -> str:
    """A network of a package: coverage of the 90 % bound by system, and means over the systems.

    A number for each set.
    """
    sets = list(dict.fromkeys(r["set"] for r in records))
    systems = list(dict.fromkeys(r["system"] for r in records))

    def by_set(own: Sequence[Record], name: str, form: str, factor: int = 1) -> str:
        means = [mean_of([r for r in own if r["set"] == of_set], name) for of_set in sets]
        return " / ".join("–" if np.isnan(x) else form.format(factor * x) for x in means)

    rows = []
    for (way,), of_way in grouped(records, ["way"]):
        by_system = [[r for r in of_way if r["system"] == system] for system in systems]
        cells = [
            *(by_set(own, "coverage_90", "{:.0f}", 100) for own in by_system),
            by_set(of_way, "relative_width", "{:.2f}"),
            by_set(of_way, "rank", "{:.2f}"),
            by_set(of_way, "relative_crps", "{:.2f}"),
        ]
        rows.append(bold(way, cells))
    head = ["way", *(f"90 % bound covers: {s}" for s in systems), "90 %: width", "rank", "CRPS"]
    name = records[0]["network"]
    return table(f"{name[0].upper()}{name[1:]} ({' / '.join(sets)})", head, rows)


def noise_table(records: Sequence[Record]) -> str:
    """Coverage by noise, where that is known, and whether the way calls its bound nominal."""
    sets = list(dict.fromkeys(r["set"] for r in records))
    rows = []
    for (way,), of_way in grouped(records, ["way"]):
        means = {
            name: [mean_of([r for r in of_way if r["set"] == s], name) for s in sets]
            for name in ("least_noisy_90", "most_noisy_90", "rank_of_noise", "nominal_90", "auroc")
        }
        rows.append(bold(way, [
            *(" / ".join("–" if np.isnan(x) else f"{100 * x:.0f}" for x in means[name])
              for name in ("least_noisy_90", "most_noisy_90")),
            *(" / ".join(map(number, means[name])) for name in ("rank_of_noise", "auroc")),
            " / ".join("–" if np.isnan(x) else f"{100 * x:.0f}" for x in means["nominal_90"]),
        ]))  # fmt: skip
    head = ["way", "90 % bound covers: least noisy fifth", "most noisy fifth",
            "rank of the noise", "AUROC", "calls its 90 % bound nominal (%)"]  # fmt: skip
    return table(f"Tables: by noise ({' / '.join(sets)})", head, rows)


def cost_table(records: Sequence[Record], title: str = "What it costs") -> str:
    """What each way costs."""
    rows = []
    for (way,), of_way in grouped(records, ["way"]):
        training = mean_of(of_way, "training_seconds")
        cells = [
            WAYS[way].says,
            str(WAYS[way].trainings),
            str(WAYS[way].evaluations or WAYS[way].trainings),
            "–" if np.isnan(training) else f"{training:.0f}",
            f"{mean_of(of_way, 'seconds'):.2f}",
            f"{mean_of(of_way, 'reference_calculations'):.0f}",
        ]
        rows.append(bold(way, cells))
    head = ["way", "what it is", "networks", "evaluations of a frame", "training (s)",
            "fit, score, calibrate (s)", "reference calculations"]  # fmt: skip
    return table(f"{title}, in processor seconds", head, rows)


# Figure -----------------------------------------------------------------------------------------

SHOWN: dict[str, dict[str, Any]] = {
    LTAU: {"color": "#0072B2", "lw": 2.2, "marker": "o", "ms": 4, "zorder": 5},
    ON_THE_WAY: {"color": "#000000", "lw": 2.2, "marker": "s", "ms": 4, "zorder": 6},
    "ltau, committee of two": {"color": "#0072B2", "ls": ":"},
    "ltau, no structures": {"color": "#56B4E9", "ls": "-."},
    "ltau, method scale": {"color": "#56B4E9"},
    "ltau, last epoch": {"color": "#56B4E9", "ls": "--"},
    "published LTAU": {"color": "#E69F00"},
    "ensemble of two": {"color": "#009E73", "ls": "--"},
    "ensemble of four": {"color": "#009E73"},
    "last layer (LLPR)": {"color": "#CC79A7"},
    LLPR: {"color": "#CC79A7", "ls": ":"},
    "Gaussian mixture": {"color": "#CC79A7", "ls": "--"},
    "latent distance": {"color": "#D55E00"},
    MAPIE: {"color": "#D55E00", "ls": ":"},
    "quantile boosting": {"color": "#D55E00", "ls": "--"},
    "mean of the species": {"color": "#777777", "ls": "--"},
    "constant": {"color": "#777777"},
}


def by_distance(records: Sequence[Record], way: str) -> Floats:
    """Coverage of the 90 % bound by distance (n_bins,): every system that is there counts alike."""
    shares = []
    for _, own in grouped([r for r in records if r["way"] == way], ["system"]):
        n, covered = (
            np.sum([r[name] for r in own], axis=0)
            for name in ("by_distance_n", "by_distance_covered")
        )
        shares.append(np.where(n > 0, covered / np.maximum(n, 1), np.nan))
    there = ~np.isnan(shares)
    total = np.where(there, shares, 0).sum(axis=0)
    return np.asarray(np.where(there.any(axis=0), total / np.maximum(there.sum(axis=0), 1), np.nan))


def draw(records: Sequence[Record], path: Path) -> None:
    """Coverage against the distance from the training set, a line for each way.

    Of the first network.
    """
    from ltau_cli.figures.style import GREY, Chart, Panel, draw_page, looks, save_figure

    records = [r for r in records if r["network"] == records[0]["network"]]
    if any("by_distance_n" not in r for r in records):
        return
    edges = [f"{low:g}–{high:g}" for low, high in itertools.pairwise(DISTANCES[1:-1])]
    names = [f"below {DISTANCES[1]:g}", *edges, f"above {DISTANCES[-2]:g}"]

    def lines(chart: Chart) -> None:
        axes = chart.axes
        for way in dict.fromkeys(r["way"] for r in records):
            covered = 100 * by_distance(records, way)
            axes.plot(np.arange(len(names)), covered, label=way, **SHOWN[way])
        axes.axhline(90, color=GREY, lw=0.6, zorder=0)
        axes.set(xticks=np.arange(len(names)), xticklabels=names, ylim=(0, 101),
                 yticks=[0, 30, 60, 90], ylabel="90 % bound covers (%)",
                 xlabel="distance of the frame from the training set (1: like the training set)",
                 title="Does a 90 % bar hold away from the training set?")  # fmt: skip
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, handlelength=2.6)

    with looks({"figure.figsize": (7.0, 3.2)}):
        save_figure(draw_page([Panel("coverage", lines)]).figure, path, "svg")
