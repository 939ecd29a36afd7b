"""A trained model of any package, as a function of frames."""

from __future__ import annotations

import contextlib
import glob
import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.errors import InputError, LtauError, UsageError

# What stands before the colon of ``--model``, and what is installed for it.
PACKAGES = {
    "mace": "ltau[mace]",
    "nequip": "ltau[nequip]",
    "chgnet": "ltau[chgnet]",
    "sevenn": "ltau[sevenn]",
    "matgl": "ltau[matgl]",
    "metatomic": "ltau[metatomic]",
    "deepmd": "ltau[deepmd]",
    "python": "",
}


@dataclass(frozen=True)
class Prediction:
    """What a model says of some frames, atom by atom in their order.

    Attributes
    ----------
    descriptors : (n_atoms, d) float32
        Features that do not change when a frame is rotated, translated or its atoms are permuted.
    forces : (n_atoms, 3) float64 or None
        eV/Å.
    energy : (n_frames,) float64 or None
        eV.
    """

    descriptors: npt.NDArray[np.float32]
    forces: npt.NDArray[np.float64] | None = None
    energy: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Predictor:
    """A loaded model.

    Attributes
    ----------
    predict : callable
        Of a sequence of ``ase.Atoms``, which it may change.
    file : Path
        Holds the weights.
    layer : int or None
        Number, from 1, of the layer that the descriptors are from; None where there is one only.
    elements : set of str or None
        Chemical symbols that it knows; None where it does not say.
    """

    predict: Callable[[Sequence[Any]], Prediction]
    file: Path
    layer: int | None = None
    elements: frozenset[str] | None = None

    def __call__(self, frames: Sequence[Any]) -> Prediction:
        """Predict, and check that the numbers belong to the frames.

        Raises
        ------
        InputError
            If they do not, or are not finite, or a frame has an element that the model does not
            know.
        """
        n = sum(len(frame) for frame in frames)
        self._check_elements(frames)
        told = self.predict(frames)
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
                    hint="two atoms in one place, or a model that diverged?",
                )
        return told

    def _check_elements(self, frames: Sequence[Any]) -> None:
        for frame in frames if self.elements is not None else ():
            new = sorted(set(frame.get_chemical_symbols()) - (self.elements or set()))
            if new:
                raise InputError(
                    f"{self.file} was not trained on {new[0]}, which a frame holds",
                    hint=f"it knows {', '.join(sorted(self.elements or ()))}",
                )


@dataclass(frozen=True)
class Features:
    """Where a network has the features of its atoms.

    Attributes
    ----------
    part : torch.nn.Module
        Its output holds them.
    read : callable
        Takes them from that output, (n_atoms, d).
    layer : int
        Number, from 1, of the layer that they are from.
    """

    part: Any
    read: Callable[[Any], Any]
    layer: int

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


def find_features(package: str, calculator: Any, layer: int | None) -> Features:
    """Find the features of atoms in the network that an ASE calculator holds.

    Parameters
    ----------
    package : str
        A key of :data:`PACKAGES`.
    calculator : ase.calculators.calculator.Calculator
        Of that package.
    layer : int, optional
        From 1; None takes the last.

    Raises
    ------
    InputError
        If the calculator holds no such network, or hides its features.
    UsageError
        If there is no such layer, or the package's calculators are not looked into.
    """
    module = importlib.import_module(f"ltau_cli.models.{package}")
    name = type(calculator).__name__
    if not hasattr(module, "of_calculator"):
        raise UsageError(
            f"the features in calculators of {package} cannot be reached",
            hint=f"name the model file: descriptors='{package}:FILE'",
        )
    try:
        found: Features = module.of_calculator(calculator, layer)
    except LtauError:
        raise
    except Exception as error:  # whatever is missing in a calculator of another kind
        raise InputError(
            f"no network of {package} whose features can be read in a {name}",
            hint=f"name the model file: descriptors='{package}:FILE'; see docs/live.md",
        ) from error
    return found


@dataclass(frozen=True)
class ModelName:
    """``PACKAGE:FILE`` taken apart.

    Attributes
    ----------
    package, file : str
    """

    package: str
    file: str

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Split at the first colon.

        Raises
        ------
        UsageError
            If the package is none that is known.
        """
        package, _, file = text.partition(":")
        if package not in PACKAGES:
            raise UsageError(
                f"--model {text} does not begin with a package and a colon",
                hint="for example mace:my.model; packages: " + ", ".join(PACKAGES),
            )
        return cls(package, file)

    def __str__(self) -> str:
        return f"{self.package}:{self.file}"

    def checkpoints(self) -> list[Path] | None:
        """Return the files of a pattern, such as ``checkpoints/*.pt``; None if it is none.

        Raises
        ------
        InputError
            If no file fits.
        """
        if glob.escape(self.file) == self.file or Path(self.file).exists():
            return None
        found = [Path(name) for name in sorted(glob.glob(self.file))]
        if not found:
            raise InputError(f"{self.file}: no such files")
        return found

    def load(self, *, device: str | None = None, layer: int | None = None) -> Predictor:
        """Load the model.

        Parameters
        ----------
        device : str, optional
            As PyTorch has it, such as ``cuda:1``; None takes a GPU if there is one.
        layer : int, optional
            From 1; None takes the last.

        Raises
        ------
        InputError
            If the package is not installed, or cannot load the file.
        UsageError
            If there is no such layer.
        """
        module = importlib.import_module(f"ltau_cli.models.{self.package}")
        try:
            loaded: Predictor = module.load(self.file, device, layer)
        except LtauError:
            raise
        except ImportError as error:
            name = (error.name or str(error)).partition(".")[0]
            install = PACKAGES[self.package]
            raise InputError(
                f"{self}: cannot import {name}",
                hint=f"pip install '{install}'" if install else f"pip install {name}",
            ) from error
        except Exception as error:  # packages raise whatever they stumble over
            what = str(error).strip().partition("\n")[0][:120] or type(error).__name__
            raise InputError(
                f"{self} cannot be loaded: {what}",
                hint=f"is it a model of {self.package}, and of a version that can read it?",
            ) from error
        return loaded


def need_file(path: Path) -> None:
    """Refuse what is no file.

    Raises
    ------
    InputError
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")


def choose_device(device: str | None) -> str:
    """Return the device that was named, else a GPU if there is one."""
    if device is not None:
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def choose_layer(layer: int | None, n_layers: int, what: str) -> int:
    """Return the number, from 1, of a layer; the last by default.

    Raises
    ------
    UsageError
        If there is none of that number.
    """
    if layer is None:
        return n_layers
    if not 1 <= layer <= n_layers:
        raise UsageError(
            f"--layer {layer}: {what} has {n_layers} layers", hint="they are counted from 1"
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


def to_prediction(descriptors: Any, forces: Any, energy: Any) -> Prediction:
    """Turn PyTorch tensors on any device to arrays; None stays None."""

    def plain(tensor: Any, dtype: type) -> Any:
        return None if tensor is None else tensor.detach().cpu().numpy().astype(dtype)

    return Prediction(
        plain(descriptors, np.float32),
        plain(forces, np.float64),
        None if energy is None else plain(energy, np.float64).reshape(-1),
    )
