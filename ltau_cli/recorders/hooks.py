"""Hooks that wait until a trainer imports its own modules, and then wrap what they need of them."""

from __future__ import annotations

import atexit
import importlib
import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from ltau_cli.errors import ComputeError, LtauError

# A trainer's module: the recorder, and its function that is called with the module.
HOOKS = {
    "mace.data.utils": ("mace", "number_frames"),
    "mace.data.atomic_data": ("mace", "keep_numbers"),
    "mace.tools.train": ("mace", "record_training"),
    "lightning.pytorch.loops.fit_loop": ("drawn", "watch_lightning"),
    "nequip.train.lightning": ("nequip", "record_training"),
    "sevenn.train.trainer": ("sevenn", "record_training"),
    "chgnet.trainer.trainer": ("chgnet", "record_training"),
    "matgl.utils.training": ("matgl", "record_training"),
    "metatrain.utils.scaler.remove": ("metatrain", "keep_scaler"),
    "metatrain.utils.data.combine_dataloaders": ("metatrain", "watch_batches"),
    "metatrain.utils.per_atom": ("metatrain", "see_predictions"),
}
KNOWN = "MACE, NequIP, SevenNet, CHGNet, MatGL, metatrain"

folder = ""  # of the log
_told: list[str] = []  # what this process has said of its recording


def install(output: str) -> None:
    """Wait for the modules of :data:`HOOKS`; the log goes to the folder ``output``."""
    global folder
    folder = output
    sys.meta_path.insert(0, _Finder())
    if os.environ.get("LTAU_RECORD_PID") == str(os.getpid()):
        atexit.register(_complain_if_nothing_came, _epochs())


class _Finder(importlib.abc.MetaPathFinder):
    """Lets a module be found as ever, and its hook be called once it has been executed."""

    def __init__(self) -> None:
        self._searching = ""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the module's own spec, if it has a hook."""
        if fullname not in HOOKS or fullname == self._searching:
            return None
        self._searching = fullname
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._searching = ""
        if spec is not None and spec.loader is not None:
            _call_after(spec.loader)
        return spec


def _call_after(loader: Any) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        recorder, function = HOOKS[module.__name__]
        hook = getattr(importlib.import_module(f"ltau_cli.recorders.{recorder}"), function)
        with or_refuse():
            hook(module)

    loader.exec_module = exec_module


class or_refuse:  # noqa: N801
    """End the training with one clear line where it cannot be recorded; used as it begins."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Tell the error and exit with its code."""
        if isinstance(error, LtauError):
            _end(error)


def check_version(package: str, tested: Iterable[str]) -> str:
    """Return the version of a trainer's distribution.

    Raises
    ------
    ComputeError
        If it is none that the recorder was tested with.
    """
    from importlib.metadata import version

    found = version(package).partition("+")[0]
    if found not in tested:
        raise ComputeError(
            f"ltau record was tested with {package} {', '.join(tested)}, this is {found}",
            hint="install one of these; or train without ltau record, keep the checkpoints, and "
            "evaluate them: ltau describe",
        )
    return found


def tell(line: str) -> None:
    """Print a line on standard error, unless ``-q`` was given."""
    _told.append(line)
    if "LTAU_RECORD_QUIET" not in os.environ:
        print(f"ltau record: {line}", file=sys.stderr, flush=True)


def _end(error: LtauError) -> NoReturn:
    _told.append(str(error))
    print(f"error: {error}", file=sys.stderr)
    if error.hint:
        print(f"\nhint: {error.hint}", file=sys.stderr)
    sys.stderr.flush()
    raise SystemExit(error.exit_code)


def _epochs() -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def _complain_if_nothing_came(before: list[str]) -> None:
    """Tell a command that trained nothing, or with a trainer that is not known."""
    if not _told and len(_epochs()) <= len(before):
        tell(f"nothing was recorded: no trainer was run that it knows ({KNOWN})")
