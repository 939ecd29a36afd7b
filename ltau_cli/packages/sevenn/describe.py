"""SevenNet: a checkpoint ``.pth``, or the name of pretrained weights in the package (7net-0)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ltau_cli.packages.network import (
    Features,
    Network,
    choose_device,
    choose_layer,
    need_file,
    scalars,
)

PRETRAINED = "7net-0"


def load(file: str, device: str | None, layer: int | None) -> Network:
    """Load a network; its descriptors are the scalars of the layer's node features, after the gate.

    A network of several fidelities takes the first of them.
    """
    import sevenn._keys as keys
    from ase.data import chemical_symbols
    from sevenn.atom_graph_data import AtomGraphData
    from sevenn.train.dataload import unlabeled_atoms_to_graph
    from sevenn.util import load_checkpoint, pretrained_name_to_path
    from torch_geometric.data import Batch

    name = file or PRETRAINED
    path = Path(name)
    if not path.exists() and path.name == name and "." not in name:
        path = Path(pretrained_name_to_path(name))
    need_file(path)
    device = choose_device(device)
    stored = load_checkpoint(path)
    network = stored.build_model().to(device).eval()
    network.set_is_batch_data(True)
    features = find_features(network, layer)
    modal = next(iter(network.modal_map), None) if network.modal_map else None

    def graph(frame: Any) -> Any:
        data = AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(frame, network.cutoff))
        if modal is not None:
            data[keys.DATA_MODALITY] = modal
        return data

    def predict(frames: Sequence[Any]) -> tuple[Any, Any, Any]:
        batch = Batch.from_data_list([graph(frame) for frame in frames]).to(device)
        with features.listen() as heard:
            told = network(batch)
        return heard[-1], told[keys.PRED_FORCE], told[keys.PRED_TOTAL_ENERGY].reshape(-1)

    known = frozenset(chemical_symbols[z] for z in stored.config[keys.TYPE_MAP])
    return Network(predict, path, features.layer, known)


def of_calculator(calculator: Any, layer: int | None) -> Features:
    """Find the features of atoms in a ``SevenNetCalculator``."""
    return find_features(calculator.model, layer)


def find_features(network: Any, layer: int | None) -> Features:
    """Find the features of atoms after a layer, the last by default."""
    import sevenn._keys as keys

    gates = [part for at, part in network._modules.items() if at.endswith("_equivariant_gate")]
    number = choose_layer(layer, len(gates))
    part = gates[number - 1]
    columns = scalars(part.gate.irreps_out)
    return Features(part, lambda told: told[keys.NODE_FEATURE][:, columns], number)
