"""MatGL: the folder of a saved potential, ``potential.save("my")``, of a TensorNet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltau_cli.errors import InputError
from ltau_cli.packages.network import Network, choose_device, choose_layer, need_file

_WEIGHTS = "state.pt"


def load(file: str, device: str | None, layer: int | None) -> Network:
    """Load a potential; its descriptors are what its last, atomic network takes."""
    path = need_file(Path(file) / _WEIGHTS)
    import matgl
    from matgl.ext.ase import PESCalculator
    from matgl.models import TensorNet

    potential = matgl.load_model(path.parent).to(choose_device(device)).eval()
    network = potential.model
    if not isinstance(network, TensorNet) or network.is_intensive:
        raise InputError(
            f"{file} is a {type(network).__name__}; ltau takes features of a TensorNet with "
            "energies of atoms only",
            hint="give it as a function of your own: --network python:FILE.py:FUNCTION",
        )
    choose_layer(layer, 1)
    calculator = PESCalculator(potential, stress_unit="eV/A3")

    def predict(frames: Sequence[Any]) -> tuple[Any, Any, Any]:
        found, forces, energies = [], [], []
        for frame in frames:
            frame.calc = calculator
            forces.append(frame.get_forces())
            energies.append(frame.get_potential_energy())
            found.append(network.feature_dict["readout"])
        return found, forces, energies

    return Network(predict, path, None, frozenset(network.element_types))
