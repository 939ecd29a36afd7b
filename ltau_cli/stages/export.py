"""Scores to files that other programs read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.scores import WRITE_ROWS, ScoresFile
from ltau_cli.artifacts.table import LABELS, ScoreTable, name_columns, to_columns
from ltau_cli.core.conditions import check_columns
from ltau_cli.core.structures import StructureTotals
from ltau_cli.errors import InputError, UsageError
from ltau_cli.output import STDOUT, check_target, open_binary, open_text
from ltau_cli.progress import Advance, Progress, silent
from ltau_cli.readers.frames import read_frames
from ltau_cli.results import ExportResult
from ltau_cli.settings import ExportFormat, ExportSettings
from ltau_cli.stages.frame_rows import FrameRows, count_structures, match_frames, read_structure
from ltau_cli.writers.frames import annotate, write_frames
from ltau_cli.writers.model_devi import write_model_devi
from ltau_cli.writers.npz import open_npz
from ltau_cli.writers.tables import write_json_lines, write_table

ENDINGS: dict[ExportFormat, tuple[str, ...]] = {
    "csv": (".csv",),
    "tsv": (".tsv",),
    "jsonl": (".jsonl",),
    "npz": (".npz",),
    "extxyz": (".xyz", ".extxyz"),
    "model-devi": (".out",),
}
PREFIX = "ltau_"  # of names in other people's frames


def run(
    scores: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    settings: ExportSettings | None = None,
    force: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> ExportResult:
    """Write the rows of a scores artifact in a format of other programs.

    Parameters
    ----------
    scores : path
        Scores artifact.
    output : path
        The file, or ``-`` for standard output. Its ending tells the format; with a further ``.gz``
        it is compressed.
    settings : ExportSettings
        What to export, and how; single ones may be given by name.
    force : bool
        Replace an existing file.
    progress : Progress
        Shows the rows.

    Returns
    -------
    ExportResult

    Raises
    ------
    UsageError
        If the format is not clear, or a column or condition cannot be meant.
    InputError
        If the frames do not match the scores.
    ArtifactError
        If the artifact cannot be read.
    OutputError
        If the file may not or cannot be written.
    """
    scores, output = Path(scores), Path(output)
    settings = ExportSettings.of(settings, options)
    file_format, compress = find_format(output, settings.file_format)
    _check_usage(file_format, settings)
    check_target(output, force=force, inputs=[scores, settings.frames])
    with open_artifact(scores, ScoresFile) as artifact:
        table = ScoreTable.open(artifact, settings.where)
        wanted = list(settings.columns or table.columns)
        check_columns(wanted, table.columns, scores)
        target = _Target(output, file_format, compress, force)
        with progress("exporting", table.n) as advance:
            if file_format in ("extxyz", "model-devi"):
                done = _export_frames(target, table, settings, advance)
            else:
                done = _export_rows(target, table, wanted, advance)
    return ExportResult(output=output, format=file_format, **{"columns": wanted} | done)


@dataclass(frozen=True)
class _Target:
    """Where to write, and how."""

    output: Path
    file_format: ExportFormat
    compress: bool
    force: bool

    def open_text(self) -> AbstractContextManager[TextIO]:
        """Open it for writing text."""
        return open_text(self.output, force=self.force, compress=self.compress)


def _export_rows(
    target: _Target, table: ScoreTable, wanted: Sequence[str], advance: Advance
) -> dict[str, Any]:
    if target.file_format == "npz":
        with open_binary(target.output, force=target.force) as binary:
            n = _write_npz(binary, table, wanted, advance)
    else:
        with target.open_text() as stream:
            blocks = table.blocks(wanted, advance)
            if target.file_format == "jsonl":
                n = write_json_lines(stream, wanted, blocks)
            else:
                delimiter = "\t" if target.file_format == "tsv" else ","
                n = write_table(stream, wanted, blocks, delimiter=delimiter)
    return {"unit": "rows", "n": n, "of": table.n}


def _export_frames(
    target: _Target, table: ScoreTable, settings: ExportSettings, advance: Advance
) -> dict[str, Any]:
    frames = settings.frames
    if frames is None:
        with target.open_text() as stream:
            return {"unit": "frames"} | _write_model_devi(stream, table, settings.every, advance)
    rows = match_frames(frames, table.artifact)
    with target.open_text() as stream:
        n = write_frames(stream, _annotated(table, frames, rows, settings.columns, advance))
    return {"unit": "frames", "n": n, "of": len(rows.ends)}


def find_format(output: Path, named: ExportFormat | None) -> tuple[ExportFormat, bool]:
    """Return the format and whether to gzip it.

    Raises
    ------
    UsageError
        If neither the name nor the ending tells.
    """
    if output == STDOUT:
        return named or "csv", False
    name = output.name.lower()
    compress = name.endswith(".gz")
    ending = Path(name.removesuffix(".gz")).suffix
    found = named or next((f for f, endings in ENDINGS.items() if ending in endings), None)
    if found is None:
        raise UsageError(
            f"cannot tell the format of {output}",
            hint="end it in " + ", ".join(e for of in ENDINGS.values() for e in of)
            + ", or name the format with --format",
        )  # fmt: skip
    if found == "npz" and compress:
        raise UsageError(f"{output}: .npz is not compressed further", hint="leave out .gz")
    return found, compress


def _check_usage(file_format: ExportFormat, settings: ExportSettings) -> None:
    if file_format == "extxyz" and settings.frames is None:
        raise UsageError(
            "extxyz needs the frames that were scored", hint="name their file with --frames"
        )
    if file_format != "extxyz" and settings.frames is not None:
        raise UsageError(f"--frames belongs to extxyz, not to {file_format}")
    if file_format == "model-devi" and settings.columns is not None:
        raise UsageError("the columns of model-devi are fixed", hint="leave out --columns")
    if file_format != "model-devi" and settings.every != 1:
        raise UsageError(f"--every belongs to model-devi, not to {file_format}")


def _write_npz(stream: Any, table: ScoreTable, wanted: Sequence[str], advance: Advance) -> int:
    """Read the artifact once per column; return the number of rows."""
    n = table.n
    if table.conditions:
        counted = table.conditions[0].column
        n = sum(len(block[counted]) for block in table.blocks([counted], lambda _steps: None))
    with open_npz(stream) as writer:
        for i, name in enumerate(wanted):
            blocks = table.blocks([name], advance if i == 0 else lambda _steps: None)
            writer.write(name, n, table.dtype(name), (block[name] for block in blocks))
    return n


def _annotated(
    table: ScoreTable, path: Path, rows: FrameRows, wanted: Sequence[str] | None, advance: Advance
) -> Iterator[Any]:
    """Yield the user's frames, of which some row is kept, with the scores of their atoms."""
    if wanted is None:
        wanted = [c for c in table.columns if not c.startswith("cdf_")]
    wanted = [column for column in wanted if column not in ("row", "structure")]
    properties = {column: property_name(column) for column in wanted}
    aggregates = _aggregates(table.artifact)
    frames = read_frames(path)
    for first, last in _groups(rows.ends):
        start = int(rows.ends[first - 1]) if first else 0
        columns = table.read(start, int(rows.ends[last - 1]), [*wanted, "row"])
        keep = table.kept(columns)
        for i in range(first, last):
            frame = next(frames)
            begin = (int(rows.ends[i - 1]) if i else 0) - start
            own = slice(begin, int(rows.ends[i]) - start)
            if not keep[own].any():
                continue
            values = {properties[column]: columns[column][own] for column in wanted}
            if rows.per_atom:
                _check_words(values)
            info = {name: to_plain(column[i]) for name, column in aggregates.items()}
            if not rows.per_atom:
                info |= {name: to_plain(column[0]) for name, column in values.items()}
                values = {}
            yield annotate(frame, values, info)
        advance(len(keep))


