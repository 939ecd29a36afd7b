"""SevenNet: the errors of its training, in the order of its training files."""

from __future__ import annotations

import functools
from typing import Any

from ltau_cli.recorders import hooks
from ltau_cli.recorders.drawn import DrawnBatches
from ltau_cli.recorders.frames import FrameFile, FrameLog, number_samples

TESTED = ("0.13.0",)

_training: list[_Training] = []


def record_training(trainer: Any) -> None:
    """Record what the model returns in each step of a training epoch: prediction and reference."""
    version = hooks.check_version("sevenn", TESTED)
    original = trainer.Trainer.run_one_epoch

    @functools.wraps(original)
    def run_one_epoch(
        self: Any, loader: Any, is_train: bool = False, *args: Any, **kwargs: Any
    ) -> Any:
        if not is_train:
            return original(self, loader, is_train, *args, **kwargs)
        if not _training or _training[-1].drawn.loader is not loader:
            with hooks.or_refuse():
                _training.append(_Training(version, loader))
        hook = self.model.register_forward_hook(_training[-1].note)
        try:
            result = original(self, loader, is_train, *args, **kwargs)
        finally:
            hook.remove()
        _training[-1].log.end_epoch()
        return result

    trainer.Trainer.run_one_epoch = run_one_epoch


class _Training:
    """The batches and the log of a training."""

    def __init__(self, version: str, loader: Any) -> None:
        self.drawn = DrawnBatches(loader)
        files, frames = number_samples(loader.dataset, _describe)
        self.log = FrameLog(f"SevenNet {version}", files, frames)

    def note(self, _model: Any, _batch: Any, output: Any) -> None:
        """Note the errors of a batch; where a reference is NaN, so is the error."""
        force = output["inferred_force"].detach() - output["force_of_atoms"]
        energy = output["inferred_total_energy"].detach() - output["total_energy"]
        per_atom = energy.abs().reshape(-1) / output["num_atoms"].reshape(-1)
        self.log.record(self.log.trained[self.drawn.pop()], force.norm(dim=1), per_atom)


def _describe(dataset: Any) -> FrameFile:
    name = ", ".join(map(str, getattr(dataset, "_files", ()))) or type(dataset).__name__
    if hasattr(dataset, "_atoms_list"):  # its items are made into graphs as they are needed
        return FrameFile.of_atoms(name, dataset._atoms_list)
    file = FrameFile(name)
    for i in range(len(dataset)):
        numbers = dataset[i]["atomic_numbers"]
        file.natoms.append(len(numbers))
        file.add_species(numbers)
    return file
