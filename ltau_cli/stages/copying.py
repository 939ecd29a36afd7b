"""Steps that a first ingest and an appending one share."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.errors import InputError, LtauWarning
from ltau_cli.readers.logs.open import ErrorLog
from ltau_cli.readers.place import Place


def note_inputs(hasher: Hasher, places: Sequence[Place], log: ErrorLog) -> None:
    """Hash the files that are read of each log."""
    for place in places:
        files = [path for path in log.files if path == place.path or place.path in path.parents]
        if not files:  # nothing new in this one
            continue
        hasher.add("log", place.path, "error log", files, key=place.key)


def refuse_never_logged(n_logged: npt.NDArray[np.int32], place: Place, allow_missing: bool) -> None:
    """Refuse samples without a single error.

    Raises
    ------
    InputError
        With their number and the first; always if no sample has any.
    """
    never = np.flatnonzero(n_logged == 0)
    if len(never) == len(n_logged):
        raise InputError(f"{place}: every error is missing (NaN, infinite or a sentinel)")
    if len(never) and not allow_missing:
        raise InputError(
            f"{place}: {len(never):,} of {len(n_logged):,} samples were never logged "
            f"(missing in every epoch), the first is sample {never[0]}",
            hint="if they were held out of the training: --allow-missing, and they carry no weight",
        )


def tell(report: dict[str, Any], log: ErrorLog) -> dict[str, Any]:
    """Give out the warnings of a report and return it."""
    for line in [*log.warnings, *report["warnings"]]:
        warnings.warn(line, LtauWarning, stacklevel=3)
    return report
