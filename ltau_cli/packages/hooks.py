"""Hooks that wait until a trainer imports its own modules, and then wrap what they need of them."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ltau_cli import packages
from ltau_cli.errors import ComputeError, LtauError

folder = ""  # of the log
_told: list[str] = []  # what this process has said of its recording


def install(output: str) -> None:
    """Wait for the modules that packages have hooks for; the log goes to the folder ``output``."""
    global folder
    folder = output
    sys.meta_path.insert(0, _Finder())
    if os.environ.get("_LTAU_RECORD_PID") == str(os.getpid()):
        atexit.register(_complain_if_nothing_came, _epochs())


class _Finder(importlib.abc.MetaPathFinder):
    """Lets a module be found as ever, and its hook be called once it has been executed."""

    def __init__(self) -> None:
        self._packages = packages.names("record")
        self._searching = ""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module's own spec, if it has a hook."""
        package, dot, _ = fullname.partition(".")
        if not dot or package not in self._packages or fullname == self._searching:
            return None
        function = packages.load(package).HOOKS.get(fullname)
        if function is None:
            return None
        self._searching = fullname
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._searching = ""
        if spec is not None and spec.loader is not None:
            _call_after(spec.loader, package, function)
        return spec


def _call_after(loader: Any, package: str, function: str) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        with or_refuse():
            _check_version(package)
            getattr(packages.load(package, "record"), function)(module)

    loader.exec_module = exec_module


def around(owner: Any, name: str) -> Callable[[Callable[..., Any]], None]:
    """Replace a function of a module, or a method, by the decorated one, which gets it first."""

    def replace(wrapper: Callable[..., Any]) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            return wrapper(original, *args, **kwargs)

        setattr(owner, name, wrapped)

    return replace


@contextlib.contextmanager
def or_refuse() -> Iterator[None]:
    """End the training with one clear line where it cannot be recorded; used as it begins."""
    try:
        yield
    except LtauError as error:
        _told.append(str(error))
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"\nhint: {error.hint}", file=sys.stderr)
        sys.stderr.flush()
        raise SystemExit(error.exit_code) from error


def name_trainer(package: str) -> str:
    """Return the name and the version of a trainer."""
    trainer = packages.load(package)
    return f"{trainer.TITLE} {_version(trainer.DISTRIBUTION)}"


def _version(distribution: str) -> str:
    from importlib.metadata import version

    return version(distribution).partition("+")[0]


def _check_version(package: str) -> None:
    """Refuse a trainer of a version that ``ltau record`` was not tested with."""
    trainer = packages.load(package)
    tested = getattr(trainer, "TESTED", ())
    if tested and (found := _version(trainer.DISTRIBUTION)) not in tested:
        raise ComputeError(
            f"ltau record was tested with {trainer.DISTRIBUTION} {', '.join(tested)}, this is "
            f"{found}",
            hint="install one of these; or train without ltau record, keep the checkpoints, and "
            "evaluate them: ltau describe",
        )


def tell(line: str) -> None:
    """Print a line on standard error, unless ``-q`` was given."""
    _told.append(line)
    if "LTAU_RECORD_QUIET" not in os.environ:
        print(f"ltau record: {line}", file=sys.stderr, flush=True)


def _epochs() -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def _complain_if_nothing_came(before: list[str]) -> None:
    """Tell a command that trained nothing, or with a trainer that is not known."""
    if not _told and len(_epochs()) <= len(before):
        known = [vars(packages.load(name)).get("TITLE") for name in packages.names("record")]
        told = ", ".join(filter(None, known))
        tell(f"nothing was recorded: no trainer was run that it knows ({told})")
