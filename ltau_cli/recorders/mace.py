"""MACE: the errors of its training, in the order of its training files."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from typing import Any

from ltau_cli.recorders import hooks
from ltau_cli.recorders.drawn import DrawnBatches
from ltau_cli.recorders.frames import FrameFile, FrameLog

TESTED = ("0.3.16",)
MARK = "__ltau_frame__"  # such names are left out of MACE's batches

_files: list[FrameFile] = []  # training files, as MACE reads them
_training: list[_Training] = []


def number_frames(utils: Any) -> None:
    """Let every configuration know the file and frame that it was made of.

    Frames of isolated atoms, which MACE takes its atomic energies from, do not count, unless it is
    told to keep them.
    """
    load, make = utils.load_from_xyz, utils.config_from_atoms_list
    made: list[Any] = []  # frames of the file that is being read

    @functools.wraps(make)
    def config_from_atoms_list(atoms_list: Any, *args: Any, **kwargs: Any) -> Any:
        made[:] = atoms_list
        return make(atoms_list, *args, **kwargs)

    @functools.wraps(load)
    def load_from_xyz(*args: Any, **kwargs: Any) -> Any:
        result = load(*args, **kwargs)
        given = inspect.signature(load).bind(*args, **kwargs).arguments
        if given.get("extract_atomic_energies"):  # only of training files
            for number, config in enumerate(result[1]):
                setattr(config, MARK, (len(_files), number))
            _files.append(FrameFile.of_atoms(str(given["file_path"]), made))
        made.clear()
        return result

    utils.config_from_atoms_list, utils.load_from_xyz = config_from_atoms_list, load_from_xyz


def keep_numbers(atomic_data: Any) -> None:
    """Let every graph know the frame of its configuration."""
    original = atomic_data.AtomicData.from_config.__func__

    @functools.wraps(original)
    def from_config(cls: Any, config: Any, *args: Any, **kwargs: Any) -> Any:
        graph = original(cls, config, *args, **kwargs)
        vars(graph)[MARK] = getattr(config, MARK, None)
        return graph

    atomic_data.AtomicData.from_config = classmethod(from_config)


def record_training(train: Any) -> None:
    """Record what the loss is computed of, in every epoch."""
    version = hooks.check_version("mace-torch", TESTED)
    original = train.train_one_epoch
    signature = inspect.signature(original)

    @functools.wraps(original)
    def train_one_epoch(*args: Any, **kwargs: Any) -> Any:
        call = signature.bind(*args, **kwargs)
        given = call.arguments
        if not _training or _training[-1].drawn.loader is not given["data_loader"]:
            with hooks.or_refuse():
                _training.append(_Training(version, given["data_loader"], given["output_args"]))
        training = _training[-1]
        given["loss_fn"] = functools.partial(training.loss, given["loss_fn"])
        result = original(*call.args, **call.kwargs)
        training.log.end_epoch()
        return result

    train.train_one_epoch = train_one_epoch


class _Training:
    """The batches and the log of a training."""

    def __init__(self, version: str, loader: Any, output_args: dict[str, bool]) -> None:
        self.drawn = DrawnBatches(loader)
        files, frames = _number_samples(loader.dataset)
        self._forces = bool(output_args.get("forces"))
        self._energies = bool(output_args.get("energy"))
        self.log = FrameLog(
            f"MACE {version}", files, frames, forces=self._forces, energies=self._energies
        )

    def loss(self, loss_fn: Any, *, pred: dict[str, Any], ref: Any) -> Any:
        """Compute the loss of a batch and note its errors."""
        natoms = ref.ptr[1:] - ref.ptr[:-1]
        forces = energies = None
        if self._forces:
            forces = (pred["forces"].detach() - ref["forces"]).norm(dim=1)
            unknown = (ref["forces_weight"] == 0)[ref["batch"]]  # there is no reference
            forces.masked_fill_(unknown, float("nan"))
        if self._energies:
            energies = (pred["energy"].detach() - ref["energy"]).abs() / natoms
            energies.masked_fill_(ref["energy_weight"] == 0, float("nan"))
        self.log.record(self.log.trained[self.drawn.pop()], forces, energies)
        return loss_fn(pred=pred, ref=ref)


def _number_samples(dataset: Any) -> tuple[list[FrameFile], list[int]]:
    """Files of a training set, and the number of each sample among all their frames.

    What was not read from frames (HDF5, LMDB) counts as a file of its own, in its order.
    """
    graphs_of = [part if isinstance(part, list) else _Items(part) for part in dataset.datasets]
    places: list[tuple[FrameFile, int]] = []
    for number, graphs in enumerate(graphs_of):
        unknown = FrameFile(f"training set {number}")
        for graph in graphs:
            mark = vars(graph).get(MARK)
            if mark is None:
                places.append((unknown, len(unknown.natoms)))
                unknown.natoms.append(int(graph.num_nodes))
            else:
                places.append((_files[mark[0]], mark[1]))
    used = {id(file): file for file, _ in places}
    files = [file for file in _files if id(file) in used]
    files += [file for file in used.values() if not any(file is known for known in _files)]
    first, starts = 0, {}
    for file in files:
        starts[id(file)] = first
        first += len(file.natoms)
    return files, [starts[id(file)] + frame for file, frame in places]


class _Items:
    """The items of a dataset that may know no iteration."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        return (self._dataset[i] for i in range(len(self._dataset)))
