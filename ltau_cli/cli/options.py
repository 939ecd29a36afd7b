"""Commands and their options, made from settings classes; and the configuration file."""

import functools
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from datetime import date
from inspect import get_annotations
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click

from ltau_cli.cli.console import Console
from ltau_cli.core.compile import prepare_cache
from ltau_cli.errors import InputError, UsageError
from ltau_cli.output import STDOUT
from ltau_cli.readers.place import check_file
from ltau_cli.settings import Option, Settings

Function = TypeVar("Function", bound=Callable[..., Any])

FILE: click.Path = click.Path(readable=False, path_type=Path)  # the readers tell better
FILE.name = "file"
MOST_THREADS = 4096
SCHEDULER_VARIABLE = "DASK_SCHEDULER_ADDRESS"


class Number(click.ParamType):  # type: ignore[type-arg]
    """A number within bounds; NaN and infinity, which no comparison stops, are none."""

    def __init__(self, kind: type[int] | type[float], about: Option) -> None:
        self.kind, self.about = kind, about
        self.name = "N" if kind is int else "X"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float:
        """Check that it is one."""
        try:
            number = self.kind(value)
        except ValueError:
            what = "a whole number" if self.kind is int else "a number"
            self.fail(f"{value!r} is not {what}", param, ctx)
        if self.kind is float and not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        if not self.about.allows(number):
            self.fail(f"{value} is not {self.about.range()}", param, ctx)
        return number


class Parsed(click.ParamType):  # type: ignore[type-arg]
    """What a function of the settings reads from text."""

    def __init__(self, parse: Callable[[str], Any]) -> None:
        self.parse, self.name = parse, "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Tell what is wrong as click does."""
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Entry(click.Option):
    """An option that a help lists, under the heading ``group``; ``also`` is another name."""

    def __init__(self, *args: Any, group: str = "", also: str = "", **attributes: Any) -> None:
        self.group, self.also = group, also
        super().__init__(*args, **attributes)

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Let the parser know all names."""
        super().add_to_parser(parser, ctx)
        if self.also:
            parser.add_option(self, [self.also], self.name)


def add(*flags: str, **attributes: Any) -> Callable[[Function], Function]:
    """Add an option that is no setting of a stage, such as what is printed."""
    return click.option(*flags, cls=Entry, **attributes)


def _given(kind: type[Settings]) -> list[Field[Any]]:
    """Fields that are options, those of a class before what it inherits."""
    found = [field for field in fields(kind) if "option" in field.metadata]
    homes = [get_annotations(home) for home in kind.__mro__]
    return sorted(found, key=lambda field: [field.name in home for home in homes].index(True))


def entries(kind: type[Settings]) -> list[Entry]:
    """Make the options of a settings class."""
    hints, found = get_type_hints(kind), []
    for field in _given(kind):
        about: Option = field.metadata["option"]
        default = None if field.default is MISSING else field.default
        form = _form(hints[field.name], about)
        if not form.get("is_flag"):
            form |= {"default": default, "metavar": about.metavar or None}
        found.append(
            Entry(
                [*(about.flags or [f"--{field.name.replace('_', '-')}"]), field.name],
                group=about.group,
                help=about.help + _facts(about, default),
                **form,
            )
        )
    return found


def _form(hint: Any, about: Option) -> dict[str, Any]:
    """Return how click reads a value of this type."""
    if type(None) in get_args(hint):
        hint = get_args(hint)[0] if len(get_args(hint)) == 2 else hint
    if hint is bool:
        return {"is_flag": True}
    kind, parts = get_origin(hint), get_args(hint)
    several = kind is Mapping or (kind is tuple and about.parse is None and parts[-1] is ...)
    return {"type": _type(hint, about), "multiple": several}


def _type(hint: Any, about: Option) -> Any:
    kind, parts = get_origin(hint), get_args(hint)
    if about.parse is not None:
        return Parsed(about.parse)
    if kind is Literal:
        return click.Choice(parts)
    if kind is tuple:
        several = [_type(part, about) for part in parts if part is not ...]
        return several[0] if parts[-1] is ... else tuple(several)
    if hint in (int, float):
        return Number(hint, about)
    return FILE if hint is Path else click.STRING


def _facts(about: Option, default: Any) -> str:
    """Tell the default, and the range of what is no count."""
    told = about.told
    if not told and default not in (None, "", ()) and not isinstance(default, bool):
        several = default if isinstance(default, tuple) else [default]
        told = ", ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in several)
    is_count = about.low in (0, 1) and isinstance(about.low, int) and about.high is None
    facts = [f"default: {told}" if told else "", "" if is_count else about.range()]
    shown = "; ".join(filter(None, facts))
    return f"  [{shown}]" if shown else ""


def output(
    default: str | None = None, help: str = "Result file.", *, told: str = ""
) -> Callable[[Function], Function]:
    """Add ``-o`` and ``--force``."""
    help += f"  [default: {told or default}]"

    def decorate(function: Function) -> Function:
        add("-f", "--force", is_flag=True, help="Replace a result that is there.")(function)
        return add("-o", "--output", type=FILE, default=default, metavar="FILE", help=help)(
            function
        )

    return decorate


class Command(click.Command):
    """A command whose help has headings, and a line for the options of every command."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings, those without one first."""
        listed = [entry for entry in self.params if isinstance(entry, Entry)]
        for group in dict.fromkeys(["", *(entry.group for entry in listed)]):
            records = [entry.get_help_record(ctx) for entry in listed if entry.group == group]
            if shown := list(filter(None, records)):
                with formatter.section(group or "Options"):
                    formatter.write_dl(shown)
        others = [
            option.opts[-1] for option in self.get_params(ctx)
            if isinstance(option, click.Option) and option not in listed
        ]  # fmt: skip
        formatter.write_paragraph()
        formatter.write_text(f"Also {', '.join(others[:-1])} and {others[-1]}: see ltau -h.")

    def invoke(self, ctx: click.Context) -> Any:
        """Refuse variables of the environment that are named as options, but are none."""
        known = {parameter.envvar for parameter in self.params}
        for name in sorted(set(os.environ) - known):
            if name.startswith(f"LTAU_{self.name}_".upper()):
                raise UsageError(
                    f"{name} is set, but is no option of ltau {self.name}",
                    hint=f"unset {name}; the options: ltau {self.name} -h",
                )
        return super().invoke(ctx)


