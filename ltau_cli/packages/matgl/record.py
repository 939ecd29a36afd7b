"""MatGL: the errors of its training, in the order of the structures of its data set."""

from __future__ import annotations

from typing import Any

from ltau_cli.errors import InputError
from ltau_cli.packages.frame_log import FrameFile, end_epoch
from ltau_cli.packages.hooks import around
from ltau_cli.packages.lightning.record import log_of_training


def record_training(training: Any) -> None:
    """Record what each training step returns: predictions and labels."""
    module = training.PotentialLightningModule

    @around(module, "training_step")
    def training_step(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        output = original(self, *args, **kwargs)
        energy, force = (  # where a label is NaN, so is the error
            predicted.detach() - label
            for predicted, label in zip(output["preds"][:2], output["labels"][:2], strict=True)
        )
        per_atom = energy.reshape(-1) / output["num_atoms"]
        log_of_training("matgl", _describe).record_drawn(force.norm(dim=1), per_atom)
        return output

    @around(module, "on_train_epoch_end")
    def on_train_epoch_end(original: Any, self: Any) -> None:
        original(self)
        end_epoch(self.model.save)


def _describe(dataset: Any) -> FrameFile:
    if not hasattr(dataset, "graphs"):
        raise InputError(
            f"structures of a {type(dataset).__name__} cannot be numbered",
            hint="give MatGL an MGLDataset, or subsets of one",
        )
    file = FrameFile.of_structures(dataset)
    if not file.natoms:  # MatGL may drop the structures
        file.natoms = [int(graph.num_nodes) for graph in dataset.graphs]
    return file
