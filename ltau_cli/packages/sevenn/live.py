"""The features of atoms in a ``SevenNetCalculator``."""

from __future__ import annotations

from typing import Any

from ltau_cli.packages.network import Features
from ltau_cli.packages.sevenn.describe import find_features


def of_calculator(calculator: Any, layer: int | None) -> Features:
    """Find them; None takes the last layer."""
    return find_features(calculator.model, layer)
