"""Metatrain: the errors of its training, in the order of its training files."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ltau_cli.errors import InputError
from ltau_cli.packages.frame_log import (
    DrawnBatches,
    FrameFile,
    FrameLog,
    number_samples,
    unwrapped,
)
from ltau_cli.packages.hooks import around, name_trainer, or_refuse

_scalers: list[Any] = []  # of the training that is set up
_training: list[_Training] = []


def keep_scaler(remove: Any) -> None:
    """Keep what scales the targets, as it is given to what divides them by it."""

    @around(remove, "get_remove_scale_transform", "scaler")
    def get_remove_scale_transform(original: Any, scaler: Any) -> Any:
        _scalers[:] = [scaler]
        return original(scaler)


def watch_batches(combine: Any) -> None:
    """Watch which samples each training batch holds, and end epochs.

    Only the loader of the training is shuffled. It begins to draw as soon as it is made.
    """

    @around(combine.CombinedDataLoader, "__init__", "dataloaders", "shuffle")
    def initialize(original: Any, self: Any, dataloaders: Sequence[Any], shuffle: bool) -> None:
        if shuffle:
            with or_refuse():
                _training[:] = [_Training(self, dataloaders)]
        original(self, dataloaders, shuffle)

    @around(combine.CombinedDataLoader, "__next__")
    def draw(original: Any, self: Any) -> Any:
        training = _training[-1] if _training and _training[-1].loader is self else None
        if training is None:
            return original(self)
        number = self.current_index
        try:
            batch = original(self)
        except StopIteration:
            training.end_epoch()
            raise
        training.begin_batch(self.indices[number])
        return batch


def see_network(evaluate: Any) -> None:
    """See the network that is trained, as it is evaluated for the loss."""

    @around(evaluate, "evaluate_model")
    def evaluate_model(original: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        if _training and kwargs.get("is_training"):
            _training[-1].network = model
        return original(model, *args, **kwargs)


def see_predictions(per_atom: Any) -> None:
    """See predictions and then targets of a batch, as energies are divided by numbers of atoms."""

    @around(per_atom, "average_by_num_atoms")
    def average(original: Any, tensors: Any, systems: Any, *args: Any, **kwargs: Any) -> Any:
        if _training:
            _training[-1].see(tensors, systems)
        return original(tensors, systems, *args, **kwargs)


class _Training:
    """The batches and the log of a training."""

    def __init__(self, loader: Any, parts: Sequence[Any]) -> None:
        self.loader = loader
        self._trainer = name_trainer("metatrain")
        self._parts = [DrawnBatches(part) for part in parts]
        self._files: list[FrameFile] = []
        self._numbers: list[list[int]] = []  # of the frames of each part
        for number, part in enumerate(parts):
            first = sum(len(file.natoms) for file in self._files)
            files, frames = number_samples(part.dataset, _describe)
            for file in files:
                file.name = f"training set {number}"
            self._files += files
            self._numbers.append([first + frame for frame in frames])
        self._log: FrameLog | None = None
        self.network: Any = None  # as it is trained
        self._frames: list[int] = []  # of the batch; none of what is not trained on
        self._predicted: Any = None

    def begin_batch(self, part: int) -> None:
        """Take the numbers of the batch that comes next, of one of the data sets."""
        self._frames = [self._numbers[part][i] for i in self._parts[part].pop()]
        self._predicted = None

    def see(self, tensors: Mapping[str, Any], systems: Sequence[Any]) -> None:
        """Take the predictions of a training batch, then its targets, and note the errors."""
        if not self._frames:
            return
        if self._predicted is None:
            self._predicted = tensors
            return
        self._note(self._predicted, tensors, systems)
        self._frames, self._predicted = [], None

    def end_epoch(self) -> None:
        """Write the epoch."""
        if self._log is not None:
            self._log.end_epoch(self._save, ".pt")

    def _save(self, path: Path) -> None:
        """Export a copy of the network with its weights as they are."""
        import torch

        # compiled functions cannot be copied, and have no weights
        function: Any = torch.jit.ScriptFunction
        function.__deepcopy__ = lambda own, _memo: own
        exported = copy.deepcopy(unwrapped(self.network)).export()
        exported.save(str(path), collect_extensions=str(path.with_name("extensions")))

    def _note(
        self, predicted: Mapping[str, Any], targets: Mapping[str, Any], systems: Sequence[Any]
    ) -> None:
        """Note the errors of a batch; where a reference is NaN, so is the error.

        What the composition adds to the energies is in neither of the two, and is the same in both.
        """
        import numpy as np
        import torch

        natoms = [len(system) for system in systems]
        numbers = torch.cat([system.types for system in systems])
        if self._log is None:
            with or_refuse():
                self._name = _name_energy(targets, self._trainer)
        name = self._name
        scale = float(_scalers[-1].model.per_target_scales[name].block().values[0, 0])
        wanted, told = targets[name].block(), predicted[name].block()
        has_forces = "positions" in wanted.gradients_list()
        if self._log is None:
            trained = [frame for part in self._numbers for frame in part]
            with or_refuse():
                self._log = FrameLog(self._trainer, self._files, trained, forces=has_forces)
        energies = (told.values.detach() - wanted.values).reshape(-1) * scale
        forces = None
        if has_forces:
            slopes = [block.gradient("positions").values.detach() for block in (told, wanted)]
            forces = (slopes[0] - slopes[1]).reshape(-1, 3).norm(dim=1) * scale
        self._log.record(
            np.array(self._frames),
            forces,
            energies / torch.tensor(natoms, device=energies.device),
            numbers=numbers,
        )


def _name_energy(targets: Mapping[str, Any], trainer: str) -> str:
    """Name the energy among the targets: what has forces, else what is called energy."""
    of_frames = [
        name
        for name, target in targets.items()
        if len(target) == 1 and target.block().samples.names == ["system"]
    ]
    with_forces = [
        name for name in of_frames if "positions" in targets[name].block().gradients_list()
    ]
    names = with_forces or [name for name in of_frames if name.partition("/")[0] == "energy"]
    if len(names) != 1 or not _scalers:
        raise InputError(
            f"{trainer} is trained on {', '.join(targets)} here, not on one energy",
            hint="ltau record knows the energy, with forces as its gradient; train without it, "
            "and evaluate exported models: ltau describe",
        )
    return names[0]


def _describe(dataset: Any) -> FrameFile:
    file = FrameFile(type(dataset).__name__)
    for i in range(len(dataset)):
        system = dataset[i].system
        file.add(system.types, system.positions)
    return file
