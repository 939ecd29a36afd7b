"""New descriptors and a model artifact to scores artifacts.

Scoring has two phases. The first makes pieces: the scores of some rows each, in a store beside the
result, where a later call of the same job goes on. The second streams them into the artifact, so
that nothing in it depends on the pieces, on who made them, or on interruptions.
"""

import contextlib
import itertools
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.array_types import Array
from ltau_cli.artifacts.model import ModelFile
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.read import open_artifact, read_up_to_date
from ltau_cli.artifacts.scores import WRITE_ROWS, ScoresFile, write_scores
from ltau_cli.artifacts.table import LEADING, SHOWN, Columns, name_columns, to_columns
from ltau_cli.artifacts.write import to_json
from ltau_cli.core.threads import available_threads
from ltau_cli.errors import OutputError, UsageError, warn, writing
from ltau_cli.output import STDOUT, check_target, open_text
from ltau_cli.pieces.store import Store, open_store
from ltau_cli.pieces.workers import Workers, make_pieces, open_workers
from ltau_cli.progress import Progress, silent
from ltau_cli.readers.place import Place
from ltau_cli.results import ScoreResult, ShardResult
from ltau_cli.settings import ScoreSettings, documented
from ltau_cli.stages.scoring.blocks import ReadBlocks, ScoreRows, finished_blocks, needs_all_rows
from ltau_cli.stages.scoring.loaded import Loaded
from ltau_cli.stages.scoring.rows import Rows, check_input, open_rows
from ltau_cli.writers.tables import write_table

log = logging.getLogger("ltau")


def name_in_folder(descriptors: Sequence[str], folder: Path) -> dict[Path, str]:
    """Name a result in ``folder`` after the stem of each input, and make the folder."""
    jobs: dict[Path, str] = {}
    for text in descriptors:
        output = folder / f"{Place.parse(text).path.stem}.scores.h5"
        if output in jobs:
            raise UsageError(
                f"{jobs[output]} and {text} would both be scored to {output}",
                hint="score them into two folders, or one by one with -o",
            )
        jobs[output] = text
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"{folder} is not a folder", hint="name a folder with -O") from error
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error
    return jobs


