"""CHGNet: a ``.pth.tar`` file, or the name of pretrained weights in the package (0.3.0, r2scan)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.packages.network import Features, Network, choose_device, choose_layer, need_file

PRETRAINED = "0.3.0"
_VACUUM = 8.0  # Å beside a structure where it is not periodic; the cutoff is 6 Å


def load(file: str, device: str | None, layer: int | None) -> Network:
    """Load a network; its descriptors are the atom features after the layer's convolution."""
    import chgnet
    import torch
    from chgnet.model import CHGNet
    from pymatgen.io.ase import AseAtomsAdaptor

    name = file or PRETRAINED
    folder = Path(chgnet.__file__).parent / "pretrained" / name
    if Path(name).name == name and folder.is_dir():
        (path,) = folder.glob("*.pth.tar")
    else:
        path = need_file(name)
    network = CHGNet.from_file(path).to(choose_device(device)).eval()
    features = find_features(network, layer)

    def predict(frames: Sequence[Any]) -> tuple[Any, Any, Any]:
        structures = [AseAtomsAdaptor.get_structure(_in_a_box(frame)) for frame in frames]
        with features.listen() as heard:
            told = network.predict_structure(structures, task="ef", batch_size=len(frames))
        told = told if isinstance(told, list) else [told]
        (own,) = heard
        per_atom = [float(one["e"]) for one in told]
        n_atoms = [len(frame) for frame in frames]
        energy = np.multiply(per_atom, n_atoms if network.is_intensive else 1)
        return own, [one["f"] for one in told], energy

    torch.set_grad_enabled(True)  # forces are gradients
    return Network(predict, path, features.layer)


def of_calculator(calculator: Any, layer: int | None) -> Features:
    """Find the features of atoms in a ``CHGNetCalculator``."""
    return find_features(calculator.model, layer)


def find_features(network: Any, layer: int | None) -> Features:
    """Find the features of atoms after a layer, the last by default."""
    number = choose_layer(layer, len(network.atom_conv_layers))
    return Features(network.atom_conv_layers[number - 1], lambda told: told, number)


def _in_a_box(frame: Any) -> Any:
    """Put a structure into a cell with vacuum along directions that are not periodic.

    CHGNet takes every structure for a periodic one.
    """
    open_axes = np.flatnonzero(~frame.pbc)
    if len(open_axes):
        frame = frame.copy()
        frame.center(vacuum=_VACUUM, axis=tuple(open_axes.tolist()))
        frame.pbc = True
    frame.calc = None
    return frame
