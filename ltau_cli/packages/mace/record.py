"""MACE: the errors of its training, in the order of its training files."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import Any

from ltau_cli.packages.frame_log import DrawnBatches, FrameFile, FrameLog, log_of, unwrapped
from ltau_cli.packages.hooks import around, guard, name_trainer

MARK = "__ltau_frame__"  # such names are left out of MACE's batches

_files: list[FrameFile] = []  # training files, as MACE reads them


def number_frames(utils: Any) -> None:
    """Let every configuration know the file and frame that it was made of.

    Frames of isolated atoms, which MACE takes its atomic energies from, do not count, unless it is
    told to keep them.
    """
    signature = inspect.signature(utils.load_from_xyz)
    made: list[Any] = []  # frames of the file that is being read

    @around(utils, "config_from_atoms_list")
    def config_from_atoms_list(original: Any, atoms_list: Any, *args: Any, **kwargs: Any) -> Any:
        made[:] = atoms_list
        return original(atoms_list, *args, **kwargs)

    @around(utils, "load_from_xyz", "file_path", "extract_atomic_energies")
    def load_from_xyz(original: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        given = signature.bind(*args, **kwargs).arguments
        if given.get("extract_atomic_energies"):  # only of training files
            for number, config in enumerate(result[1]):
                setattr(config, MARK, (len(_files), number))
            _files.append(FrameFile.of_atoms("", [given["file_path"]], made))
        made.clear()
        return result


def keep_numbers(atomic_data: Any) -> None:
    """Let every graph know the frame of its configuration, or its atomic numbers."""

    @around(atomic_data.AtomicData, "from_config", "config")
    def from_config(original: Any, cls: Any, config: Any, *args: Any, **kwargs: Any) -> Any:
        graph = original(cls, config, *args, **kwargs)
        vars(graph)[MARK] = getattr(config, MARK, None) or config.atomic_numbers
        return graph


def record_training(train: Any) -> None:
    """Record what the loss is computed of, in every epoch."""
    signature = inspect.signature(train.train_one_epoch)

    @around(train, "train_one_epoch", "data_loader", "loss_fn", "output_args")
    def train_one_epoch(original: Any, *args: Any, **kwargs: Any) -> Any:
        call = signature.bind(*args, **kwargs)
        given = call.arguments
        told, loss_fn = given["output_args"], given["loss_fn"]
        forces, energies = bool(told.get("forces")), bool(told.get("energy"))

        def begin() -> FrameLog:
            loader = given["data_loader"]
            samples, drawn = _number_samples(loader.dataset), DrawnBatches(loader)
            return FrameLog(
                name_trainer("mace"), *samples, drawn=drawn, forces=forces, energies=energies
            )

        log = log_of(given["data_loader"], begin)

        def loss(*args: Any, **kwargs: Any) -> Any:
            note(log, given["model"], forces, energies, *args, **kwargs)
            return loss_fn(*args, **kwargs)

        given["loss_fn"] = loss
        result = original(*call.args, **call.kwargs)
        log.end_epoch(functools.partial(save, given["model"]), ".model")
        return result


@guard
def note(
    log: FrameLog, network: Any, forces: bool, energies: bool, pred: dict[str, Any], ref: Any
) -> None:
    """Note the errors of a batch; those without a reference are NaN."""
    reference = force_errors = energy_errors = None
    if forces:
        unknown = (ref["forces_weight"] == 0)[ref["batch"]]
        reference = ref["forces"].masked_fill(unknown[:, None], float("nan"))
        force_errors = (pred["forces"].detach() - reference).norm(dim=1)
    if energies:
        natoms = ref.ptr[1:] - ref.ptr[:-1]
        energy_errors = (pred["energy"].detach() - ref["energy"]) / natoms
        energy_errors.masked_fill_(ref["energy_weight"] == 0, float("nan"))
    numbers = unwrapped(network).atomic_numbers[ref["node_attrs"].argmax(dim=1)]
    log.record_drawn(force_errors, energy_errors, reference, numbers)


def save(network: Any, path: Path) -> None:
    """Save a network with its weights as they are."""
    import torch

    torch.save(unwrapped(network), path)


def _number_samples(dataset: Any) -> tuple[list[FrameFile], list[int]]:
    """Files of a training set, and the number of each sample among all their frames.

    What was not read from frames (HDF5, LMDB) counts as a file of its own, in its order.
    """
    unknown: list[FrameFile] = []
    places: list[tuple[FrameFile, int]] = []
    for number, part in enumerate(getattr(dataset, "datasets", [dataset])):  # 0.3.6 has a list
        own = FrameFile(f"training set {number}")
        for i in range(len(part)):
            graph = part[i]
            mark = vars(graph).get(MARK)
            if isinstance(mark, tuple):
                places.append((_files[mark[0]], mark[1]))
            else:
                places.append((own, len(own.natoms)))
                own.add(mark, graph.positions)
        unknown.append(own)
    used = {id(file) for file, _ in places}
    files = [file for file in (*_files, *unknown) if id(file) in used]
    starts, first = {}, 0
    for file in files:
        starts[id(file)] = first
        first += len(file.natoms)
    return files, [starts[id(file)] + frame for file, frame in places]
