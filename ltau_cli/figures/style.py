"""One look for all figures: one column wide, color-blind safe, the same bytes each time."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Array, Floats
from ltau_cli.errors import InputError

Data = list[dict[str, Array]]

COLUMN_INCHES = 3.4  # 8.6 cm
PANEL_INCHES = 2.9  # height
# Okabe and Ito's colors, safe for the color blind (https://jfly.uni-koeln.de/color/).
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#777777"
PURPLE, SKY = "#CC79A7", "#56B4E9"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED)
CHOSEN = (BLUE, GREEN, ORANGE, PURPLE)  # samples or rows that the user picks
_DIGITS = {0.6: range(1, 10), 1.4: (1, 2, 5), 2.3: (1, 3)}  # that are labeled, by decades
MANY = 5_000  # points of a line or markers from which on they are drawn as pixels
GLUE = "\N{NO-BREAK SPACE}"
MARGIN = 0.02  # of the width of a panel, beside titles and legends

_RC: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.figsize": (COLUMN_INCHES, PANEL_INCHES),
    "legend.frameon": False,
    "legend.fontsize": 7,
    "lines.linewidth": 1.2,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}
_FIXED: dict[str, Any] = {"svg.hashsalt": "ltau"}  # whatever the user's style says
_NOT_LOOKS = ("backend", "interactive", "toolbar", "webagg", "date", "docstring", "tk", "macosx")


@dataclass(frozen=True)
class Panel:
    """One diagram: ``draw`` draws it, ``name`` names its rows in the drawn data."""

    name: str
    draw: Callable[[Chart], None]


class Chart:
    """Axes that keep what is drawn on them.

    ``data`` are blocks of equally long columns, the first of which names the curve or cloud.
    """

    def __init__(self, axes: Any) -> None:
        self.axes = axes
        self.data: Data = []

    def keep(self, name: str, columns: Mapping[str, npt.ArrayLike]) -> None:
        """Keep the drawn data of one curve or cloud; single numbers are repeated."""
        arrays = {key: np.atleast_1d(np.asarray(values)) for key, values in columns.items()}
        n = max(len(values) for values in arrays.values())
        block = {"series": np.full(n, name)}
        self.data.append(block | {k: np.broadcast_to(v, n) for k, v in arrays.items()})

    def curve(
        self, name: str, columns: Mapping[str, npt.ArrayLike], line: str = "-", **look: Any
    ) -> None:
        """Draw the second column against the first, with a legend of its name, and keep all."""
        x, y = list(columns.values())[:2]
        self.axes.plot(x, y, line, **{"label": name} | look)
        self.keep(name, columns)

    def cells(
        self, x: npt.NDArray[np.floating], y: npt.NDArray[np.floating], label: str, **look: Any
    ) -> tuple[Any, Floats]:
        """Draw a log-log density of hexagons with a color bar; return it and the centers (n, 2)."""
        drawn = self.axes.hexbin(x, y, xscale="log", yscale="log", gridsize=40, lw=0.1, **look)
        bar = self.axes.figure.colorbar(drawn, ax=self.axes, label=label, pad=0.02)
        corners = np.stack([path.vertices[:6] for path in drawn.get_paths()])
        # Depending on the version of matplotlib, the paths are in place or one path is shifted.
        centers: Floats = 10 ** (np.log10(corners).mean(axis=1) + drawn.get_offsets())
        return bar, centers

    def finish(self, **properties: Any) -> None:
        """Set the labels and limits, label logarithmic axes in plain numbers, add the legend."""
        self.axes.set(**properties)
        for axis in (self.axes.xaxis, self.axes.yaxis):
            if axis.get_scale() == "log":
                _log_ticks(axis)
        if self.axes.get_legend_handles_labels()[0]:
            _legend_below(self.axes)


@dataclass(frozen=True)
class Page:
    """A drawn figure, what each panel states, and what was drawn (by panel if several)."""

    figure: Any
    titles: list[str]
    data: Data


def load_matplotlib() -> Any:
    """Import matplotlib, also where MPLBACKEND is that of a notebook, which is not installed here.

    Nothing is shown on a screen, so that no backend is needed.
    """
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    import matplotlib as mpl

    if backend is not None:
        os.environ["MPLBACKEND"] = backend
        with contextlib.suppress(ValueError, ImportError):
            mpl.rcParams["backend"] = backend  # as matplotlib does
    return mpl


def read_style(path: Path) -> dict[str, Any]:
    """Read a matplotlib style file; an InputError if it is none."""
    mpl = load_matplotlib()

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InputError(f"{path}: cannot read the style: {reason}") from error
    for number, line in enumerate(lines, start=1):
        setting = line.partition("#")[0].strip()
        if setting and setting.partition(":")[0].strip() not in mpl.rcParams:
            raise InputError(
                f"{path}, line {number}: {setting!r} is no setting of matplotlib",
                hint="a style holds lines such as  font.size: 9",
            )
    try:
        style = mpl.rc_params_from_file(path, fail_on_error=True, use_default_template=False)
    except Exception as error:
        raise InputError(f"{path} is no matplotlib style: {error}") from error
    if style.get("text.usetex"):
        raise InputError(
            f"{path}: figures are not set with LaTeX", hint="leave out text.usetex: True"
        )
    return {key: value for key, value in style.items() if not key.startswith(_NOT_LOOKS)}


@contextlib.contextmanager
def looks(style: Mapping[str, Any]) -> Iterator[None]:
    """Draw in the house style with ``style`` on top of it."""
    mpl = load_matplotlib()

    with mpl.rc_context(_RC | dict(style) | _FIXED):
        yield


def draw_page(panels: Sequence[Panel], *, columns: int = 1) -> Page:
    """Draw panels below one another, or side by side in so many columns; no display is needed."""
    mpl = load_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(panels) // columns)
    width, height = mpl.rcParams["figure.figsize"]
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subfigures(rows, columns, squeeze=False).flat
    titles, data = [], []
    several = len(panels) > 1
    for i, (panel, place) in enumerate(zip(panels, places, strict=False)):
        axes = place.add_subplot()
        chart = Chart(axes)
        panel.draw(chart)
        title = axes.get_title(loc="left")
        titles.append(title.replace(GLUE, " "))
        axes.set_title("", loc="left")
        lettered = f"({chr(ord('a') + i)}) {title}" if several else title
        place.suptitle(_wrap(place, lettered), x=MARGIN, ha="left", size="medium")
        for block in chart.data:
            n = len(next(iter(block.values())))
            data.append(({"panel": np.full(n, panel.name)} if several else {}) | block)
    return Page(figure, titles, data)


def _wrap(place: Any, text: str) -> str:
    """Break a title into lines that are no wider than its panel."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and _width(place, longer, "medium") > 1 - 2 * MARGIN:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def _width(place: Any, text: str, size: str) -> float:
    """Width of a line of text, as a share of the width of its panel."""
    from matplotlib.font_manager import FontProperties

    renderer = place.figure.canvas.get_renderer()
    font = FontProperties(size=size)
    width, _, _ = renderer.get_text_width_height_descent(text, font, False)
    return float(width / place.bbox.width)


