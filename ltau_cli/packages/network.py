"""A network that some package trained, as a function of frames."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli import packages
from ltau_cli.errors import InputError, LtauError, UsageError
from ltau_cli.packages import versions

log = logging.getLogger("ltau")


@dataclass(frozen=True)
class Prediction:
    """What a network says of some frames, atom by atom in their order."""

    descriptors: npt.NDArray[np.float32]
    """(n_atoms, d); the same when a frame is rotated or translated, or its atoms are permuted."""
    forces: npt.NDArray[np.float64] | None = None
    """(n_atoms, 3) in eV/Å."""
    energy: npt.NDArray[np.float64] | None = None
    """(n_frames,) in eV."""
    trajectory: npt.NDArray[np.float64] | None = None
    """(n_atoms,): how far off the forces of weights kept during the training are, in eV/Å."""


@dataclass(frozen=True)
class Network:
    """A loaded network."""

    predict: Callable[[Sequence[Any]], tuple[Any, Any, Any]]
    """Of a sequence of ``ase.Atoms``, which it may change: descriptors, forces and energies as of
    :class:`Prediction`, or None. Each a tensor or an array, or a list with one of each frame."""
    file: Path
    """Holds the weights."""
    layer: int | None = None
    """Number, from 1, of the layer that the descriptors are from; None where it is none alone."""
    elements: frozenset[str] | None = None
    """Chemical symbols that it knows; None where it does not say."""
    heads: tuple[str, ...] = ()
    """Names of its outputs, if it has such; ``frame.info["head"]`` tells which evaluates it."""

    def __call__(self, frames: Sequence[Any]) -> Prediction:
        """Predict, and check that the numbers belong to the frames."""
        n = sum(len(frame) for frame in frames)
        self._check_elements(frames)
        try:
            descriptors, forces, energy = self.predict(frames)
        except LtauError:
            raise
        except Exception as error:  # packages raise whatever they stumble over
            if self.file.suffix == ".py":  # of the user, who wants to see where
                raise
            what = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(
                f"{self.file} fails with {len(frames)} frames of {n} atoms: {what}",
                hint="can its own calculator evaluate them?",
            ) from error
        told = Prediction(
            _to_array(descriptors, np.float32),
            None if forces is None else _to_array(forces, np.float64),
            None if energy is None else _to_array(energy, np.float64),
        )
        wanted = {"descriptors": (n, None), "forces": (n, 3), "energy": (len(frames),)}
        for name, shape in wanted.items():
            values = getattr(told, name)
            if values is None:
                continue
            if len(values.shape) != len(shape) or any(
                size not in (None, own) for own, size in zip(values.shape, shape, strict=True)
            ):
                raise InputError(
                    f"{self.file} gives {name} of shape {values.shape} for {len(frames)} frames "
                    f"with {n} atoms"
                )
            if not np.isfinite(values).all():
                raise InputError(
                    f"{self.file} gives {name} that are NaN or infinite",
                    hint="two atoms in one place, or a network that diverged?",
                )
        return told

    def check_heads(self, named: Sequence[str]) -> None:
        """Refuse frames whose heads, of each its name or "", leave open which evaluates them."""
        if len(self.heads) < 2:
            return
        for number, name in enumerate(named):
            if name not in self.heads:
                what = f"names {name}" if name else "names none"
                raise InputError(
                    f"{self.file} has the heads {', '.join(self.heads)}; frame {number} {what}",
                    hint="--head NAME, or one for each file of frames, in their order",
                )

    def _check_elements(self, frames: Sequence[Any]) -> None:
        for frame in frames if self.elements is not None else ():
            new = sorted(set(frame.get_chemical_symbols()) - (self.elements or set()))
            if new:
                raise InputError(
                    f"{self.file} was not trained on {new[0]}, which a frame holds",
                    hint=f"it knows {', '.join(sorted(self.elements or ()))}",
                )


def _to_array(values: Any, dtype: type) -> npt.NDArray[Any]:
    """Return an array, of a tensor on any device too, or of a list of one per frame."""
    if isinstance(values, list):
        return np.concatenate([np.atleast_1d(_to_array(one, dtype)) for one in values])
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values).astype(dtype)


@dataclass(frozen=True)
class Features:
    """Where a network has the features of its atoms."""

    part: Any
    """``torch.nn.Module`` whose output holds them."""
    read: Callable[[Any], Any]
    """Takes them from that output, (n_atoms, d)."""
    layer: int | None
    """Number, from 1, of the layer that they are from; None is all."""

    @contextlib.contextmanager
    def listen(self) -> Iterator[list[Any]]:
        """Collect the features of every pass through the network, tensors (n_atoms, d)."""
        heard: list[Any] = []

        def hear(_part: Any, _given: Any, told: Any) -> None:
            heard.append(self.read(told).detach())

        hook = self.part.register_forward_hook(hear)
        try:
            yield heard
        finally:
            hook.remove()


def find_in_calculator(package: str, calculator: Any, layer: int | None) -> Features:
    """Find the features of atoms in the network of a package that an ASE calculator holds.

    A sum of calculators, as of a network and a dispersion correction, is looked into.
    """
    module = packages.load(package, "describe")
    if not hasattr(module, "of_calculator"):
        raise UsageError(
            f"the features in calculators of {package} cannot be reached",
            hint=f"name the network's file: descriptors='{package}:FILE'",
        )
    found: list[Features] = []
    for part in parts_of(calculator):
        try:
            found.append(module.of_calculator(part, layer))
        except LtauError:
            raise
        except Exception as error:  # whatever is missing in a calculator of another kind
            log.debug("%s: no network of %s in it: %r", type(part).__name__, package, error)
    if len(found) != 1:
        what = f"{len(found)} networks" if found else "no network"
        raise InputError(
            f"{what} of {package} whose features can be read in a {type(calculator).__name__}",
            hint=f"name its file: descriptors='{package}:FILE'; see docs/live.md",
        )
    return found[0]


def parts_of(calculator: Any) -> list[Any]:
    """Return the calculators of a sum of ASE's, of sums as well; any other one is its only part."""
    mixer = getattr(calculator, "mixer", calculator)  # ASE before 3.23 has none
    parts = getattr(mixer, "calcs", None)
    return [calculator] if not parts else [own for part in parts for own in parts_of(part)]


