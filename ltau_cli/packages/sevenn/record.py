"""SevenNet: the errors of its training, in the order of its training files."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from ltau_cli.packages.frame_log import DrawnBatches, FrameFile, FrameLog, log_of, number_samples
from ltau_cli.packages.hooks import around, guard, name_trainer


def record_training(trainer: Any) -> None:
    """Record what the network returns in each step of a training epoch: prediction, reference."""
    configs: dict[int, Any] = {}  # of each trainer, which a checkpoint holds

    @around(trainer.Trainer, "from_config")
    def from_config(original: Any, model: Any, config: Any) -> Any:
        made = original(model, config)
        configs[id(made)] = config
        return made

    @around(trainer.Trainer, "run_one_epoch", "loader", "is_train")
    def run_one_epoch(
        original: Any, self: Any, loader: Any, is_train: bool = False, *args: Any, **kwargs: Any
    ) -> Any:
        if not is_train:
            return original(self, loader, is_train, *args, **kwargs)
        log = log_of(loader, lambda: _begin(loader))
        hook = self.model.register_forward_hook(lambda _network, _batch, told: _note(log, told))
        try:
            result = original(self, loader, is_train, *args, **kwargs)
        finally:
            hook.remove()
        config = configs.get(id(self))
        log.end_epoch(config and functools.partial(_save, self, config), ".pth")
        return result


def _save(trainer: Any, config: Any, path: Path) -> None:
    """Save a checkpoint, without the state of the optimizer."""
    import torch

    told = trainer.get_checkpoint_dict()
    told["optimizer_state_dict"] = told["scheduler_state_dict"] = None
    torch.save({**told, "config": config, "epoch": 0}, path)


def _begin(loader: Any) -> FrameLog:
    samples = number_samples(loader.dataset, _describe)
    return FrameLog(name_trainer("sevenn"), *samples, drawn=DrawnBatches(loader))


@guard
def _note(log: FrameLog, output: Any) -> None:
    """Note the errors of a batch; where a reference is NaN, so is the error."""
    reference = output["force_of_atoms"].detach()
    force = output["inferred_force"].detach() - reference
    energy = output["inferred_total_energy"].detach() - output["total_energy"]
    per_atom = energy.reshape(-1) / output["num_atoms"].reshape(-1)
    log.record_drawn(force.norm(dim=1), per_atom, reference, output["atomic_numbers"])


def _describe(dataset: Any) -> FrameFile:
    name, paths = type(dataset).__name__, getattr(dataset, "_files", None) or ()
    if hasattr(dataset, "_atoms_list"):  # its items are made into graphs as they are needed
        return FrameFile.of_atoms(name, paths, dataset._atoms_list)
    file = FrameFile.of_paths(name, paths)
    for i in range(len(dataset)):
        graph = dataset[i]
        file.add(graph["atomic_numbers"], graph["pos"])
    return file
