"""The prediction's own trajectory: how weights that were kept during the training disagree."""

import numpy as np
import numpy.typing as npt

TRAJECTORY = "trajectory"  # name of the feature, in files and in the law of the calibration


def trajectory_of(
    forces: npt.NDArray[np.float64], kept: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Mean distance of the forces by kept weights from the final ones.

    Parameters
    ----------
    forces : (n_atoms, 3) float64
        Predicted by the trained network, eV/Å.
    kept : (n_weights, n_atoms, 3) float64
        Predicted by the weights of some epochs before.

    Returns
    -------
    (n_atoms,) float64
        In eV/Å.
    """
    return np.asarray(np.linalg.norm(kept - forces, axis=2).mean(axis=0))