@dataclass(frozen=True)
class NetworkName:
    """``PACKAGE:FILE`` taken apart."""

    package: str
    file: str

    @classmethod
    def parse(cls, text: str, option: str = "--network {}") -> NetworkName:
        """Split at the first colon."""
        package, _, file = text.partition(":")
        known = packages.names("describe")
        if package not in known:
            raise UsageError(
                f"{option.format(text)} does not begin with a package and a colon",
                hint="for example mace:my.model; packages: " + ", ".join(known),
            )
        return cls(package, file)

    def __str__(self) -> str:
        return f"{self.package}:{self.file}"

    def checkpoints(self) -> list[Path] | None:
        """Return the files of a pattern, such as ``checkpoints/*.pt``; None if it is none."""
        path, before = Path(self.file), self.file.rpartition(":")[0]  # of a function in a file
        if glob.escape(self.file) == self.file or path.exists() or Path(before or path).exists():
            return None
        there = next(folder for folder in path.parents if folder.exists())
        pattern = os.path.join(glob.escape(str(there)), path.relative_to(there))
        found = [Path(name) for name in sorted(glob.glob(pattern))]
        if not found:
            raise InputError(f"{self.file}: no such files")
        return found

    def load(
        self, *, device: str | None = None, layer: int | None = None, weights: Path | None = None
    ) -> Network:
        """Load the network, to a device of PyTorch; None takes a GPU, and the last layer.

        ``weights`` names a file of other weights of it, that were kept during the training.
        """
        module = packages.load(self.package, "describe")
        file = self.file if weights is None else str(weights)
        try:
            if weights is not None and hasattr(module, "load_kept"):
                return module.load_kept(self.file, weights)  # type: ignore[no-any-return]
            loaded: Network = module.load(file, device, layer)
        except LtauError:
            raise
        except ImportError as error:
            if versions.found(self.package) is not None:
                raise versions.refuse(self.package, "describe", "", error) from error
            name = (error.name or str(error)).partition(".")[0]
            install = name if self.package == "python" else f"'ltau[{self.package}]'"
            raise InputError(
                f"{self}: cannot import {name}", hint=f"pip install {install}"
            ) from error
        except Exception as error:  # packages raise whatever they stumble over
            what = str(error).strip().partition("\n")[0][:120] or type(error).__name__
            of = versions.name(self.package)
            raise InputError(
                f"{self.package}:{file} cannot be loaded: {what}",
                hint=f"is it a network of {of}, and of a version that can read it?",
            ) from error
        tested = versions.untested(self.package, "describe")
        if tested and weights is None:  # said once
            log.warning("%s was not tested (%s): compare its forces with its own calculator's",
                        versions.name(self.package), tested)  # fmt: skip
        return loaded


def need_file(file: str | Path) -> Path:
    """Return the path of a file."""
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return path


def choose_device(device: str | None) -> str:
    """Return the device that was named, else a GPU if there is one."""
    if device is not None:
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def choose_layer(layer: int | None, n_layers: int) -> int:
    """Return the number, from 1, of a layer; the last by default."""
    if layer is None:
        return n_layers
    if not 1 <= layer <= n_layers:
        raise UsageError(
            f"--layer {layer}: the network has {n_layers} layers", hint="they are counted from 1"
        )
    return layer


def scalars(irreps: Iterable[Any]) -> npt.NDArray[np.intp]:
    """Columns of the even scalars (0e) among features of the given e3nn ``Irreps``.

    Only these stay the same when a structure is rotated or mirrored.
    """
    columns: list[int] = []
    start = 0
    for mul, ir in irreps:
        if ir.l == 0 and ir.p == 1:
            columns += range(start, start + mul)
        start += mul * ir.dim
    return np.array(columns, dtype=np.intp)
