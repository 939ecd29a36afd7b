"""DeePMD-kit: a checkpoint ``model.ckpt-N.pt``, or a frozen model, of its PyTorch backend.

Tested with deepmd-kit 3.2.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ltau_cli.errors import UsageError
from ltau_cli.packages.network import Network, choose_layer, need_file

_N_LAYERS = 2


def load(file: str, device: str | None, layer: int | None) -> Network:
    """Load a network; its descriptors are the last hidden layer of the fitting network.

    Layer 1 is the descriptor of DeePMD-kit, which the fitting network takes. These are what ``dp
    embed`` calls ``atomic_feature`` and ``descriptor``.
    """
    from deepmd.infer import DeepPot

    path = need_file(file)
    if device is not None:
        raise UsageError(
            "--device means nothing to --network deepmd:...",
            hint="DeePMD-kit takes a GPU if there is one; DEVICE=cpu in the environment forbids it",
        )
    number = choose_layer(layer, _N_LAYERS)
    network = DeepPot(str(path))
    types = network.get_type_map()
    features = network.eval_descriptor if number == 1 else network.eval_fitting_last_layer

    def predict(frames: Sequence[Any]) -> tuple[Any, Any, Any]:
        found, forces, energies = [], [], []
        for frame in frames:
            given = (
                frame.positions.reshape(1, -1),
                frame.cell.array.reshape(1, -1) if frame.pbc.any() else None,
                [types.index(symbol) for symbol in frame.get_chemical_symbols()],
            )
            energy, force = network.eval(*given)[:2]
            found.append(features(*given).reshape(len(frame), -1))
            forces.append(force.reshape(-1, 3))
            energies.append(energy.item())
        return found, forces, energies

    return Network(predict, path, number, frozenset(types))
