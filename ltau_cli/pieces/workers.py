"""Who makes the pieces of a long job: a loop in this process, or the workers of a Dask cluster.

The only home of Dask. Only paths and numbers travel to the workers: they read from and write to the
file system that they share with this process. Jobs are submitted by the user, never from here.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import queue
import signal
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from ltau_cli import __version__, stop
from ltau_cli.core.threads import available_threads
from ltau_cli.errors import ComputeError, InputError, LtauError, UsageError
from ltau_cli.pieces.store import Range, Store
from ltau_cli.progress import Advance

log = logging.getLogger("ltau")

START_SECONDS = 60.0  # for a scheduler and a first worker to be there, and to find new ones
END_SECONDS = 0.2  # for a process to end by itself
LOOK_SECONDS = 0.1  # between two looks at whether the work is to be ended
CHECK_SECONDS = 2.0  # between two looks at whether the cluster is there
TRIES = 3
MOST = 4096  # processes
MOST_WAITING = 4096  # tasks that the scheduler knows of; it keeps a few kB of each

File = tuple[str, int, int]  # path, size, time of last change
Kept = TypeVar("Kept")


class Task(Protocol):
    """How a piece is made, here or by a worker; it travels to the workers."""

    what: ClassVar[str]  # what its pieces hold and ranges count, such as ``rows``

    def open(self, store: Store, threads: int) -> Any:
        """Open on a worker what :meth:`make` needs; see :func:`keep`."""

    def make(self, opened: Any, start: int, end: int) -> Mapping[str, Any] | None:
        """Make the piece ``start..end``; None leaves it out."""


def make_pieces(
    workers: Workers,
    store: Store,
    task: Task,
    end: int,
    size: int,
    *,
    start: int = 0,
    opened: Any = None,
    read: Sequence[Path] = (),
    advance: Advance = lambda _: None,
) -> None:
    """Make the pieces of ``start..end``, of at most ``size``, that are not there.

    ``opened`` is what ``task.open`` would give, where this process has it already; the files
    ``read`` have to be seen by a worker as they are here.
    """
    todo = store.missing(task.what, start, end, size)
    done = end - start - sum(last - first for first, last in todo)
    if done:
        log.warning(
            "%s: %s of %s %s are there already; going on",
            store.target, f"{done:,}", f"{end - start:,}", task.what,
        )  # fmt: skip
    advance(done)
    with contextlib.closing(workers.make(store, task, todo, opened, read)) as coming:
        for first, last in coming:
            advance(last - first)


class Here:
    """A loop in this process."""

    elsewhere = False

    def make(
        self, store: Store, task: Task, todo: Sequence[Range], opened: Any, read: Sequence[Path]
    ) -> Generator[Range, None, None]:
        """Make the pieces ``todo``; yield each when it is stored."""
        for start, end in todo:
            stop.look()
            _make_one(store, task, opened, start, end)
            yield start, end


def _make_one(store: Store, task: Task, opened: Any, start: int, end: int) -> None:
    values = task.make(opened, start, end)
    if values is not None:
        store.save(task.what, start, end, values)


class Cluster:
    """A cluster whose workers see the same files with the same ltau.

    Pieces take so many threads, or None for those of the worker.
    """

    elsewhere = True

    def __init__(self, client: Any, threads: int | None) -> None:
        self._client = client
        self._threads = threads
        self._checked = self._seen = time.monotonic()

    def make(
        self, store: Store, task: Task, todo: Sequence[Range], opened: Any, read: Sequence[Path]
    ) -> Generator[Range, None, None]:
        """Make the pieces ``todo``, in any order, each in at most :data:`TRIES` tries."""
        self._seen = time.monotonic()
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        waiting: dict[Any, Range] = {}
        left = iter(todo)
        common = {
            "store": store, "task": task, "threads": self._threads, "version": __version__,
            "files": tuple(map(_stamped, read)),
        }  # fmt: skip
        try:
            while True:
                if len(waiting) <= MOST_WAITING // 2:
                    batch = list(itertools.islice(left, MOST_WAITING // 2))
                    for future, own in zip(self._submit(batch, common), batch, strict=True):
                        waiting[future] = own
                        future.add_done_callback(done.put)
                if not waiting:
                    return
                stop.look()
                with contextlib.suppress(queue.Empty):
                    future = done.get(timeout=LOOK_SECONDS)
                    own = waiting.pop(future)
                    self._check_result(future, f"{task.what} {own[0]:,} to {own[1]:,}")
                    yield own
                self._check_workers()
        finally:
            with contextlib.suppress(Exception):  # a scheduler that is gone has nothing to cancel
                self._client.cancel(list(waiting), asynchronous=True)

    def _submit(self, batch: Sequence[Range], common: dict[str, Any]) -> list[Any]:
        if not batch:
            return []
        name = f"ltau-{common['task'].what}-{uuid.uuid4()}"
        futures: list[Any] = self._client.map(
            _attempt, batch, **common, key=name, pure=False, retries=TRIES - 1
        )
        return futures

    def _check_result(self, future: Any, what: str) -> None:
        """Raise what went wrong, as one line."""
        if future.status == "finished":
            return
        if future.status == "cancelled":
            raise _lost()
        error = future.exception()
        if isinstance(error, LtauError):
            raise error
        if type(error).__name__ == "KilledWorker":
            raise ComputeError(
                f"{what}: {error.allowed_failures + 1} workers died while they worked on it",
                hint="look into their logs; if memory is short, start fewer workers on a node",
            )
        raise ComputeError(
            f"{what} failed {TRIES} times: {type(error).__name__}: {str(error)[:200]}",
            hint="look into the logs of the workers; the same command tries again",
        ) from error

    def _check_workers(self) -> None:
        """See from time to time that somebody is at work."""
        if time.monotonic() < self._checked + CHECK_SECONDS:
            return
        try:
            there = self._client.sync(self._client.nthreads, callback_timeout=START_SECONDS)
        except Exception as error:  # of sockets, of distributed, of asyncio
            raise _lost() from error
        self._checked = time.monotonic()
        if there:
            self._seen = self._checked
        elif self._checked > self._seen + START_SECONDS:
            raise ComputeError(
                f"no worker has been there for {START_SECONDS:g} s",
                hint="start workers; the same command goes on from the finished pieces",
            )


def _lost() -> ComputeError:
    return ComputeError(
        "the scheduler is gone",
        hint="start it again, with workers; the same command goes on from the finished pieces",
    )


@contextlib.contextmanager
def open_workers(
    asked: str | int | None, threads: int | None, *, read: Sequence[Path], write: Sequence[Path]
) -> Iterator[Workers]:
    """Start or connect to the workers that were asked for.

    By a number of processes of this machine, the address of a Dask scheduler, or the file in which
    one says its address; None is this process alone. A piece takes so many threads, or None for
    those of its worker, or a share of the CPUs. Every worker has to see the files ``read`` as they
    are here, and the folders of the results that it has to ``write``.
    """
    if asked is None:
        yield Here()
        return
    found = parse_workers(str(asked))
    distributed = _load_distributed()
    until = time.monotonic() + START_SECONDS
    files = [_stamped(path) for path in dict.fromkeys(read)]
    folders = [os.path.abspath(path.parent) for path in write]
    with ExitStack() as stack:
        if isinstance(found, int):
            threads = threads or max(1, available_threads() // found)
            address = stack.enter_context(_processes(distributed, found)).scheduler_address
        else:
            address = _read_address(found, until) if isinstance(found, Path) else found
        client = stack.enter_context(_connect(distributed, address, until))
        while not client.nthreads():
            _wait(until, f"{address} has no worker", "start some: dask worker " + address)
        _check_start(client, files, [*dict.fromkeys(folders)])
        yield Cluster(client, threads)


def parse_workers(asked: str) -> int | str | Path:
    """Tell a number of processes, the address of a scheduler, and a file with such an address."""
    path = Path(asked)
    if asked.isascii() and asked.isdecimal() and len(asked) <= 4 and 1 <= int(asked) <= MOST:
        return int(asked)
    if "://" not in asked and (path.suffix == ".json" or path.exists()):
        return path
    if ":" in asked:
        return asked
    raise UsageError(
        f"--workers {asked} is no number of processes from 1 to {MOST:,}, address or file",
        hint="such as 8, tcp://node01:8786, or scheduler.json of "
        "dask scheduler --scheduler-file scheduler.json",
    )


def _load_distributed() -> Any:
    """Import Dask, which logs nothing: what the user needs to know is told here."""
    try:
        import dask
    except ImportError as error:
        raise UsageError(
            "--workers needs Dask, which is not installed", hint="pip install 'ltau[dask]'"
        ) from error
    quiet = ("distributed", "distributed.client", "distributed.worker", "asyncio", "tornado")
    dask.config.set({"logging": dict.fromkeys(quiet, "critical")})
    try:
        import distributed
    except ImportError as error:
        raise UsageError(
            "--workers needs dask.distributed, which is not installed",
            hint="pip install 'ltau[dask]'",
        ) from error
    for name in quiet:  # where it was imported before
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return distributed


def _stamped(path: Path) -> File:
    state = path.stat()
    return os.path.abspath(path), state.st_size, state.st_mtime_ns


@contextlib.contextmanager
def _processes(distributed: Any, count: int) -> Iterator[Any]:
    """Start worker processes on this machine, which end with this one, whatever ends it."""
    import asyncio

    _check_main_guard()
    # What a terminal sends to all of them is left to this process: they inherit what is blocked.
    _start_resource_tracker()  # or it is started below, which lifts the block
    old = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP))
    try:
        cluster = distributed.LocalCluster(
            n_workers=count, threads_per_worker=1, memory_limit=0, dashboard_address=None,
            silence_logs=logging.CRITICAL,
        )  # fmt: skip
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)

    async def end() -> None:
        await asyncio.gather(*(nanny.kill(timeout=END_SECONDS) for nanny in nannies))

    nannies = list(cluster.workers.values())
    try:
        yield cluster
    finally:
        with contextlib.suppress(Exception):  # one that is not there has ended
            cluster.sync(end)  # without waiting for the tasks: nobody needs them any more
        cluster.close()


def _check_main_guard() -> None:
    """Refuse a script whose workers, which import it, would start workers of their own."""
    main = sys.modules.get("__main__")
    script = getattr(main, "__file__", None)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if script and "__name__" not in Path(script).read_text(encoding="utf-8"):
            raise UsageError(
                f"workers run {script} again when they start, so that it never gets to work",
                hint=f"put its calls under  if __name__ == '__main__':  in {Path(script).name}",
            )


def _start_resource_tracker() -> None:
    """Start the process that clears away what killed workers leave, without a word about it."""
    from multiprocessing import resource_tracker

    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning:multiprocessing.resource_tracker"
    try:
        resource_tracker.ensure_running()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


@contextlib.contextmanager
def _connect(distributed: Any, address: str, until: float) -> Iterator[Any]:
    client = None
    while client is None:
        try:
            client = distributed.Client(address, timeout=2, set_as_default=False)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            if not isinstance(error, OSError):
                raise UsageError(
                    f"{address!r} is no address of a scheduler: {error}",
                    hint="such as tcp://node01:8786; dask scheduler prints it",
                ) from error
            _wait(until, f"no scheduler answers at {address}", "start one: dask scheduler")
    try:
        yield client
    finally:
        client.close()


def _read_address(path: Path, until: float) -> str:
    """Wait for the file in which a scheduler says where it is."""
    while True:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads(path.read_bytes())["address"])
        if time.monotonic() > until:
            raise InputError(
                f"{path}: no scheduler has written it within {START_SECONDS:g} s",
                hint=f"start one: dask scheduler --scheduler-file {path}",
            )
        stop.look()
        time.sleep(LOOK_SECONDS)


def _wait(until: float, message: str, hint: str) -> None:
    """Wait for another try, or give up."""
    if time.monotonic() > until:
        raise ComputeError(f"{message} after {START_SECONDS:g} s", hint=hint)
    stop.look()
    time.sleep(LOOK_SECONDS)


def _check_start(client: Any, files: Sequence[File], folders: Sequence[str]) -> None:
    """Ask every worker what it sees."""

    def look(paths: list[str], folders: list[str]) -> tuple[str | None, list[Any], list[bool]]:
        """Travel as it is, so that it runs where there is no ltau."""
        import os

        try:
            from ltau_cli import __version__ as version
            from ltau_cli.core.compile import prepare_cache

            prepare_cache()
        except ImportError:
            version = None  # type: ignore[assignment]
        seen: list[Any] = []
        for path in paths:
            try:
                with open(path, "rb"):
                    state = os.stat(path)
                seen.append((state.st_size, state.st_mtime_ns))
            except OSError as error:
                seen.append(error.strerror)
        return version, seen, [os.access(folder, os.W_OK) for folder in folders]

    try:
        answers = client.sync(
            client.run, look, [path for path, *_ in files], list(folders), on_error="return",
            callback_timeout=START_SECONDS,
        )  # fmt: skip
    except Exception as error:
        raise ComputeError(
            f"a worker does not answer: {error or type(error).__name__}",
            hint="see the dashboard of the scheduler, or start the workers again",
        ) from error
    for worker, answer in sorted(answers.items()):
        if isinstance(answer, BaseException):
            raise ComputeError(f"worker {worker} cannot be asked: {answer}")
        version, seen, writable = answer
        _check_version(version, worker)
        for file, state in zip(files, seen, strict=True):
            _check_file(file, state, worker)
        for folder, able in zip(folders, writable, strict=True):
            if not able:
                raise ComputeError(
                    f"worker {worker} cannot write in {folder}",
                    hint="results have to be in a folder that all nodes share",
                )


def _check_version(version: str | None, worker: str) -> None:
    if version != __version__:
        raise ComputeError(
            f"worker {worker} has {'no ltau' if version is None else f'ltau {version}'}, "
            f"this is ltau {__version__}",
            hint="start the workers in the environment that this command runs in",
        )


def _check_file(file: File, seen: tuple[int, int] | str, worker: str) -> None:
    path, *wanted = file
    if isinstance(seen, str):
        raise ComputeError(
            f"worker {worker} cannot read {path}: {seen}",
            hint="inputs have to be in a folder that all nodes share",
        )
    if list(seen) != wanted:
        raise ComputeError(
            f"worker {worker} sees another {path}: of another size or time",
            hint="inputs have to be in a folder that all nodes share",
        )


Workers = Here | Cluster


# On the workers


_turn = threading.Lock()  # a task has the memory of its process for itself
_seen: tuple[File, ...] = ()
_kept: dict[str, tuple[Any, ExitStack, Any]] = {}


def _attempt(
    own: Range,
    *,
    store: Store,
    task: Task,
    version: str,
    files: tuple[File, ...],
    threads: int | None,
) -> None:
    """Make one piece; a worker that has come late is asked here what it has and sees."""
    global _seen
    from distributed import get_worker

    worker = get_worker()
    if version != __version__:
        raise ComputeError(f"worker {worker.address} has ltau {__version__}, others have {version}")
    with _turn, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the process that asked has told them
        logging.getLogger("ltau").setLevel(logging.ERROR)
        for file in files if files != _seen else ():
            try:
                _check_file(file, _stamped(Path(file[0]))[1:], worker.address)
            except OSError as error:
                _check_file(file, str(error.strerror), worker.address)
        _seen = files
        _make_one(store, task, task.open(store, threads or worker.state.nthreads), *own)


def keep_open(what: str, key: Any, make: Callable[[ExitStack], Kept]) -> Kept:
    """Return what an earlier task of this process made for an equal key, or make it.

    Only the last of its kind is kept. ``make`` gets a stack for files that are to stay open.
    """
    if what not in _kept or _kept[what][0] != key:
        if what in _kept:
            _kept.pop(what)[1].close()
        stack = ExitStack()
        _kept[what] = (key, stack, make(stack))
    value: Kept = _kept[what][2]
    return value
