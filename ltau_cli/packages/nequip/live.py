"""The features of atoms in a ``NequIPCalculator`` whose network is not compiled."""

from __future__ import annotations

from typing import Any

from ltau_cli.packages.nequip.describe import find_features
from ltau_cli.packages.network import Features


def of_calculator(calculator: Any, layer: int | None) -> Features:
    """Find them; None takes the last layer."""
    return find_features(calculator.model, layer)
