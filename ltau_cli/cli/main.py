"""The ``ltau`` command: its subcommands, error messages and exit codes."""

import os
import sys

import click

from ltau_cli import __version__, stop
from ltau_cli.cli import (
    bars,
    calibrate,
    compile,
    describe,
    evaluate,
    export,
    fit,
    info,
    ingest,
    options,
    plot,
    record,
    score,
    select,
    weights,
)
from ltau_cli.errors import ComputeError, InputError, LtauError
from ltau_cli.streams import ReaderGoneError, standard_stream


@click.group(
    cls=options.Main,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="ltau")
@click.pass_context
def ltau(context: click.Context) -> None:
    """Error bars from the training logs you already have.

    \b
    ltau record -- TRAINING COMMAND            a training        -> logs/
    ltau ingest logs/                          error logs        -> errors.h5
    ltau describe train.xyz --network mace:M   a trained network -> train.h5
    ltau fit errors.h5 train.h5                + descriptors     -> model.h5
    ltau score descriptors.h5                  new descriptors   -> scores.h5
    ltau calibrate scores.h5 true_errors.npy   + true errors     -> calibration.h5
    ltau plot reliability calibration.h5       an artifact       -> figure

    Each command has an example: ltau fit -h
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for module in (
    record, describe, ingest, fit, score, calibrate, evaluate, bars, plot, export, select,
    weights, info, compile,
):  # fmt: skip
    ltau.add_command(module.command)


def main() -> None:
    """Run the command line with the standard streams of this process and exit with its code."""
    sys.stdout = standard_stream(1, sys.stdout, "standard output")
    sys.stderr = standard_stream(2, sys.stderr, None)
    code = run()
    stop.unset_timer()
    sys.exit(code)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    try:
        result = ltau.main(args=arguments, prog_name="ltau", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except LtauError as error:
        return _complain(str(error), error.hint, error.exit_code)
    except click.ClickException as error:
        hint = None
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f"see {error.ctx.command_path} -h"
        return _complain(error.format_message(), hint, error.exit_code)
    except ReaderGoneError:
        return 0
    except OSError as error:  # a failure to write is an OutputError already
        name = f"{error.filename}: " if error.filename else ""
        what = os.strerror(error.errno) if error.errno else str(error)
        return _complain(f"{name}{what}", None, InputError.exit_code)
    except MemoryError:
        hint = "ask for more memory, or see --block-rows and, of ltau fit, --shards"
        return _complain("out of memory", hint, ComputeError.exit_code)
    except stop.Ended as stopped:
        return _complain(str(stopped), None, stopped.exit_code)


def _complain(message: str, hint: str | None, code: int) -> int:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {message}", err=True)
    if hint:
        click.echo(f"\n{click.style('hint:', fg='cyan', bold=True)} {hint}", err=True)
    return code
