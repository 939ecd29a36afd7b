"""The text files of a log, read by workers before the log is put together."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ltau_cli.errors import InputError
from ltau_cli.pieces.store import Store, open_store, stamps_of
from ltau_cli.pieces.workers import keep_open, make_pieces, open_workers
from ltau_cli.progress import Progress
from ltau_cli.readers.logs.files import Arrays, Files, LogFile
from ltau_cli.readers.logs.open import find_files
from ltau_cli.readers.place import Place
from ltau_cli.settings import LogOptions

log = logging.getLogger("ltau")


@contextlib.contextmanager
def read_ahead(
    places: Sequence[Place],
    options: LogOptions,
    output: Path,
    workers: str | int | None,
    progress: Progress,
) -> Iterator[Files]:
    """Have the workers read the files; give what takes what they have read.

    A file that they cannot read is left to the process that asks, which says what is wrong.
    """
    files = [] if workers is None else find_files(places, options)
    if len(files) < 2:
        if workers is not None:
            log.warning(
                "%s: workers read logs of many text files; this one is read here, at the speed of "
                "the disk", places[0],
            )  # fmt: skip
        yield Files()
        return
    job = {
        "files": stamps_of([Place(file.path) for file in files]),
        "options": options.parameters(),
    }
    with (
        open_workers(workers, None, read=[files[0].path], write=[output]) as pool,
        open_store(output, job) as store,
    ):
        entries = [[str(file.path.absolute()), file.kind, file.epoch] for file in files]
        store.save("listed", 0, 1, {"files": entries})
        with progress("reading files", len(files)) as advance:
            make_pieces(pool, store, ReadFiles(options), len(files), 1, advance=advance)
        numbers = {file.path: number for number, file in enumerate(files)}
        yield Files(lambda path: _find(store, numbers.get(path)))


@dataclass(frozen=True)
class ReadFiles:
    """The task of reading a file of those that are listed in the store."""

    options: LogOptions
    what: ClassVar[str] = "files"

    def open(self, store: Store, _threads: int) -> list[LogFile]:
        """Read the list."""
        return keep_open("files", store, lambda _: [
            LogFile(Path(path), kind, epoch)
            for path, kind, epoch in store.load("listed", 0, 1)["files"]
        ])  # fmt: skip

    def make(self, files: list[LogFile], start: int, end: int) -> Arrays | None:
        """Read file ``start``."""
        assert end == start + 1, "each is a piece"
        try:
            return files[start].to_arrays(self.options)
        except InputError:
            return None


def _find(store: Store, number: int | None) -> Arrays | None:
    if number is None or not store.has(ReadFiles.what, number, number + 1):
        return None
    piece = store.load(ReadFiles.what, number, number + 1)
    return {name: piece.read(name) for name in piece.names}
