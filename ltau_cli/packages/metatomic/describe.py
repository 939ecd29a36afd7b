"""Metatomic: any exported network ``.pt`` that gives features of atoms, as metatrain's do.

Tested with metatomic-torch 0.1.19 and metatomic-ase 0.1.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ltau_cli.errors import InputError
from ltau_cli.packages.network import Network, choose_device, choose_layer, need_file

_EXTENSIONS = "extensions"  # where metatrain puts what a network is compiled with
_FEATURES = "feature"
_LAST = "mtt::aux::energy_last_layer_features"  # metatrain's name of them


def load(file: str, device: str | None, layer: int | None) -> Network:
    """Load a network; its descriptors are its last-layer features, or its ``feature``.

    Where it gives both, ``feature`` is layer 1. They are as invariant as the network makes them.
    """
    from ase.data import chemical_symbols
    from metatomic.torch import ModelOutput
    from metatomic_ase import MetatomicCalculator

    path = need_file(file)
    beside = path.parent / _EXTENSIONS
    extensions = beside if beside.is_dir() else None
    if extensions is not None and (extensions / "sphericart").is_dir():
        # Without its Python package PyTorch goes on without its gradients: forces are wrong.
        import sphericart.torch  # noqa: F401
    calculator = MetatomicCalculator(
        path, extensions_directory=extensions, device=choose_device(device)
    )
    told = calculator.model().capabilities()
    layers = [name for name in (_FEATURES, _LAST) if name in told.outputs]
    if not layers:
        raise InputError(
            f"{path} gives no features of atoms; it gives: " + ", ".join(sorted(told.outputs)),
            hint="export a network whose outputs hold feature, as metatrain's architectures do",
        )
    number = choose_layer(layer, len(layers))
    name = layers[number - 1]

    def predict(frames: Sequence[Any]) -> tuple[Any, Any, Any]:
        found = calculator.run_model(list(frames), {name: ModelOutput(sample_kind="atom")})[name]
        if len(found) != 1:
            found = found.keys_to_samples(found.keys.names)
        block = found.block()
        order = np.lexsort(
            (block.samples.column("atom").cpu(), block.samples.column("system").cpu())
        )
        features = block.values.detach().cpu().numpy()[order].reshape(len(order), -1)
        energies: dict[str, list[Any]] = {}
        if "energy" in told.outputs:
            energies = calculator.compute_energy(list(frames), compute_forces_and_stresses=True)
        return features, energies.get("forces"), energies.get("energy")

    known = frozenset(chemical_symbols[z] for z in told.atomic_types)
    return Network(predict, path, number if len(layers) > 1 else None, known)
