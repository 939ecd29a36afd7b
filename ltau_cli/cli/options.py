"""Options that several commands share, and the configuration file."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import click

from ltau_cli.cli.console import Console
from ltau_cli.core.compile import prepare_cache
from ltau_cli.errors import InputError, UsageError
from ltau_cli.readers.place import check_file

Command = TypeVar("Command", bound=Callable[..., Any])

PATH = click.Path(readable=False, path_type=Path)  # the readers tell better
MOST_THREADS = 4096
SCHEDULER_VARIABLE = "DASK_SCHEDULER_ADDRESS"


class Finite(click.FloatRange):
    """A number within bounds; NaN and infinity, which no comparison stops, are none."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Check that it is one."""
        number = float(click.FLOAT.convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return float(super().convert(number, param, ctx))


def whole_number(text: str) -> int | None:
    """Read a whole number from 0 that an int64 holds; None if it is none."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= 18 else None


PROBABILITY = Finite(0, 1, min_open=True, max_open=True)


def common(command: Command) -> Command:
    """Add ``--config``, ``-q`` and ``-v``; the function gets a ``console``."""

    @functools.wraps(command)
    def with_console(*args: Any, quiet: bool, verbose: bool, **kwargs: Any) -> None:
        from ltau_cli.artifacts.provenance import created_now

        console = Console(quiet=quiet, verbose=verbose)
        prepare_cache()
        created_now()  # a date that is none is told before the work
        with console.warnings_as_lines():
            command(*args, console=console, **kwargs)

    decorators = [
        click.option(
            "--config",
            type=PATH,
            is_eager=True,
            expose_value=False,
            callback=_apply_config,
            help="YAML file with defaults, one section per command; flags win.",
        ),
        click.option("-q", "--quiet", is_flag=True, help="Print no summary and no progress."),
        click.option("-v", "--verbose", is_flag=True, help="Print how long each step took."),
    ]
    for decorator in reversed(decorators):
        with_console = decorator(with_console)
    return with_console  # type: ignore[return-value]


def output(default: str) -> Callable[[Command], Command]:
    """Add ``-o`` and ``--force``."""

    def decorate(command: Command) -> Command:
        command = click.option(
            "-f", "--force", is_flag=True, help="Replace the output if it exists."
        )(command)
        return click.option(
            "-o", "--output", type=PATH, default=default, show_default=True, help="Result file."
        )(command)

    return decorate


def frame_keys(command: Command) -> Command:
    """Add ``--reference-key`` and ``--prediction-key``."""
    command = click.option(
        "--prediction-key",
        "prediction",
        metavar="NAME",
        help="Name of the predicted values in frames.  [default: common names]",
    )(command)
    return click.option(
        "--reference-key",
        "reference",
        metavar="NAME",
        help="Name of the reference values in frames.  [default: common names]",
    )(command)


def threads(command: Command) -> Command:
    """Add ``--threads``; default SLURM_CPUS_PER_TASK, else the CPUs this process may use."""

    @functools.wraps(command)
    def with_threads(*args: Any, threads: int | None, **kwargs: Any) -> Any:
        return command(*args, threads=use_threads(threads), **kwargs)

    return click.option(
        "--threads",
        type=click.IntRange(1, MOST_THREADS),
        help="CPU threads.  [default: SLURM_CPUS_PER_TASK, else all that this process may use]",
    )(with_threads)  # type: ignore[return-value]


def cluster(command: Command) -> Command:
    """Add ``--scheduler``, ``--scheduler-file`` and ``--workers``; to be put above ``threads``.

    The function gets ``cluster``, a ClusterSettings, or None where no cluster was asked for.
    """

    @functools.wraps(command)
    def with_cluster(
        *args: Any,
        scheduler: str | None,
        scheduler_file: Path | None,
        workers: int | None,
        **kwargs: Any,
    ) -> Any:
        from ltau_cli.stages.settings import ClusterSettings

        asked = [value for value in (scheduler, scheduler_file, workers) if value is not None]
        if len(asked) > 1:
            raise UsageError(
                "--scheduler, --scheduler-file and --workers each name a cluster",
                hint="leave all but one out",
            )
        if not asked and (found := os.environ.get(SCHEDULER_VARIABLE)):
            scheduler = found
            click.echo(f"using the Dask scheduler {found} of {SCHEDULER_VARIABLE}", err=True)
        chosen = ClusterSettings(scheduler, scheduler_file, workers, kwargs.get("threads"))
        return command(*args, cluster=chosen if asked or scheduler else None, **kwargs)

    decorators = [
        click.option(
            "--scheduler",
            metavar="ADDRESS",
            help="Work on the Dask cluster of this scheduler, such as tcp://node01:8786.  "
            f"[default: {SCHEDULER_VARIABLE}, if that is set]",
        ),
        click.option(
            "--scheduler-file",
            type=PATH,
            help="The same, of a scheduler that writes its address into this file.",
        ),
        click.option(
            "--workers",
            type=click.IntRange(1, MOST_THREADS),
            metavar="N",
            help="Work in N processes on this machine.",
        ),
    ]
    for decorator in reversed(decorators):
        with_cluster = decorator(with_cluster)
    return with_cluster  # type: ignore[return-value]


def use_threads(threads: int | None) -> int:
    """Limit every library to ``threads``, before the first of them starts its own."""
    from ltau_cli.core.threads import available_threads

    count = threads or available_threads()
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(count)
    return count


json_output = click.option(
    "--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output."
)


def name_environment(command: click.Command) -> None:
    """Let ``LTAU_FIT_THRESHOLD`` set ``ltau fit --threshold``, and so on for every flag."""
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            flag = max(parameter.opts, key=len).lstrip("-").replace("-", "_")
            parameter.envvar = f"LTAU_{command.name}_{flag}".upper()


def _apply_config(context: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    section = read_config(path, context.find_root().command).get(str(context.info_name), {})
    options = {
        flag.lstrip("-"): parameter
        for parameter in context.command.params
        if isinstance(parameter, click.Option) and parameter.name != "config"
        for flag in parameter.opts
    }
    values = {}
    for key, value in section.items():
        option = options.get(str(key).replace("_", "-"))
        if option is None:
            raise UsageError(
                f"{path}: unknown option {key} in section {context.info_name}",
                hint="it knows: " + ", ".join(sorted(name for name in options if len(name) > 1)),
            )
        if option.name in values:
            raise UsageError(f"{path}: {key} is given twice in section {context.info_name}")
        values[option.name] = _as_typed(option, value, f"{path}: {key}")
    context.default_map = (context.default_map or {}) | values  # type: ignore[operator]


def _as_typed(option: click.Option, value: Any, name: str) -> Any:
    """Give click the strings that a user would have typed; it checks them."""
    if option.multiple and not isinstance(value, list):
        value = [value]
    several = option.multiple or option.nargs > 1
    items = value if isinstance(value, list) else [value]
    if not all(map(_is_plain, items)):
        raise UsageError(f"{name} must be a plain value")
    if isinstance(value, list) != several or (option.nargs > 1 and len(value) != option.nargs):
        wanted = f"a list of {option.nargs} values" if option.nargs > 1 else "a single value"
        raise UsageError(f"{name} must be {wanted}, not {value}")
    return [str(item) for item in value] if several else str(value)


def _is_plain(value: Any) -> bool:
    """Whether a value of a configuration file is one that could stand on the command line."""
    if isinstance(value, int):
        return abs(value) < 1 << 64  # Python writes no number of 5,000 digits
    return isinstance(value, str | float | date)


def read_config(path: Path, root: click.Command) -> dict[str, dict[str, Any]]:
    """Read a configuration file and check its sections.

    Raises
    ------
    UsageError
        If it is not YAML, or a section is not a command.
    """
    import yaml

    try:
        check_file(path)
    except InputError as error:
        raise UsageError(str(error)) from error
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except Exception as error:  # yaml's own, and what its values make Python raise
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        raise UsageError(f"{path} is not YAML{place}") from error
    content = {} if content is None else content
    commands = sorted(root.commands) if isinstance(root, click.Group) else []
    if not isinstance(content, dict) or not all(
        isinstance(section, dict) for section in content.values()
    ):
        raise UsageError(
            f"{path} must hold one section per command", hint="for example:  fit: {bins: 200}"
        )
    for name in content:
        if name not in commands:
            raise UsageError(
                f"{path}: there is no command {name}", hint="sections: " + ", ".join(commands)
            )
    return content
