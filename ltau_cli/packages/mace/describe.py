"""MACE: a ``.model`` file, or a checkpoint ``.pt`` with the network of its run beside it."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.errors import InputError
from ltau_cli.packages.network import (
    Features,
    Network,
    choose_device,
    choose_layer,
    need_file,
    scalars,
)

_EPOCH = re.compile(r"_epoch-\d+(_swa)?$")


def load(file: str, device: str | None, layer: int | None) -> Network:
    """Load a network; its descriptors are the scalars of the node features, or those of a layer.

    They are the same for all heads, of which one predicts forces and energy.
    """
    # As MACE does from 0.3.10 on, so that e3nn can load its constants with a newer PyTorch.
    os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    from ase.data import chemical_symbols
    from mace import data
    from mace.tools import AtomicNumberTable, torch_geometric
    from torch import get_default_dtype, set_default_dtype

    path, device = need_file(file), choose_device(device)
    network = _load(path, device).eval()
    dtype = next(network.parameters()).dtype
    numbers = [int(z) for z in network.atomic_numbers]
    table = AtomicNumberTable(numbers)
    heads = tuple(getattr(network, "heads", None) or ["Default"])
    features = find_features(network, layer)

    # Up to MACE 0.3.12 the head is read from the frame, 0.3.6 has none.
    named = "head_name" in inspect.signature(data.config_from_atoms).parameters
    several = "heads" in inspect.signature(data.AtomicData.from_config).parameters
    of_all: dict[str, Any] = {"heads": list(heads)} if several else {}

    def graph(frame: Any) -> Any:
        head = frame.info.get("head")
        frame.info["head"] = head if head in heads else heads[-1]
        more = {"head_name": frame.info["head"]} if named else {}
        config = data.config_from_atoms(frame, **more)
        return data.AtomicData.from_config(
            config, z_table=table, cutoff=float(network.r_max), **of_all
        )

    def predict(frames: Sequence[Any]) -> tuple[Any, Any, Any]:
        before = get_default_dtype()
        set_default_dtype(dtype)
        try:
            graphs = [graph(frame) for frame in frames]
            batch = torch_geometric.Batch.from_data_list(graphs).to(device)
            told = network(batch.to_dict(), compute_force=True)
        finally:
            set_default_dtype(before)
        return features.read(told), told["forces"], told["energy"]

    known = frozenset(chemical_symbols[z] for z in numbers)
    return Network(predict, path, features.layer, known, heads)


def of_calculator(calculator: Any, layer: int | None) -> Features:
    """Find the features of atoms in a ``MACECalculator`` of one network."""
    (network,) = calculator.models
    return find_features(network, layer)


def find_features(network: Any, layer: int | None) -> Features:
    """Find the features of atoms after a layer; None takes those of all layers together."""
    irreps = [_irreps_of(product) for product in network.products]
    starts = np.cumsum([0, *(part.dim for part in irreps)])
    of_layer = [start + scalars(part) for start, part in zip(starts, irreps, strict=False)]
    if layer is not None:
        of_layer = [of_layer[choose_layer(layer, len(irreps)) - 1]]
    columns = np.concatenate(of_layer)
    return Features(network, lambda told: told["node_feats"][:, columns], layer)


def _irreps_of(product: Any) -> Any:
    from e3nn import o3  # after MACE, which lets it load its constants with a newer PyTorch

    return o3.Irreps(str(product.linear.irreps_out))


def _load(path: Path, device: str) -> Any:
    """Load a network, or the weights of a checkpoint into the network of the same run.

    A checkpoint of a run with ``--ema`` holds the averaged weights, as the deployed network does.
    """
    import torch

    found = torch.load(path, map_location=device, weights_only=False)
    if isinstance(found, torch.nn.Module):
        return found
    if not isinstance(found, dict) or "model" not in found:
        raise InputError(f"{path} is neither a network nor a checkpoint of MACE")
    if any("lora_" in name for name in found["model"]):
        raise InputError(
            f"{path} holds the weights of adapters (LoRA), which MACE merges into the network at "
            "the end",
            hint="describe the .model of this run",
        )
    run = _EPOCH.sub("", path.stem)
    beside = [path.with_name(f"{run}{ending}") for ending in (".model", "_stagetwo.model")]
    whole = next((other for other in beside if other.is_file()), None)
    if whole is None:
        raise InputError(
            f"{path} holds weights only; the network they belong to is not there: {beside[0]}",
            hint="MACE writes it there when the training ends; copy the .model of this run there",
        )
    network = torch.load(whole, map_location=device, weights_only=False)
    network.load_state_dict(found["model"])
    return network