@documented
def run(
    descriptors: str | os.PathLike[str],
    model: str | os.PathLike[str] = "model.h5",
    output: str | os.PathLike[str] = "scores.h5",
    *,
    settings: ScoreSettings | None = None,
    threads: int | None = None,
    workers: str | int | None = None,
    force: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> ScoreResult | ShardResult:
    """Score one descriptor file; with ``shard``, make only pieces of the result.

    Parameters
    ----------
    descriptors : path
        The descriptors (n_rows, d), or a described artifact.
    model : path
        Model artifact.
    output : path
        The scores artifact; ``-`` is CSV on standard output.

    Raises
    ------
    InputError, ArtifactError, UsageError, OutputError
        What is wrong with which file. Files that are missing, of another width or in the way are
        refused before any work is done.
    ComputeError
        If the workers fail.
    """
    (result,) = run_many(
        {Path(output): os.fspath(descriptors)}, Path(model),
        settings=ScoreSettings.of(settings, options), threads=threads, workers=workers,
        force=force, progress=progress,
    )  # fmt: skip
    return result


def run_many(
    jobs: Mapping[Path, str],
    model: Path,
    *,
    settings: ScoreSettings | None = None,
    threads: int | None = None,
    workers: str | int | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Iterator[ScoreResult | ShardResult]:
    """Score one descriptor file after the other; the model is loaded once.

    The keys of ``jobs`` are the scores artifacts, each with its descriptors; see :func:`run`.
    Yields what is told of each when it is done.
    """
    settings = settings or ScoreSettings()
    beside = list(filter(None, [settings.calibration]))
    for output in jobs:
        if output == STDOUT and (workers is not None or settings.shard is not None):
            raise UsageError(
                "workers and shards make pieces of a file, not of standard output",
                hint="name a file with -o",
            )
        inputs = [model, *beside, *jobs.values(), settings.natoms, settings.group]
        inputs += [settings.frames, *filter(None, settings.features.values())]
        check_target(output, force=force or settings.resume, inputs=inputs)
    with open_artifact(model, ModelFile) as artifact, Hasher() as hasher:
        for descriptors in jobs.values():
            check_input(descriptors, artifact, 0 if settings.shard is None else settings.shard[1])
        hasher.add("model", model, "model")
        for calibration in beside:
            hasher.add("calibration", calibration, "calibration")
        read = [model, *beside, *(Place.parse(text).path for text in jobs.values())]
        with open_workers(workers, threads, read=read, write=list(jobs)) as pool:
            loaded = Loaded.of(artifact, settings, threads or available_threads())
            told = False
            for output, descriptors in jobs.items():
                with open_rows(descriptors, output, loaded) as rows:
                    if not told and rows.lost_structures:
                        warn(rows.lost_structures)
                        told = True  # of many files once
                    yield _Scoring(rows, hasher, pool, progress).run(force=force)


@dataclass(frozen=True)
class _Scoring:
    """What is to be done with the rows of one file."""

    rows: Rows
    hasher: Hasher  # of the model and the calibration
    workers: Workers
    progress: Progress

    def run(self, *, force: bool) -> ScoreResult | ShardResult:
        output, settings = self.rows.output, self.rows.loaded.settings
        if output == STDOUT:
            return self._to_csv()
        if settings.resume and output.exists():
            old = self._read_up_to_date(force=force)
            if old is not None:
                return old
            log.warning("%s is out of date; scoring again", output)
            force = True
        if settings.shard is not None:
            return self._make_shard(*settings.shard)
        return self._to_file(force=force)

    def inputs(self) -> list[dict[str, Any]]:
        """Wait for the hashes; one record per input."""
        return self.rows.hasher.records() + self.hasher.records()

    @property
    def size(self) -> int:
        """Rows of a piece."""
        loaded = self.rows.loaded
        return loaded.settings.block_rows or loaded.scorer.model.shards.rows

    def _to_file(self, *, force: bool) -> ScoreResult:
        """Make the pieces that are missing, and the artifact of all."""
        rows, output = self.rows, self.rows.output
        with open_store(output, rows.identify()) as store:
            self._make(store, 0, rows.source.n)
            blocks = finished_blocks(lambda: store.blocks("rows", WRITE_ROWS), rows)
            return write_scores(output, rows.header(), blocks, inputs=self.inputs, force=force)

    def _make_shard(self, index: int, count: int) -> ShardResult:
        """Make pieces only, for the call that makes the artifact."""
        rows, n = self.rows, self.rows.source.n
        first, last = n * index // count, n * (index + 1) // count
        with open_store(rows.output, rows.identify(), shared=True) as store:
            self._make(store, first, last)
        self.hasher.stop()
        rows.hasher.stop()
        return ShardResult(output=rows.output, first=first, last=last, n_rows=n)

    def _make(self, store: Store, first: int, last: int) -> None:
        rows = self.rows
        task = ScoreRows.of(rows)
        read = [task.model, task.descriptors.path, *filter(None, [task.settings.calibration])]
        with self.progress("scoring", last - first) as advance:
            make_pieces(
                self.workers, store, task, last, self.size, start=first,
                opened=(rows.loaded, rows.source), read=read, advance=advance,
            )  # fmt: skip

    def _to_csv(self) -> ScoreResult:
        """Write the rows to standard output as they are scored, or when all are there."""
        rows, header = self.rows, self.rows.header()
        summary = header.start_summary()
        with contextlib.ExitStack() as stack:
            advance = stack.enter_context(self.progress("scoring", header.n))
            stream = stack.enter_context(open_text(STDOUT))

            def scored() -> Iterator[Array]:
                for _, block in rows.source.blocks(self.size):
                    yield rows.loaded.score(block)
                    advance(len(block))

            read: ReadBlocks = scored
            if needs_all_rows(rows):
                read = stack.enter_context(_in_temporary_file(scored(), rows.loaded.dtype))
            finished = finished_blocks(read, rows)
            first = next(finished)
            order = dict.fromkeys(name for name in (*LEADING, *SHOWN) if name in first)
            names = name_columns(["row", *order], header.columns)

            def columns() -> Iterator[Columns]:
                start = 0
                for block in itertools.chain([first], finished):
                    summary.add(start, block)
                    end = start + len(block["expected_error"])
                    yield to_columns(block | {"row": np.arange(start, end)}, names)
                    start = end

            write_table(stream, [name for of in names.values() for name in of], columns())
        return summary.result(STDOUT, header.units)

    def _read_up_to_date(self, *, force: bool) -> ScoreResult | None:
        """Read the summary of the result if it is what this job would make again."""
        header = self.rows.header()

        def same(old: ScoresFile) -> bool:
            return (
                old.model_fingerprint == header.model_fingerprint
                and to_json(old.parameters) == to_json(header.parameters)
                and _without_model(old.inputs) == _without_model(self.inputs())
            )

        found: ScoreResult | None = read_up_to_date(self.rows.output, ScoresFile, same, force)
        return found


@contextlib.contextmanager
def _in_temporary_file(blocks: Iterable[Array], dtype: np.dtype[Any]) -> Iterator[ReadBlocks]:
    """Keep blocks in a file without a name, to read them again and again."""
    folder = Path(tempfile.tempdir or "a temporary file")
    with contextlib.ExitStack() as stack:
        with writing(folder):
            file = stack.enter_context(tempfile.TemporaryFile(prefix="ltau-"))
            for block in blocks:
                file.write(block.tobytes())
            file.flush()

        def read() -> Iterator[Array]:
            file.seek(0)
            while data := file.read(WRITE_ROWS * dtype.itemsize):
                yield np.frombuffer(data, dtype)

        yield read


def _without_model(inputs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Leave out the record of the model: the same model may be in files that differ in a date."""
    return [record for record in inputs if record["role"] != "model"]