def _check_words(properties: dict[str, npt.NDArray[Any]]) -> None:
    """Refuse text that would break a line of an extxyz file into other columns."""
    for name, values in properties.items():
        for text in np.unique(values).tolist() if values.dtype.kind == "U" else ():
            if text.split() != [text]:
                raise InputError(
                    f"{name} cannot be in an extxyz file: {text!r} is not one word",
                    hint="name the columns to write with --columns, without it",
                )


def _groups(ends: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) frame of groups of about ``WRITE_ROWS`` rows."""
    first = 0
    while first < len(ends):
        start = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, start + WRITE_ROWS, side="right")))
        yield first, last
        first = last


def _aggregates(artifact: ScoresFile) -> dict[str, npt.NDArray[Any]]:
    """Per-frame values of the artifact by the name they get in a frame."""
    labels = {name: artifact.read(name) for name in LABELS.values() if artifact.has(name)}
    datasets = [
        spec.name
        for spec in artifact.present()
        if spec.name.startswith("structures/") and spec.name != "structures/n_samples"
    ]
    block = {name: artifact.read(name) for name in datasets}
    columns = to_columns(block, name_columns(datasets, labels))
    return {property_name(name): values for name, values in columns.items()}


def property_name(column: str) -> str:
    """``ltau_quantile_95`` for ``quantile_0.95``: other programs allow no dot in a name."""
    quantity, _, label = column.rpartition("_")
    if quantity in ("quantile", "error_bound", "error_bound_mean", "error_bound_max"):
        column = f"{quantity}_{100 * float(label):.6g}"
    return PREFIX + re.sub(r"\W", "_", column)


def to_plain(value: Any) -> float | int | bool | str:
    """Return a Python number, of the digits that float32 has, or text."""
    plain: float | int | bool | str = value.item()
    return float(f"{plain:.7g}") if isinstance(plain, float) else plain


def _write_model_devi(
    stream: TextIO, table: ScoreTable, every: int, advance: Advance
) -> dict[str, Any]:
    artifact = table.artifact
    n = count_structures(artifact, None)
    column = "calibrated_error" if artifact.has("calibrated_error") else "expected_error"
    totals = StructureTotals(n, 2)
    counts = np.zeros(n, dtype=np.int64)
    kept = np.zeros(n, dtype=bool)
    for start in range(0, table.n, WRITE_ROWS):
        stop = min(start + WRITE_ROWS, table.n)
        structure = read_structure(artifact, None, start, stop)
        columns = table.read(start, stop, [column])
        values = columns[column].astype(np.float64)
        totals.add(structure, np.stack([values, -values], axis=1))
        np.add.at(counts, structure, 1)
        kept[structure[table.kept(columns)]] = True
        advance(stop - start)
    step = np.flatnonzero(kept)
    largest, smallest = totals.largest[step].T
    mean = totals.total[step, 0] / counts[step]
    write_model_devi(stream, step * every, largest, -smallest, mean)
    return {
        "n": len(step),
        "of": n,
        "columns": [column],
        "rows_are_frames": not artifact.has("structure"),
    }
