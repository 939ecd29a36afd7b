"""The features of atoms in a ``MACECalculator`` of one network."""

from __future__ import annotations

from typing import Any

from ltau_cli.packages.mace.describe import find_features
from ltau_cli.packages.network import Features


def of_calculator(calculator: Any, layer: int | None) -> Features:
    """Find them; None takes the last layer."""
    (network,) = calculator.models
    return find_features(network, layer)
