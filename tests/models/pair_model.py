"""A pair potential as an exported metatomic model, fitted to the forces of some frames."""

# ruff: noqa: UP006, UP035, UP045 (TorchScript knows the names of typing only)

from pathlib import Path
from typing import Dict, List, Optional

import numpy as np
import torch
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import (
    AtomisticModel,
    ModelCapabilities,
    ModelMetadata,
    ModelOutput,
    NeighborListOptions,
    System,
)

CUTOFF, WIDTH = 5.0, 0.35
CENTERS = np.arange(2.0, CUTOFF, WIDTH)


class Pairs(torch.nn.Module):
    """Features are Gaussians of the distances to neighbors; the energy is linear in them."""

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("centers", torch.tensor(CENTERS))
        self.register_buffer("weights", torch.tensor(weights))
        self.width = WIDTH
        self.cutoff = CUTOFF

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:
        return [NeighborListOptions(cutoff=self.cutoff, full_list=True, strict=True)]

    def forward(
        self,
        systems: List[System],
        outputs: Dict[str, ModelOutput],
        selected_atoms: Optional[Labels] = None,
    ) -> Dict[str, TensorMap]:
        energies: List[torch.Tensor] = []
        features: List[torch.Tensor] = []
        samples: List[torch.Tensor] = []
        options = self.requested_neighbor_lists()[0]
        for i, system in enumerate(systems):
            pairs = system.get_neighbor_list(options)
            distances = pairs.values.reshape(-1, 3).square().sum(dim=1, keepdim=True).sqrt()
            gaussians = torch.exp(-(((distances - self.centers) / self.width) ** 2))
            own = torch.zeros((len(system), self.centers.shape[0]), dtype=gaussians.dtype)
            own = own.index_add(0, pairs.samples.column("first_atom").to(torch.int64), gaussians)
            features.append(own)
            energies.append((own @ self.weights).sum().reshape(1))
            atoms = torch.arange(len(system), dtype=torch.int32)
            samples.append(torch.stack([torch.full_like(atoms, i), atoms], dim=1))
        key = Labels(["_"], torch.tensor([[0]], dtype=torch.int32))
        told: Dict[str, TensorMap] = {}
        if "energy" in outputs:
            own_sample = Labels(
                ["system"], torch.arange(len(systems), dtype=torch.int32).reshape(-1, 1)
            )
            block = TensorBlock(
                torch.cat(energies).reshape(-1, 1),
                own_sample,
                [],
                Labels(["energy"], torch.tensor([[0]], dtype=torch.int32)),
            )
            told["energy"] = TensorMap(key, [block])
        if "feature" in outputs:
            values = torch.cat(features)
            block = TensorBlock(
                values,
                Labels(["system", "atom"], torch.cat(samples)),
                [],
                Labels(
                    ["feature"],
                    torch.arange(values.shape[1], dtype=torch.int32).reshape(-1, 1),
                ),
            )
            told["feature"] = TensorMap(key, [block])
        return told


def fit_weights(frames: list) -> np.ndarray:
    """Least squares of the forces, which are linear in the weights."""
    rows, wanted = [], []
    for frame in frames:
        apart = frame.positions[:, None] - frame.positions[None]
        distances = np.linalg.norm(apart, axis=-1)
        np.fill_diagonal(distances, np.inf)
        distances[distances > CUTOFF] = np.inf
        toward = np.nan_to_num(apart / distances[..., None])
        near = np.where(np.isfinite(distances), distances, 1e3)[..., None]
        slopes = -2 * (near - CENTERS) / WIDTH**2 * np.exp(-(((near - CENTERS) / WIDTH) ** 2))
        rows.append(-2 * np.einsum("ijk,ijx->ixk", slopes, toward).reshape(-1, len(CENTERS)))
        wanted.append(frame.arrays["REF_forces"].ravel())
    return np.linalg.lstsq(np.concatenate(rows), np.concatenate(wanted), rcond=1e-8)[0]


def export(frames: list, path: Path) -> None:
    """Fit to the forces of frames and save the model."""
    capabilities = ModelCapabilities(
        outputs={
            "energy": ModelOutput(unit="eV", sample_kind="system"),
            "feature": ModelOutput(sample_kind="atom"),
        },
        atomic_types=[29, 79],
        interaction_range=CUTOFF,
        length_unit="angstrom",
        supported_devices=["cpu"],
        dtype="float64",
    )
    model = Pairs(fit_weights(frames)).eval()
    AtomisticModel(model, ModelMetadata(), capabilities).save(str(path))
