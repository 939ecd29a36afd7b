"""MatGL: the errors of its training, in the order of the structures of its data set."""

from __future__ import annotations

import functools
from typing import Any

from ltau_cli.errors import InputError
from ltau_cli.recorders import hooks
from ltau_cli.recorders.drawn import DrawnBatches, of_lightning
from ltau_cli.recorders.frames import FrameFile, FrameLog, number_samples

TESTED = ("4.1.2",)

_training: list[_Training] = []


def record_training(training: Any) -> None:
    """Record what each training step returns: predictions and labels."""
    version = hooks.check_version("matgl", TESTED)
    module = training.PotentialLightningModule
    step, end_epoch = module.training_step, module.on_train_epoch_end

    @functools.wraps(step)
    def training_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = step(self, *args, **kwargs)
        drawn = of_lightning()
        if not _training or _training[-1].drawn is not drawn:
            with hooks.or_refuse():
                _training.append(_Training(version, drawn))
        _training[-1].note(output)
        return output

    @functools.wraps(end_epoch)
    def on_train_epoch_end(self: Any) -> None:
        end_epoch(self)
        if _training:
            _training[-1].log.end_epoch()

    module.training_step, module.on_train_epoch_end = training_step, on_train_epoch_end


class _Training:
    """The batches and the log of a training."""

    def __init__(self, version: str, drawn: DrawnBatches) -> None:
        self.drawn = drawn
        files, frames = number_samples(drawn.loader.dataset, _describe)
        self.log = FrameLog(f"MatGL {version}", files, frames)

    def note(self, output: dict[str, Any]) -> None:
        """Note the errors of a batch; where a label is NaN, so is the error."""
        energy, force = (
            predicted.detach() - label
            for predicted, label in zip(output["preds"][:2], output["labels"][:2], strict=True)
        )
        per_atom = energy.abs().reshape(-1) / output["num_atoms"]
        self.log.record(self.log.trained[self.drawn.pop()], force.norm(dim=1), per_atom)


def _describe(dataset: Any) -> FrameFile:
    if not hasattr(dataset, "graphs"):
        raise InputError(
            f"structures of a {type(dataset).__name__} cannot be numbered",
            hint="give MatGL an MGLDataset, or subsets of one",
        )
    file = FrameFile(type(dataset).__name__)
    file.natoms = [int(graph.num_nodes) for graph in dataset.graphs]
    for structure in dataset.structures:  # MatGL may drop them
        file.species += [site.specie.symbol for site in structure]
    return file