class Main(click.Group):
    """All commands, in the order of a pipeline."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return them as they were added."""
        return list(self.commands)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Also tell the options of every command, which their own helps only name."""
        click.Command.format_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)
        records = [option.get_help_record(ctx) for option in general_options()]
        with formatter.section("Options of commands"):
            formatter.write_dl(list(filter(None, records)))


def command(
    name: str, kind: type[Settings] | None = None, *, threads: bool = False, json: bool = True,
    **attributes: Any,
) -> Callable[[Callable[..., None]], Command]:  # fmt: skip
    """Make a command; its function gets a ``console``, and what was asked for as ``settings``."""

    def decorate(function: Callable[..., None]) -> Command:
        @functools.wraps(function)
        def callback(*, quiet: bool, verbose: bool, **given: Any) -> None:
            from ltau_cli.artifacts.provenance import created_now

            prepare_cache()
            created_now()  # a date that is none is told before the work
            if threads:
                use_threads(given["threads"])
            if kind is not None:
                given["settings"] = kind(**{one.name: given.pop(one.name) for one in _given(kind)})
            as_json = given.pop("as_json", False)
            data = getattr(given.get("settings"), "data", None)
            places = {"-o": given.get("output"), "--data": data}
            piped = [flag for flag, path in places.items() if path == STDOUT]
            if piped and as_json:
                raise UsageError(
                    f"{piped[0]} - and --json both want standard output",
                    hint=f"name a file with {piped[0]}",
                )
            console = Console(quiet=quiet, verbose=verbose, as_json=as_json, piped=bool(piped))
            with console.warnings_as_lines():
                function(console=console, **given)

        own = sorted(
            reversed(getattr(function, "__click_params__", [])),
            key=lambda parameter: bool(getattr(parameter, "group", "")),
        )
        first = [parameter for parameter in own if not getattr(parameter, "group", "")]
        made = Command(
            name,
            callback=callback,
            params=[
                *first,
                *([] if kind is None else entries(kind)),
                *own[len(first) :],
                *general_options(threads=threads, json=json),
            ],
            help=function.__doc__,
            **attributes,
        )
        for parameter in made.params:  # LTAU_FIT_THRESHOLD sets ltau fit --threshold
            if isinstance(parameter, click.Option):
                parameter.envvar = f"LTAU_{name}_{_word(parameter)}".upper().replace("-", "_")
        return made

    return decorate


def _word(option: click.Option) -> str:
    """Return what stands for an option in configuration files: its longest flag."""
    return max(option.opts, key=len).lstrip("-")


def general_options(*, threads: bool = True, json: bool = True) -> list[click.Option]:
    """Make the options that every command has, and those that nearly every one has."""
    found = [
        click.Option(
            ["-q", "--quiet"], is_flag=True, help="Print no summary and no progress."
        ),
        click.Option(
            ["-v", "--verbose"], is_flag=True, help="Print how long each step took."
        ),
        click.Option(
            ["--config"], type=FILE, is_eager=True, expose_value=False, callback=_apply_config,
            help="YAML file with defaults, one section per command; flags win.",
        ),
    ]  # fmt: skip
    if threads:
        number = Number(int, Option("", low=1, high=MOST_THREADS))
        told = "SLURM_CPUS_PER_TASK, else all that this process may use"
        found.insert(
            0, click.Option(["--threads"], type=number, help=f"CPU threads.  [default: {told}]")
        )
    if json:
        about = "Print the summary as JSON on standard output."
        found.insert(0, click.Option(["--json", "as_json"], is_flag=True, help=about))
    return found


def workers(function: Function) -> Function:
    """Add ``--workers``; the function gets None where nobody asked for any."""

    @functools.wraps(function)
    def with_workers(*, workers: str | None, **given: Any) -> Any:
        if workers is None and (workers := os.environ.get(SCHEDULER_VARIABLE) or None):
            click.echo(f"using the Dask scheduler {workers} of {SCHEDULER_VARIABLE}", err=True)
        return function(workers=workers, **given)

    return add(
        "--workers",
        group="Speed",
        metavar="N|ADDRESS|FILE",
        help="Share the work among N processes here, or the workers of a Dask scheduler: "
        "tcp://node01:8786, or the scheduler.json that it writes.  "
        f"[default: {SCHEDULER_VARIABLE}, if that is set]",
    )(with_workers)  # type: ignore[return-value]


def use_threads(threads: int | None) -> None:
    """Limit every library to ``threads``, before the first of them starts its own."""
    from ltau_cli.core.threads import available_threads

    count = threads or available_threads()
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(count)


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
                hint="it knows: " + ", ".join(sorted(set(map(_word, options.values())))),
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
    """Read a configuration file and check its sections."""
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
