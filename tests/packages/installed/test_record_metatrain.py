"""``ltau record`` with what is particular to metatrain."""

from __future__ import annotations

import numpy as np
import pytest

from tests.packages.installed.metatrain import PET, evaluate, frames
from tests.packages.installed.recording import log_of

pytestmark = [pytest.mark.metatrain, pytest.mark.filterwarnings("ignore")]


def test_pet_is_recorded_through_its_rotations(train):
    """Which turn each frame at random, so that an evaluation gives nearly these errors."""
    folder = train(kind=PET, lr=0.0, epochs=2)
    forces, _ = evaluate(folder, frames())
    log = log_of(folder / "logs")
    for epoch in log:
        seen = np.isfinite(epoch)
        assert np.corrcoef(epoch[seen], forces[seen])[0, 1] > 0.95