def draw_png(figure: Any) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    save_figure(figure, buffer, "png")
    return buffer.getvalue()


def save_figure(figure: Any, file: Path | BinaryIO, file_format: str) -> None:
    """Write a figure without the time of day, so that equal figures are equal files."""
    metadata: dict[str, Any] = {
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
        "svg": {"Date": None, "Creator": None},
    }[file_format]
    drawn = io.BytesIO()  # a failed write must not leave matplotlib in the middle of a page
    figure.savefig(drawn, format=file_format, metadata=metadata)
    if isinstance(file, Path):
        file.write_bytes(drawn.getvalue())
    else:
        file.write(drawn.getvalue())


def with_units(label: str, units: str) -> str:
    """``error (eV/Å)``, or ``error`` where the units are not known."""
    return f"{label} ({units})" if units else label


def quantity(value: float, units: str) -> str:
    """``0.0318 eV/Å``, which no title is broken in."""
    return f"{value:.3g}" + (f"{GLUE}{units}" if units else "")


def percent(share: float, digits: int = 0) -> str:
    """``92.2 %``, which no title is broken in."""
    return f"{100 * share:.{digits}f}{GLUE}%"


def arrow(before: float, after: float | None) -> str:
    """``0.217 → 0.056``, or the first number alone."""
    return f"{before:.3f}" + ("" if after is None else f"{GLUE}→{GLUE}{after:.3f}")


def shorten(name: str, most: int = 28) -> str:
    """Cut the middle out of a long name."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


def _legend_below(axes: Any) -> None:
    """Put the legend under the axis label, where it hides nothing, in the columns that fit."""
    mpl = load_matplotlib()

    handles, labels = axes.get_legend_handles_labels()
    place = axes.figure
    size = mpl.rcParams["legend.fontsize"]
    em = _width(place, "M", size)
    widths = [_width(place, label, size) + 4 * em for label in labels]
    place.legend(
        handles, labels, loc="outside lower center", borderaxespad=0.2, columnspacing=1.2,
        handlelength=1.8, handletextpad=0.6, labelspacing=0.3, ncols=_columns_that_fit(widths),
    )  # fmt: skip


def _columns_that_fit(widths: Sequence[float]) -> int:
    """Return the columns of a legend whose entries are so wide, as shares of the panel's width."""
    for columns in range(len(widths), 1, -1):
        parts = np.array_split(widths, columns)  # as matplotlib fills the columns
        if sum(max(part) for part in parts) <= 1 - 2 * MARGIN:
            return columns
    return 1


def _log_ticks(axis: Any) -> None:
    """Label a logarithmic axis in plain numbers, about as many as there is room for.

    Call it when the limits are final.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    for most, digits in _DIGITS.items():
        if decades < most:
            axis.set_major_locator(LogLocator(subs=[float(digit) for digit in digits]))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            break
    axis.set_minor_formatter(NullFormatter())
