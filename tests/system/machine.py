"""Run ``ltau`` as a process of its own, a thousand times: forked from one that has its imports."""

import importlib
import io
import os
import pkgutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ltau_cli.stages
from ltau_cli import stop
from tests.system.privileges import bound_by_modes

HANG = 180.0  # seconds; a machine may be busy with other work


@dataclass
class Outcome:
    """How a process ended; a negative code is the signal that killed it, None a hang."""

    code: int | None
    out: str
    err: str
    seconds: float

    def crashed(self) -> str | None:
        """Say what no user may ever see; None if there is nothing of it."""
        if self.code is None:
            return "hangs"
        if self.code < 0 and -self.code in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
            return f"died of signal {-self.code}"
        for word in ("Traceback", "Exception ignored", "Fatal Python", "Error:"):
            if word in self.err:
                return word + ": " + self.err.strip().splitlines()[-1]
        return None


@dataclass
class Process:
    """A process at work."""

    pid: int
    folder: Path
    began: float = field(default_factory=time.perf_counter)

    def send(self, number: int) -> bool:
        """Send a signal; whether the process was still there to get it."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def wait(self, limit: float = HANG) -> Outcome:
        """Wait for the end, or kill it after ``limit`` seconds."""
        code = None
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                break
            if time.perf_counter() - self.began > limit:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                break
            time.sleep(0.002)
        seconds = time.perf_counter() - self.began
        out, err = (_read(self.folder / name) for name in ("stdout", "stderr"))
        return Outcome(code, out, err, seconds)


def warm_up() -> None:
    """Import all that the commands import, once."""
    stages = [stage.name for stage in pkgutil.iter_modules(ltau_cli.stages.__path__)]
    for name in (
        "ase.io", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_pdf",
        "matplotlib.backends.backend_svg", "matplotlib.pyplot", "sklearn.neighbors", "yaml",
        "ltau_cli.cli.main", *(f"ltau_cli.stages.{name}" for name in stages),
    ):  # fmt: skip
        importlib.import_module(name)


def start(
    words: Sequence[object], *, log: Path, folder: Path,
    environment: Mapping[str, str | None] | None = None, stdout: str | None = "file",
    stderr: str | None = "file", before: Callable[[], None] | None = None,
) -> Process:  # fmt: skip
    """Fork ``ltau WORDS`` in ``folder``; what it prints comes to the folder ``log``.

    A stream is ``file``, another path, or None where it is closed. ``before`` runs first.
    """
    log.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, stop.WORDS)
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stop.WORDS)
        return Process(pid, log)
    code = 70
    try:
        os.setsid()
        stop.listen()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stop.WORDS)
        os.chdir(folder)
        for name, value in (environment or {}).items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        sys.argv = ["ltau", *map(str, words)]
        sys.stdin = open(os.devnull)  # noqa: SIM115
        sys.stdout = _stream(1, stdout, log / "stdout")  # type: ignore[assignment]
        sys.stderr = _stream(2, stderr, log / "stderr")  # type: ignore[assignment]
        if before is not None:
            before()
        with bound_by_modes():
            code = _main()
    except BaseException:
        code = 1
        if sys.stderr is not None:
            traceback.print_exc()
            sys.stderr.flush()
    finally:
        os._exit(code)


def run(words: Sequence[object], **options: object) -> Outcome:
    """Fork ``ltau WORDS`` and wait; see :func:`start`."""
    return start(words, **options).wait()  # type: ignore[arg-type]


def start_fresh(words: Sequence[object], *, log: Path, folder: Path, **options: object) -> Process:
    """Start ``ltau WORDS`` in a new interpreter."""
    log.mkdir(parents=True, exist_ok=True)
    with (log / "stdout").open("w") as out, (log / "stderr").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "ltau_cli", *map(str, words)],
            cwd=folder, stdout=out, stderr=err, stdin=subprocess.DEVNULL, **options,
        )  # type: ignore[call-overload]  # fmt: skip
    process.returncode = 0  # we wait for it ourselves
    return Process(process.pid, log)


def _main() -> int:
    """Do what an interpreter does with the script ``ltau``, up to its end."""
    from ltau_cli.__main__ import main

    try:
        main()
        code: object = 0
    except SystemExit as end:
        code = end.code
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        return 120
    return code if isinstance(code, int) else int(code is not None)


def _stream(number: int, where: str | None, log: Path) -> io.TextIOWrapper | None:
    if where is None:
        os.close(number)
        return None
    path = log if where == "file" else where
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(handle, number)
    os.close(handle)
    return io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(number, "w", closefd=False)),
        encoding="utf-8", line_buffering=number == 2,
    )  # fmt: skip


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
