"""The prediction's own trajectory: how weights that were kept during the training disagree."""

import numpy as np

from ltau_cli.array_types import Floats

TRAJECTORY = "trajectory"  # name of the feature, in files and in the law of the calibration


def trajectory_of(forces: Floats, kept: Floats) -> Floats:
    """Mean distance (n_atoms,) of the forces (n_weights, n_atoms, 3) by kept weights.

    From ``forces`` (n_atoms, 3), those of the trained network; all in eV/Å.
    """
    return np.asarray(np.linalg.norm(kept - forces, axis=2).mean(axis=0))
