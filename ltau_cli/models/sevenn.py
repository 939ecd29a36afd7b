"""SevenNet: a checkpoint ``.pth``, or the name of pretrained weights in the package (7net-0).

Tested with sevenn 0.13.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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

PRETRAINED = "7net-0"


def load(file: str, device: str | None, layer: int | None) -> Predictor:
    """Load a model; its descriptors are the scalars of the layer's node features, after the gate.

    A model of several fidelities takes the first of them.
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
    model = stored.build_model().to(device).eval()
    model.set_is_batch_data(True)
    features = _find(model, layer, name)
    modal = next(iter(model.modal_map), None) if model.modal_map else None

    def graph(frame: Any) -> Any:
        data = AtomGraphData.from_numpy_dict(unlabeled_atoms_to_graph(frame, model.cutoff))
        if modal is not None:
            data[keys.DATA_MODALITY] = modal
        return data

    def predict(frames: Sequence[Any]) -> Prediction:
        batch = Batch.from_data_list([graph(frame) for frame in frames]).to(device)
        with features.listen() as heard:
            told = model(batch)
        return to_prediction(heard[-1], told[keys.PRED_FORCE], told[keys.PRED_TOTAL_ENERGY])

    known = frozenset(chemical_symbols[z] for z in stored.config[keys.TYPE_MAP])
    return Predictor(predict, path, features.layer, known)


def of_calculator(calculator: Any, layer: int | None) -> Features:
    """Find the features in a ``SevenNetCalculator``."""
    return _find(calculator.model, layer, "the network")


def _find(model: Any, layer: int | None, what: str) -> Features:
    import sevenn._keys as keys

    gates = [part for at, part in model._modules.items() if at.endswith("_equivariant_gate")]
    number = choose_layer(layer, len(gates), what)
    part = gates[number - 1]
    columns = scalars(part.gate.irreps_out)
    return Features(part, lambda told: told[keys.NODE_FEATURE][:, columns], number)
