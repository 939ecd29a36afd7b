"""A training command to an error log: the command runs, with a hook in the trainer it knows."""

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ltau_cli import packages, stop
from ltau_cli.errors import OutputError, UsageError


def run(
    command: Sequence[str], output: str | os.PathLike[str], *, keep: int = 0, quiet: bool = False
) -> NoReturn:
    """Become the training command, whose Python processes record their errors.

    The process is replaced: its number, exit code, signals and streams are the trainer's own.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments.
    output : path
        Folder of the log; made when the training begins. Where it holds epochs, they stay, and the
        next ones are added.
    keep : int
        Weights to keep, of epochs spread over the last two thirds of the training, in
        ``output/weights``; raw ones, without averages.
    quiet : bool
        Print nothing.

    Raises
    ------
    UsageError
        If there is no such program, it cannot be run, or ``keep`` is negative.
    OutputError
        If ``output`` is no folder.
    """
    if keep < 0:
        raise UsageError(f"--keep {keep} is no number of weights", hint="0 keeps none")
    folder = Path(output).absolute()
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{output} is a file", hint="name a folder with -o, such as -o logs/")
    program = shutil.which(command[0])
    if program is None:
        raise UsageError(
            f"there is no program {command[0]!r} that can be run",
            hint="check its name, and that the environment of the trainer is active",
        )
    bootstrap = Path(packages.__file__).with_name("bootstrap")
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(bootstrap), *([known] if known else [])])
    os.environ["LTAU_RECORD_OUTPUT"] = str(folder)
    os.environ["LTAU_RECORD_KEEP"] = str(keep)
    os.environ["_LTAU_RECORD_PID"] = str(os.getpid())
    if quiet:
        os.environ["LTAU_RECORD_QUIET"] = "1"
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores them; the trainer decides anew
    stop.unset_timer()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    try:
        os.execv(program, list(command))
    except OSError as error:
        raise UsageError(f"cannot run {program}: {os.strerror(error.errno or 0)}") from error
