"""True errors of scored rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ltau_cli.errors import InputError
from ltau_cli.readers.arrays import Place, read_array


def read_true_errors(place: Place, n: int, scores: str) -> npt.NDArray[np.float64]:
    """Read the true error of each of ``n`` scored rows.

    Parameters
    ----------
    place : Place
        (n,) magnitudes, or (n, 3) error vectors whose norms are taken.
    n : int
        Rows of the scores.
    scores : str
        Name of the scores, for messages.

    Returns
    -------
    (n,) float64
        Error units.

    Raises
    ------
    InputError
        If the count differs or values are negative or not finite.
    """
    values = read_array(place, names=("errors", "true_errors", "force_errors")).astype(np.float64)
    if values.ndim == 2 and values.shape[1] == 3:
        values = np.linalg.norm(values, axis=1)
    elif values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise InputError(f"{place} has shape {values.shape}; true errors are (n,) or (n, 3)")
    if len(values) != n:
        raise InputError(
            f"{place} has {len(values):,} true errors, {scores} has {n:,} rows",
            hint="give the errors of the very rows that were scored, in the same order",
        )
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise InputError(
            f"{place}: {len(bad):,} true errors are NaN or infinite, the first is row {bad[0]}"
        )
    bad = np.flatnonzero(values < 0)
    if len(bad):
        raise InputError(
            f"{place}: {len(bad):,} true errors are negative, the first is row {bad[0]}",
            hint="an error is a magnitude: |predicted - reference|, or the norm of the difference",
        )
    return values
