"""NequIP (and Allegro): the errors of its training, in the order of its training file."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from ltau_cli.errors import InputError
from ltau_cli.packages.frame_log import FrameFile, end_epoch
from ltau_cli.packages.hooks import around, guard
from ltau_cli.packages.lightning.record import log_of_training


def record_training(lightning: Any) -> None:
    """Record what the loss is computed of, in every epoch."""
    module = lightning.NequIPLightningModule

    @around(module, "__init__")
    def with_hook(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if self.loss is not None:
            self.loss.register_forward_pre_hook(_note)

    @around(module, "on_train_epoch_end")
    def with_log(original: Any, self: Any) -> None:
        original(self)
        end_epoch(functools.partial(_save, self), ".ckpt")


def _save(module: Any, path: Path) -> None:
    """Save a checkpoint of the weights as they are, also in the place of their average."""
    import torch

    told = module.trainer._checkpoint_connector.dump_checkpoint(weights_only=True)
    for number, weights in enumerate(module.model.parameters()):
        averaged = f"ema.ema_weight_{number}"
        if averaged in told["state_dict"]:
            told["state_dict"][averaged] = weights.detach()
    torch.save(told, path)


@guard
def _note(_loss: Any, pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Note the errors of a batch; where a reference is NaN, so is the error."""
    output, target = pair
    both = output.keys() & target.keys()
    has_forces, has_energies = "forces" in both, "total_energy" in both
    log = log_of_training("nequip", _describe, forces=has_forces, energies=has_energies)
    reference = forces = energies = None
    if has_forces:
        reference = target["forces"].detach()
        forces = (output["forces"].detach() - reference).norm(dim=1)
    if has_energies:
        difference = output["total_energy"].detach() - target["total_energy"]
        energies = difference.reshape(-1) / target["num_atoms"].reshape(-1)
    log.record_drawn(forces, energies, reference, target.get("atomic_numbers"))


def _describe(dataset: Any) -> FrameFile:
    if not hasattr(dataset, "num_atoms"):
        raise InputError(f"samples of a {type(dataset).__name__} cannot be numbered")
    path = getattr(dataset, "file_path", None)
    file = FrameFile.of_paths(type(dataset).__name__, [path] if path else [])
    if hasattr(dataset, "data_list"):  # ASEDataset: all in memory
        for data in dataset.data_list:
            file.add(data["atomic_numbers"], data["pos"])
    else:
        file.natoms = [int(n) for n in dataset.num_atoms(list(range(len(dataset))))]
    return file
