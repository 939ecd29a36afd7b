"""The ``ltau`` command: its subcommands, error messages and exit codes."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from types import FrameType

import click

from ltau_cli import __version__
from ltau_cli.artifacts.sink import FileSink
from ltau_cli.cli import (
    calibrate,
    compile,
    evaluate,
    export,
    fit,
    info,
    ingest,
    merge,
    options,
    plot,
    score,
    select,
    weights,
)
from ltau_cli.errors import ComputeError, LtauError

STOPPED: dict[int, tuple[str, int]] = {
    signal.SIGINT: ("interrupted", 130),
    signal.SIGTERM: ("terminated", 143),
}


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="ltau")
@click.pass_context
def ltau(context: click.Context) -> None:
    """Error bars from the training logs you already have.

    \b
    ltau ingest logs/                          error logs        -> errors.h5
    ltau fit errors.h5 train.npy               + descriptors     -> model.h5
    ltau score descriptors.h5                  new descriptors   -> scores.h5
    ltau calibrate scores.h5 true_errors.npy   + true errors     -> calibration.h5
    ltau plot reliability calibration.h5       an artifact       -> figure

    Each command has an example: ltau fit -h
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


COMMANDS = (
    ingest, fit, score, merge, calibrate, evaluate, export, select, weights, plot, info, compile
)  # fmt: skip
for module in COMMANDS:
    ltau.add_command(module.command)
    options.name_environment(module.command)


class Stopped(BaseException):
    """SIGINT or SIGTERM, as an exception, so that temporary files are removed."""


def main() -> None:
    """Run the command line and exit with its code."""
    for number in STOPPED:
        signal.signal(number, _stop)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # "eV/?" is better than no answer
            stream.reconfigure(errors="replace")
    sys.exit(run())


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    try:
        result = ltau.main(args=arguments, prog_name="ltau", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except LtauError as error:
        return _complain(str(error), error.hint, error.exit_code)
    except click.ClickException as error:
        hint = None
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f"see {error.ctx.command_path} -h"
        return _complain(error.format_message(), hint, error.exit_code)
    except MemoryError:
        hint = "ask for more memory, or see --block-rows and, of ltau fit, --shards"
        return _complain("out of memory", hint, ComputeError.exit_code)
    except Stopped as stopped:
        word, code = STOPPED[stopped.args[0]]
        return _complain(f"{word}; nothing was left half-written", None, code)


def _complain(message: str, hint: str | None, code: int) -> int:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {message}", err=True)
    if hint:
        click.echo(f"\n{click.style('hint:', fg='cyan', bold=True)} {hint}", err=True)
    return code


def _stop(number: int, frame: FrameType | None) -> None:
    """Raise, but never inside a write that HDF5 has asked for: it would not survive that."""
    if frame is not None and frame.f_globals.get("__name__") == FileSink.__module__:
        threading.Timer(0.01, os.kill, (os.getpid(), number)).start()
        return
    raise Stopped(number)
