"""Hooks that wait until a trainer imports its own modules, and then wrap what they need of them."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.abc
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

from ltau_cli import packages
from ltau_cli.errors import LtauError, printable
from ltau_cli.packages import versions

P = ParamSpec("P")
T = TypeVar("T")

folder = ""  # of the log
stopped = False  # the recording of this process, by an error
_told: list[str] = []  # what this process has said of its recording


def install(output: str) -> None:
    """Wait for the modules that packages have hooks for; the log goes to the folder ``output``."""
    global folder
    folder = output
    sys.meta_path.insert(0, _Finder())
    if os.environ.get("_LTAU_RECORD_PID") == str(os.getpid()):
        atexit.register(_complain_if_nothing_came, _count_epochs())


def around(owner: Any, name: str, *parameters: str) -> Callable[[Callable[..., Any]], None]:
    """Replace a function of a module, or a method, by the decorated one, which gets it first.

    What the decorated one raises ends the recording, not the training: the trainer gets what its
    own function returned or raised. The function must have the ``parameters``.
    """
    method = inspect.getattr_static(owner, name)
    is_of_class = isinstance(method, classmethod)
    original = method.__func__ if is_of_class else getattr(owner, name)
    missing = set(parameters) - inspect.signature(original).parameters.keys()
    if missing:
        raise TypeError(f"{name} takes no {', '.join(sorted(missing))}")

    def replace(wrapper: Callable[..., Any]) -> None:
        @functools.wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if stopped:
                return original(*args, **kwargs)
            own = _Original(original)
            try:
                return wrapper(own, *args, **kwargs)
            except Exception as error:
                if error is own.error:
                    raise
                stop(error)
            if own.error is not None:
                raise own.error
            return own.result if own.done else original(*args, **kwargs)

        setattr(owner, name, classmethod(wrapped) if is_of_class else wrapped)

    return replace


class _Original:
    """A function of the trainer that is called once at most, and how it ended."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.done = True
        try:
            self.result = self._function(*args, **kwargs)
        except BaseException as error:
            self.error = error
            raise
        return self.result


def guard(function: Callable[P, T]) -> Callable[P, T | None]:
    """Let a function that a trainer calls end the recording, not the training, if it raises.

    It is not called once the recording has ended.
    """

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T | None:
        return None if stopped else attempt(function, *args, **kwargs)

    return guarded


def attempt(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Call a function; if it raises, the recording ends and the training goes on."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        stop(error)
        return None


def stop(why: str | Exception) -> None:
    """Record nothing more in this process, and say why in one line; the training goes on."""
    global stopped
    if stopped:
        return
    stopped = True
    if isinstance(why, Exception) and not isinstance(why, LtauError):
        place = traceback.extract_tb(why.__traceback__)[-1]
        why = f"{why!r:.300} in {Path(place.filename).name}:{place.lineno}"
    _say(f"recording stops, the training goes on: {why}")


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


class _Finder(importlib.abc.MetaPathFinder):
    """Lets a module be found as ever, and its hook be called once it has been executed."""

    def __init__(self) -> None:
        self._packages = packages.names("record")
        self._searching = ""

    @guard
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
            try:
                getattr(packages.load(package, "record"), function)(module)
            except Exception as error:  # whatever is not there, or is another
                raise versions.refuse(package, "record", module.__name__, error) from error

    loader.exec_module = exec_module


def name_trainer(package: str) -> str:
    """Return the name and the version of a trainer whose log begins; tell if it is not tested."""
    name = versions.name(package)
    tested = versions.untested(package, "record")
    if tested:
        tell(f"{name} was not tested ({tested}): it checks itself as it records")
    return name


def tell(line: str) -> None:
    """Print a line on standard error, unless ``-q`` was given."""
    _told.append(line)
    if "LTAU_RECORD_QUIET" not in os.environ:
        _say(line)


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
        print(f"ltau record: {printable(line)}", file=sys.stderr, flush=True)


def _count_epochs() -> int:
    """Count the files of the log, beside which the trainer may have files of its own."""
    return sum(1 for part in ("", "energy") for _ in Path(folder, part).glob("errors_epoch_*.npy"))


@guard
def _complain_if_nothing_came(before: int) -> None:
    """Tell a command that trained nothing, or with a trainer that is not known."""
    if _told or _count_epochs() > before:
        return
    titles = {
        name: getattr(packages.load(name), "TITLE", None) for name in packages.names("record")
    }
    ran = [versions.name(name) for name in titles if titles[name] and name in sys.modules]
    if ran:
        tell(
            f"nothing was recorded: {', '.join(ran)} ran, but no training began: see above if an "
            "option, a file or a dry run is the reason, or if nothing was left to train"
        )
    else:
        known = ", ".join(filter(None, titles.values()))
        tell(f"nothing was recorded: no training began of a trainer that it knows ({known})")
