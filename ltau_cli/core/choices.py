"""What options are chosen from; imports nothing heavy, so that help texts are fast."""

from __future__ import annotations

from typing import Literal

Grid = Literal["log", "linear"]
Scale = Literal["none", "standard", "whiten"]
Metric = Literal["euclidean", "cosine"]
Weighting = Literal["uniform", "inverse-distance"]
Index = Literal["auto", "cells", "exact", "nndescent"]
LeftOut = Literal["sample", "structure"]
Method = Literal["distance", "scale", "isotonic", "threshold"]
Emphasis = Literal["hard", "easy"]

QUANTILES = (0.5, 0.9, 0.95)  # error quantiles that are predicted by default
