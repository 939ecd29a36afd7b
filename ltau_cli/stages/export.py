"""Scores to files that other programs read."""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ltau_cli.array_types import Array, Integers
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.artifacts.scores import WRITE_ROWS, ScoresFile
from ltau_cli.artifacts.table import LABELS, ScoreTable, name_columns, to_columns
from ltau_cli.core.conditions import check_columns
from ltau_cli.core.structures import StructureTotals
from ltau_cli.errors import UsageError
from ltau_cli.output import STDOUT, check_target, open_binary, open_text
from ltau_cli.progress import Advance, Progress, silent
from ltau_cli.readers.frames import read_frames
from ltau_cli.results import ExportResult
from ltau_cli.settings import ExportFormat, ExportSettings, documented
from ltau_cli.stages.frame_rows import FrameRows, count_structures, match_frames, read_structure
from ltau_cli.writers.frames import annotate, write_frames
from ltau_cli.writers.model_devi import write_model_devi
from ltau_cli.writers.tables import write_json_lines, write_npz, write_table

ENDINGS: dict[ExportFormat, tuple[str, ...]] = {
    "csv": (".csv",),
    "tsv": (".tsv",),
    "jsonl": (".jsonl",),
    "npz": (".npz",),
    "extxyz": (".xyz", ".extxyz"),
    "model-devi": (".out",),
}


@documented
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
        opened: AbstractContextManager[Any]
        if file_format == "npz":
            opened = open_binary(output, force=force)
        else:
            opened = open_text(output, force=force, compress=compress)
        with progress("exporting", table.n) as advance, opened as stream:
            done = _write(stream, file_format, table, wanted, settings, advance)
    return ExportResult(output=output, format=file_format, **{"columns": wanted} | done)


def _write(
    stream: Any, file_format: ExportFormat, table: ScoreTable, wanted: list[str],
    settings: ExportSettings, advance: Advance,
) -> dict[str, Any]:  # fmt: skip
    if file_format == "model-devi":
        return {"unit": "frames"} | _write_model_devi(stream, table, settings.every, advance)
    if file_format == "extxyz":
        assert settings.frames is not None
        rows = match_frames(settings.frames, table.artifact)
        frames = _annotated(table, settings.frames, rows, settings.columns, advance)
        return {"unit": "frames", "n": write_frames(stream, frames), "of": len(rows.ends)}
    if file_format == "npz":
        n = sum(len(block["row"]) for block in table.blocks(["row"], advance))
        columns = (
            (name, table.dtype(name), (block[name] for block in table.blocks([name])))
            for name in wanted
        )
        write_npz(stream, n, columns)
    elif file_format == "jsonl":
        n = write_json_lines(stream, wanted, table.blocks(wanted, advance))
    else:
        delimiter = "\t" if file_format == "tsv" else ","
        n = write_table(stream, wanted, table.blocks(wanted, advance), delimiter=delimiter)
    return {"unit": "rows", "n": n, "of": table.n}


def find_format(output: Path, named: ExportFormat | None) -> tuple[ExportFormat, bool]:
    """Return the format and whether to gzip it."""
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


def _annotated(
    table: ScoreTable, path: Path, rows: FrameRows, wanted: Sequence[str] | None, advance: Advance
) -> Iterator[Any]:
    """Yield the user's frames, of which some row is kept, with the scores of their atoms."""
    if wanted is None:
        wanted = [c for c in table.columns if not c.startswith("cdf_")]
    wanted = [column for column in wanted if column not in ("row", "structure")]
    aggregates = _aggregates(table.artifact)
    of = "energy_" if table.artifact.parameters.get("quantity") == "energy" else ""
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
            values = {column: columns[column][own] for column in wanted}
            info = {name: column[i] for name, column in aggregates.items()}
            if not rows.per_atom:
                info |= {name: column[0] for name, column in values.items()}
                values = {}
            yield annotate(frame, values, info, of)
        advance(len(keep))


def _groups(ends: Integers) -> Iterator[tuple[int, int]]:
    """Yield (first, last) frame of groups of about ``WRITE_ROWS`` rows."""
    first = 0
    while first < len(ends):
        start = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, start + WRITE_ROWS, side="right")))
        yield first, last
        first = last


def _aggregates(artifact: ScoresFile) -> dict[str, Array]:
    """Per-frame values of the artifact by the names of their columns."""
    labels = {name: artifact.read(name) for name in LABELS.values() if artifact.has(name)}
    datasets = [
        spec.name
        for spec in artifact.present()
        if spec.name.startswith("structures/")
        and spec.name not in ("structures/n_samples", "structures/fingerprint")
    ]
    block = {name: artifact.read(name) for name in datasets}
    return to_columns(block, name_columns(datasets, labels))


def _write_model_devi(
    stream: TextIO, table: ScoreTable, every: int, advance: Advance
) -> dict[str, Any]:
    artifact = table.artifact
    n = count_structures(artifact, None)
    column = artifact.error_column
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
