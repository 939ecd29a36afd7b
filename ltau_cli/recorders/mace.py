"""MACE: the errors of its training, in the order of its training files."""

from __future__ import annotations

import contextlib
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
    """Let every configuration know the file and frame that it was made of."""
    original = utils.load_from_xyz

    @functools.wraps(original)
    def load_from_xyz(file_path: Any, *args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(original).bind(file_path, *args, **kwargs).arguments
        with _watch(utils) as (read, kept):
            result = original(file_path, *args, **kwargs)
        if given.get("extract_atomic_energies"):  # only of training files
            number = {id(atoms): i for i, atoms in enumerate(read)}
            for atoms, config in zip(kept, result[1], strict=True):
                setattr(config, MARK, (len(_files), number[id(atoms)]))
            _files.append(FrameFile.of_atoms(str(file_path), read))
        return result

    utils.load_from_xyz = load_from_xyz


@contextlib.contextmanager
def _watch(utils: Any) -> Iterator[tuple[list[Any], list[Any]]]:
    """Note the frames that a file holds, and those that become configurations."""
    read: list[Any] = []
    kept: list[Any] = []
    io, make = utils.ase.io, utils.config_from_atoms_list
    read_file = io.read

    def noting_read(*args: Any, **kwargs: Any) -> Any:
        frames = read_file(*args, **kwargs)
        read.extend(frames if isinstance(frames, list) else [frames])
        return frames

    def noting_make(atoms_list: Any, *args: Any, **kwargs: Any) -> Any:
        kept.extend(atoms_list)
        return make(atoms_list, *args, **kwargs)

    io.read, utils.config_from_atoms_list = noting_read, noting_make
    try:
        yield read, kept
    finally:
        io.read, utils.config_from_atoms_list = read_file, make


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
