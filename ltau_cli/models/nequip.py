"""NequIP: a checkpoint ``.ckpt`` or a package ``.nequip.zip``; a compiled model hides its features.

Tested with nequip 0.19.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltau_cli.errors import InputError
from ltau_cli.models.predict import (
    Features,
    Prediction,
    Predictor,
    choose_device,
    choose_layer,
    need_file,
    scalars,
    to_prediction,
)


def load(file: str, device: str | None, layer: int | None) -> Predictor:
    """Load a model; its descriptors are the scalars of the layer's node features.

    A checkpoint of a run with an EMA gives the averaged weights, as NequIP deploys them.

    Raises
    ------
    InputError
        If the model has no convolution layers, as Allegro.
    """
    from nequip.data import AtomicDataDict, from_ase
    from nequip.integrations.ase import NequIPCalculator

    path, device = Path(file), choose_device(device)
    need_file(path)
    loaded = NequIPCalculator._from_saved_model(
        path, device=device, chemical_species_to_atom_type_map=True
    )
    model = loaded.model
    features = _find(model, layer, file)

    def prepare(frame: Any) -> Any:
        data = from_ase(frame)
        for transform in loaded.transforms:
            data = transform(data)
        return data

    def predict(frames: Sequence[Any]) -> Prediction:
        batch = AtomicDataDict.batched_from_list([prepare(frame) for frame in frames])
        with features.listen() as heard:
            told = model(AtomicDataDict.to_(batch, loaded.device))
        return to_prediction(
            heard[-1],
            told.get(AtomicDataDict.FORCE_KEY),
            told.get(AtomicDataDict.TOTAL_ENERGY_KEY),
        )

    names = frozenset(model.metadata["type_names"].split())
    return Predictor(predict, path, features.layer, names)


def of_calculator(calculator: Any, layer: int | None) -> Features:
    """Find the features in a ``NequIPCalculator`` whose model is not compiled."""
    return _find(calculator.model, layer, "the network")


def _find(model: Any, layer: int | None, what: str) -> Features:
    from nequip.data import AtomicDataDict
    from nequip.nn.convnetlayer import ConvNetLayer

    key = AtomicDataDict.NODE_FEATURES_KEY
    layers = [part for part in model.modules() if isinstance(part, ConvNetLayer)]
    if not layers:
        raise InputError(
            f"{what} has no convolution layers to take features of atoms from",
            hint="give it as a function of your own: --model python:FILE.py:FUNCTION",
        )
    number = choose_layer(layer, len(layers), what)
    part = layers[number - 1]
    columns = scalars(part.irreps_out[key])
    return Features(part, lambda told: told[key][:, columns], number)
