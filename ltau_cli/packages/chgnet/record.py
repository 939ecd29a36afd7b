"""CHGNet: the errors of its training, in the order of the structures as they were given to it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ltau_cli.errors import InputError
from ltau_cli.packages.frame_log import FrameFile, FrameLog, log_of
from ltau_cli.packages.hooks import around, guard, name_trainer


def record_training(trainer: Any) -> None:
    """Record what the loss is computed of, in every epoch."""
    import torch

    @around(trainer.Trainer, "_train", "train_loader")
    def train_epoch(original: Any, self: Any, train_loader: Any, *args: Any, **kwargs: Any) -> Any:
        log = log_of(train_loader, lambda: _begin(self, train_loader))
        graphs: list[Any] = []  # of the batch, which know their structures: CHGNet replaces some

        @guard
        def see_graphs(_network: Any, given: tuple[Any, ...]) -> None:
            graphs[:] = given[0]

        def note(_criterion: Any, pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
            _note(log, graphs, *pair, per_atom=bool(self.model.is_intensive))

        watched = [
            self.model.register_forward_pre_hook(see_graphs),
            self.criterion.register_forward_pre_hook(note),
        ]
        try:
            result = original(self, train_loader, *args, **kwargs)
        finally:
            for hook in watched:
                hook.remove()
        log.end_epoch(lambda path: torch.save({"model": self.model.as_dict()}, path), ".pth.tar")
        return result


def _begin(trainer: Any, loader: Any) -> FrameLog:
    data = loader.dataset
    if not hasattr(data, "structures"):
        raise InputError(
            f"structures of a {type(data).__name__} have no numbers",
            hint="give CHGNet a chgnet.data.dataset.StructureData",
        )
    positions = getattr(loader.sampler, "indices", range(len(data)))
    trained = [int(data.keys[i]) for i in positions]
    file, forces = FrameFile.of_structures(data), "f" in trainer.targets
    return FrameLog(name_trainer("chgnet"), [file], trained, forces=forces)


@guard
def _note(
    log: FrameLog, graphs: list[Any], targets: dict[str, Any], prediction: dict[str, Any],
    *, per_atom: bool,
) -> None:  # fmt: skip
    """Note the errors of a batch; where a reference is NaN, so is the error."""
    import torch

    energies = (prediction["e"].detach() - targets["e"]).reshape(-1)
    if not per_atom:
        natoms = [len(graph.atomic_number) for graph in graphs]
        energies = energies / torch.tensor(natoms, device=energies.device)
    forces = None
    if "f" in prediction:
        forces = torch.cat(prediction["f"]).detach() - torch.cat(targets["f"])
        forces = forces.norm(dim=1)
    numbers = torch.cat([graph.atomic_number for graph in graphs])
    frames = np.array([int(graph.graph_id) for graph in graphs])
    log.record(frames, forces, energies, numbers=numbers)
