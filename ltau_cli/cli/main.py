"""The ``ltau`` command: its subcommands, error messages and exit codes."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

import click

from ltau_cli import __version__
from ltau_cli.cli import calibrate, evaluate, fit, info, ingest, plot, score
from ltau_cli.errors import LtauError

INTERRUPTED, TERMINATED = 130, 143


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ltau")
def ltau() -> None:
    """Error bars from the training logs you already have.

    \b
    ltau ingest logs/                          error logs        -> errors.h5
    ltau fit errors.h5 train.npy               + descriptors     -> model.h5
    ltau score descriptors.h5                  new descriptors   -> scores.h5
    ltau calibrate scores.h5 true_errors.npy   + true errors     -> calibration.h5
    ltau plot reliability calibration.h5       any artifact      -> figure

    Each command has an example: ltau fit -h
    """


for module in (ingest, fit, score, calibrate, evaluate, plot, info):
    ltau.add_command(module.command)


class Terminated(BaseException):
    """SIGTERM, as an exception, so that temporary files are removed."""


def main() -> None:
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run())


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    try:
        result = ltau.main(
            args=arguments, prog_name="ltau", standalone_mode=False, auto_envvar_prefix="LTAU"
        )
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except LtauError as error:
        return _complain(str(error), error.hint, error.exit_code)
    except click.exceptions.Abort:
        return _complain("interrupted", None, INTERRUPTED)
    except click.ClickException as error:
        hint = None
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f"see {error.ctx.command_path} -h"
        return _complain(error.format_message(), hint, error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted; nothing was left half-written", None, INTERRUPTED)
    except Terminated:
        return _complain("terminated; nothing was left half-written", None, TERMINATED)
    except BrokenPipeError:
        # The reader, such as head, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _complain(message: str, hint: str | None, code: int) -> int:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {message}", err=True)
    if hint:
        click.echo(f"\n{click.style('hint:', fg='cyan', bold=True)} {hint}", err=True)
    return code


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated
