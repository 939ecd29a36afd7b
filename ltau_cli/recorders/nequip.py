"""NequIP (and Allegro): the errors of its training, in the order of its training file."""

from __future__ import annotations

import functools
from typing import Any

from ltau_cli.errors import InputError
from ltau_cli.recorders import hooks
from ltau_cli.recorders.drawn import DrawnBatches, of_lightning
from ltau_cli.recorders.frames import FrameFile, FrameLog, number_samples

TESTED = ("0.19.1",)

_training: list[_Training] = []


def record_training(lightning: Any) -> None:
    """Record what the loss is computed of, in every epoch."""
    version = hooks.check_version("nequip", TESTED)
    module = lightning.NequIPLightningModule
    initialize, end_epoch = module.__init__, module.on_train_epoch_end

    def note(_loss: Any, pair: tuple[Any, ...]) -> None:
        drawn = of_lightning()
        if not _training or _training[-1].drawn is not drawn:
            with hooks.or_refuse():
                _training.append(_Training(version, drawn, *pair))
        _training[-1].note(*pair)

    @functools.wraps(initialize)
    def with_hook(self: Any, *args: Any, **kwargs: Any) -> None:
        initialize(self, *args, **kwargs)
        if self.loss is not None:
            self.loss.register_forward_pre_hook(note)

    @functools.wraps(end_epoch)
    def with_log(self: Any) -> None:
        end_epoch(self)
        if _training:
            _training[-1].log.end_epoch()

    module.__init__, module.on_train_epoch_end = with_hook, with_log


class _Training:
    """The batches and the log of a training."""

    def __init__(
        self, version: str, drawn: DrawnBatches, output: dict[str, Any], target: dict[str, Any]
    ) -> None:
        self.drawn = drawn
        both = output.keys() & target.keys()
        self._forces, self._energies = "forces" in both, "total_energy" in both
        files, frames = number_samples(drawn.loader.dataset, _describe)
        self.log = FrameLog(
            f"NequIP {version}", files, frames, forces=self._forces, energies=self._energies
        )

    def note(self, output: dict[str, Any], target: dict[str, Any]) -> None:
        """Note the errors of a batch; where a reference is NaN, so is the error."""
        forces = energies = None
        if self._forces:
            forces = (output["forces"].detach() - target["forces"]).norm(dim=1)
        if self._energies:
            difference = (output["total_energy"].detach() - target["total_energy"]).abs()
            energies = difference.reshape(-1) / target["num_atoms"].reshape(-1)
        self.log.record(self.log.trained[self.drawn.pop()], forces, energies)


def _describe(dataset: Any) -> FrameFile:
    if not hasattr(dataset, "num_atoms"):
        raise InputError(f"samples of a {type(dataset).__name__} cannot be numbered")
    file = FrameFile(str(getattr(dataset, "file_path", type(dataset).__name__)))
    file.natoms = [int(n) for n in dataset.num_atoms(list(range(len(dataset))))]
    if hasattr(dataset, "data_list"):  # ASEDataset: all in memory
        for data in dataset.data_list:
            file.add_species(data["atomic_numbers"])
    return file
