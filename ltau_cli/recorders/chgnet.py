"""CHGNet: the errors of its training, in the order of the structures as they were given to it."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ltau_cli.errors import InputError
from ltau_cli.recorders import hooks
from ltau_cli.recorders.frames import FrameFile, FrameLog

TESTED = ("0.4.2",)

_training: list[_Training] = []


def record_training(trainer: Any) -> None:
    """Record what the loss is computed of, in every epoch."""
    version = hooks.check_version("chgnet", TESTED)
    original = trainer.Trainer._train

    @functools.wraps(original)
    def train_epoch(self: Any, train_loader: Any, *args: Any, **kwargs: Any) -> Any:
        if not _training or _training[-1].loader is not train_loader:
            with hooks.or_refuse():
                _training.append(_Training(version, self, train_loader))
        training = _training[-1]
        watched = [
            self.model.register_forward_pre_hook(training.see_graphs),
            self.criterion.register_forward_pre_hook(training.note),
        ]
        try:
            result = original(self, train_loader, *args, **kwargs)
        finally:
            for hook in watched:
                hook.remove()
        training.log.end_epoch()
        return result

    trainer.Trainer._train = train_epoch


class _Training:
    """The log of a training. Graphs know their structure: CHGNet may replace what fails."""

    def __init__(self, version: str, trainer: Any, loader: Any) -> None:
        self.loader = loader
        self._graphs: list[Any] = []
        self._per_atom = bool(trainer.model.is_intensive)
        data = loader.dataset
        if not hasattr(data, "structures"):
            raise InputError(
                f"structures of a {type(data).__name__} have no numbers",
                hint="give CHGNet a chgnet.data.dataset.StructureData",
            )
        file = FrameFile(type(data).__name__)
        for structure in data.structures:
            file.natoms.append(len(structure))
            file.species += [site.specie.symbol for site in structure]
        positions = getattr(loader.sampler, "indices", range(len(data)))
        trained = [int(data.keys[i]) for i in positions]
        forces = "f" in trainer.targets
        self.log = FrameLog(f"CHGNet {version}", [file], trained, forces=forces)

    def see_graphs(self, _model: Any, given: tuple[Any, ...]) -> None:
        """Keep the graphs of a batch until its loss is computed."""
        self._graphs = given[0]

    def note(self, _criterion: Any, pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
        """Note the errors of a batch; where a reference is NaN, so is the error."""
        import torch

        targets, prediction = pair
        energies = (prediction["e"].detach() - targets["e"]).abs().reshape(-1)
        if not self._per_atom:
            natoms = [len(graph.atomic_number) for graph in self._graphs]
            energies = energies / torch.tensor(natoms, device=energies.device)
        forces = None
        if "f" in prediction:
            forces = torch.cat(prediction["f"]).detach() - torch.cat(targets["f"])
            forces = forces.norm(dim=1)
        frames = np.array([int(graph.graph_id) for graph in self._graphs])
        self.log.record(frames, forces, energies)
