"""MatGL: the folder of a saved potential, ``potential.save("my")``, of a TensorNet.

Tested with matgl 4.1.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.errors import InputError
from ltau_cli.models.predict import (
    Prediction,
    Predictor,
    choose_device,
    choose_layer,
    need_file,
)

_WEIGHTS = "state.pt"


def load(file: str, device: str | None, layer: int | None) -> Predictor:
    """Load a potential; its descriptors are what its last, atomic network takes.

    Raises
    ------
    InputError
        If there is no such folder, or its model has no such features.
    """
    path = Path(file)
    need_file(path / _WEIGHTS)
    import matgl
    from matgl.ext.ase import PESCalculator
    from matgl.models import TensorNet

    potential = matgl.load_model(path).to(choose_device(device)).eval()
    model = potential.model
    if not isinstance(model, TensorNet) or model.is_intensive:
        raise InputError(
            f"{path} is a {type(model).__name__}; ltau takes features of a TensorNet with energies "
            "of atoms only",
            hint="give it as a function of your own: --model python:FILE.py:FUNCTION",
        )
    choose_layer(layer, 1, file)
    calculator = PESCalculator(potential, stress_unit="eV/A3")

    def predict(frames: Sequence[Any]) -> Prediction:
        found, forces, energies = [], [], []
        for frame in frames:
            frame.calc = calculator
            forces.append(frame.get_forces())
            energies.append(float(frame.get_potential_energy()))
            found.append(model.feature_dict["readout"].detach().cpu().numpy())
        return Prediction(
            np.concatenate(found).astype(np.float32),
            np.concatenate(forces).astype(np.float64),
            np.array(energies, dtype=np.float64),
        )

    return Predictor(predict, path / _WEIGHTS, None, frozenset(model.element_types))
