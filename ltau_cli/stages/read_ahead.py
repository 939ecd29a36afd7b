"""The text files of a log, read by the workers of a cluster before the log is put together."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ltau_cli.artifacts.parts import Parts, open_parts, stamps_of
from ltau_cli.errors import InputError
from ltau_cli.progress import Progress
from ltau_cli.readers.logs.files import Arrays, LogFile, Readers, read_file, readers_of
from ltau_cli.readers.logs.open import find_files
from ltau_cli.readers.logs.options import LogOptions
from ltau_cli.readers.place import Place
from ltau_cli.settings import ClusterSettings
from ltau_cli.stages.cluster import keep, open_cluster

log = logging.getLogger("ltau")


@contextlib.contextmanager
def read_ahead(
    places: Sequence[Place],
    options: LogOptions,
    output: Path,
    asked: ClusterSettings | None,
    progress: Progress,
) -> Iterator[Readers]:
    """Have the workers read the files; give readers that take what they have read.

    A file that they cannot read is left to the process that asks, which says what is wrong.
    """
    files = [] if asked is None else find_files(places, options)
    if len(files) < 2:
        if asked is not None:
            log.warning(
                "%s: workers read logs of many text files; this one is read here, at the speed of "
                "the disk", places[0],
            )  # fmt: skip
        yield Readers()
        return
    with open_cluster(asked, read=[files[0].path], write=[output]) as workers:
        assert workers is not None, "or there would be no files"
        job = {"files": stamps_of([Place(file.path) for file in files])}
        with open_parts(output, job | {"options": options.parameters()}) as parts:
            task = _FilesTask(options, parts.folder)
            entries = [[str(file.path.absolute()), file.kind, file.epoch] for file in files]
            parts.save_json("files", entries)
            todo = [number for number in range(len(files)) if not parts.has(f"read/{number}")]
            with parts.kept(output), progress("reading files", len(files)) as advance:
                advance(len(files) - len(todo))
                for _ in workers.map(_read_part, task, todo, "file", read=[]):
                    advance(1)
            numbers = {file.path: number for number, file in enumerate(files)}
            yield readers_of(lambda path: _find(parts, numbers.get(path)))


def _find(parts: Parts, number: int | None) -> Arrays | None:
    if number is None or not parts.has(f"read/{number}"):
        return None
    names = parts.load_json(f"read/{number}")
    return {name: parts.load(f"read/{number}/{name}") for name in names}


@dataclass(frozen=True)
class _FilesTask:
    """What a worker has to know to read the files, which are listed among the parts."""

    options: LogOptions
    folder: Path


def _read_part(task: _FilesTask, number: int, threads: int) -> None:
    """Read a file on a worker."""
    parts = Parts(task.folder)
    path, kind, epoch = keep(task.folder, lambda _: parts.load_json("files"))[number]
    try:
        arrays = read_file(LogFile(Path(path), kind, epoch), task.options)
    except InputError:
        return
    for name, values in arrays.items():
        parts.save(f"read/{number}/{name}", values)
    parts.save_json(f"read/{number}", list(arrays))  # the last: now it is finished
