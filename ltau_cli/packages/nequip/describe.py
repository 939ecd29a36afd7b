"""NequIP: a checkpoint ``.ckpt`` or a package ``.nequip.zip``; compiled networks hide features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltau_cli.errors import InputError
from ltau_cli.packages.network import (
    Features,
    Network,
    choose_device,
    choose_layer,
    need_file,
    scalars,
)


def load(file: str, device: str | None, layer: int | None) -> Network:
    """Load a network; its descriptors are the scalars of the layer's node features.

    A checkpoint of a run with an EMA gives the averaged weights, as NequIP deploys them.
    """
    from nequip.data import AtomicDataDict, from_ase

    path = need_file(file)
    loaded = _load(path, choose_device(device))
    network = loaded.model
    features = find_features(network, layer)

    def prepare(frame: Any) -> Any:
        data = from_ase(frame)
        for transform in loaded.transforms:
            data = transform(data)
        return data

    def predict(frames: Sequence[Any]) -> tuple[Any, Any, Any]:
        batch = AtomicDataDict.batched_from_list([prepare(frame) for frame in frames])
        with features.listen() as heard:
            told = network(AtomicDataDict.to_(batch, loaded.device))
        energy = told.get(AtomicDataDict.TOTAL_ENERGY_KEY)
        forces = told.get(AtomicDataDict.FORCE_KEY)
        return heard[-1], forces, None if energy is None else energy.reshape(-1)

    names = frozenset(network.metadata["type_names"].split())
    return Network(predict, path, features.layer, names)


def _load(path: Path, device: str) -> Any:
    """Return the calculator of a network, whose species have the names of chemical elements."""
    try:
        from nequip.integrations.ase import NequIPCalculator
    except ImportError:  # up to 0.15
        from nequip.ase import NequIPCalculator

        if hasattr(NequIPCalculator, "_from_saved_model"):
            return NequIPCalculator._from_saved_model(str(path), device=device)
        kind = "packaged" if path.name.endswith(".nequip.zip") else "checkpoint"
        load = getattr(NequIPCalculator, f"_from_{kind}_model", None)
        if load is None:  # before 0.12
            raise ImportError("its calculator loads compiled networks only") from None
        return load(str(path), device=device)
    return NequIPCalculator._from_saved_model(
        path, device=device, chemical_species_to_atom_type_map=True
    )


def of_calculator(calculator: Any, layer: int | None) -> Features:
    """Find the features of atoms in a ``NequIPCalculator`` whose network is not compiled."""
    return find_features(calculator.model, layer)


def find_features(network: Any, layer: int | None) -> Features:
    """Find the features of atoms after a layer, the last by default."""
    from nequip.data import AtomicDataDict
    from nequip.nn.convnetlayer import ConvNetLayer

    key = AtomicDataDict.NODE_FEATURES_KEY
    layers = [part for part in network.modules() if isinstance(part, ConvNetLayer)]
    if not layers:
        raise InputError(
            "the network has no convolution layers to take features of atoms from",
            hint="give it as a function of your own: --network python:FILE.py:FUNCTION",
        )
    number = choose_layer(layer, len(layers))
    part = layers[number - 1]
    columns = scalars(part.irreps_out[key])
    return Features(part, lambda told: told[key][:, columns], number)
