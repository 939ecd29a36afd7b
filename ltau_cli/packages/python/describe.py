"""``python:FILE.py:FUNCTION``: any network that a function of one's own evaluates."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.errors import InputError, UsageError
from ltau_cli.packages.network import Network, need_file

_NAMES = ("descriptors", "forces", "energy")


def load(file: str, device: str | None, layer: int | None, weights: Path | None = None) -> Network:
    """Take a function of a list of ``ase.Atoms``.

    It returns a mapping with ``descriptors`` (n_atoms, d) and, where it can, ``forces``
    (n_atoms, 3) in eV/Å and ``energy`` (n_frames,) in eV. With ``weights`` it is called with a
    second argument of that name, their path, and answers for these.
    """
    if device is not None or layer is not None:
        raise UsageError(
            "--device and --layer mean nothing to --network python:...",
            hint="let the function choose them",
        )
    name, colon, function = file.rpartition(":")
    if not colon:
        raise UsageError(
            f"--network python:{file} names no function", hint="python:FILE.py:FUNCTION"
        )
    path = need_file(name)
    spec = importlib.util.spec_from_file_location(f"_ltau_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is no Python file", hint="its name has to end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.parent.resolve()))
    spec.loader.exec_module(module)
    call = getattr(module, function, None)
    if not callable(call):
        raise InputError(f"{path} has no function {function}")
    if weights is not None:
        call = partial(call, weights=weights)

    def predict(frames: Sequence[Any]) -> tuple[Any, Any, Any]:
        told = call(list(frames))
        if not isinstance(told, Mapping) or "descriptors" not in told:
            raise InputError(
                f"{function} of {path} does not return a dict with descriptors",
                hint="for example {'descriptors': (n_atoms, d), 'forces': (n_atoms, 3), "
                "'energy': (n_frames,)}",
            )
        descriptors, forces, energy = (
            None if told.get(key) is None else np.asarray(told[key]) for key in _NAMES
        )
        assert descriptors is not None, "a dict that holds None holds no descriptors"
        return descriptors, forces, energy

    return Network(predict, path)


def load_kept(file: str, weights: Path) -> Network:
    """Load other weights of the network: see :func:`load`."""
    return load(file, None, None, weights)
