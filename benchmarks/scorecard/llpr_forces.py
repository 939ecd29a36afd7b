"""How much the forces of a network that metatrain's LLPR wraps spread, in metatrain's environment.

    python llpr_forces.py llpr.pt frames.xyz spread.npy

LLPR draws an ensemble of last layers; its output ``energy_ensemble`` gives the gradient of each
member. The spread of an atom (n,) is the standard deviation of its forces, all components together.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ase.io
import numpy as np


def main() -> None:
    """Evaluate frame by frame."""
    import sphericart.torch  # noqa: F401  (else PyTorch leaves its gradients out)
    from metatomic.torch import ModelOutput
    from metatomic_ase import MetatomicCalculator

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", type=Path)
    parser.add_argument("frames", type=Path)
    parser.add_argument("output", type=Path)
    chosen = parser.parse_args()
    calculator = MetatomicCalculator(
        chosen.network, device="cpu", extensions_directory=chosen.network.parent / "extensions"
    )
    name = "energy_ensemble"
    wanted = {name: ModelOutput(sample_kind="system", explicit_gradients=["positions"])}
    spread = []
    for frame in ase.io.iread(chosen.frames, ":"):
        gradient = calculator.run_model(frame, wanted)[name].block().gradient("positions")
        forces = gradient.values.detach().numpy()  # (n, 3, members), up to the sign
        spread.append(np.sqrt(forces.var(axis=2, ddof=1).sum(axis=1)))
    np.save(chosen.output, np.concatenate(spread))


if __name__ == "__main__":
    main()
