"""The errors of a training loop to a folder that ``ltau ingest`` reads."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.array_types import Array, Integers, Singles
from ltau_cli.errors import InputError, OutputError, writing
from ltau_cli.lock import Lock
from ltau_cli.settings import Quantity

EPOCH_FILE = re.compile(r"errors_epoch_(\d+)\.npy")
LABEL_FILE = "samples.npz"
LABELS = ("structure", "species", "config_type", "formula", "group", "sample_id", "magnitude",
          "held_out", "fingerprint")  # fmt: skip


class Recorder:
    """Writes the error of each training sample, epoch by epoch.

    One file per epoch, ``FOLDER/errors_epoch_0.npy`` and so on, each (n,) float32, NaN where a
    sample was not seen. A file appears when it is complete, so that ``ltau ingest FOLDER --force``
    can run meanwhile. In a folder that holds epochs already, as after a restart, numbering goes on;
    nothing is ever overwritten.

    With several processes (``torch.distributed``, ``torchrun``), each makes a recorder of the same
    ``n`` and folder, records its own samples, and ends every epoch; the last one writes the file.

    Parameters
    ----------
    n : int
        Number of training samples; their ids are 0 to n - 1, in the order of the descriptors.
    folder : path
        Made if it is not there.
    natoms : (n_structures,) int array, optional
        How many samples each structure has, as ``[len(frame) for frame in frames]`` of the training
        set of a force field: ``ltau ingest`` and ``ltau fit`` then know which atoms are together.
    width : int, optional
        Components of an error vector; by default three (a force), or one.
    quantity : str, optional
        What the errors are of: ``"energy"`` for samples that are frames, and predicted minus
        reference energies per atom, whose sign is kept.
    labels : mapping of str to (n,) array, optional
        What is known of each sample: ``structure``, ``species``, ``config_type``, ``formula``,
        ``group``, ``sample_id``, ``magnitude`` of its target, and ``held_out``, true for samples
        that are there to keep the count but not trained on.

    Raises
    ------
    InputError
        If the folder holds epochs of other samples.
    OutputError
        If it cannot be made or written, or another process writes into it.

    Examples
    --------
    >>> recorder = Recorder(1000, "logs")  # doctest: +SKIP
    >>> for epoch in range(20):  # doctest: +SKIP
    ...     for x, y, ids in loader:
    ...         recorder.record(ids, model(x) - y)
    ...     recorder.end_epoch()
    """

    def __init__(
        self,
        n: int,
        folder: str | os.PathLike[str] = "logs",
        *,
        natoms: npt.ArrayLike | None = None,
        width: int | None = None,
        quantity: Quantity | None = None,
        labels: Mapping[str, npt.ArrayLike] | None = None,
    ) -> None:
        if n < 1:
            raise InputError(f"a recorder of {n} samples records nothing")
        self.n, self.width = n, width
        self.folder = Path(folder)
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._labels = {name: np.asarray(values) for name, values in (labels or {}).items()}
        if natoms is not None:
            self._labels["structure"] = _structures(natoms, n)
        for name, values in self._labels.items():
            if name not in LABELS:
                raise InputError(
                    f"{name} is no label that ltau knows", hint="it knows: " + ", ".join(LABELS)
                )
            if values.shape[:1] != (n,):
                raise InputError(f"the label {name} has shape {values.shape}, not ({n},)")
        self._signed = quantity == "energy"
        if quantity is not None:
            self._labels["quantity"] = np.array([quantity])
        self._lock = None
        if self.is_first:  # it locks for all processes of its training
            hint = "give each training, and each run of an ensemble, a folder of its own"
            self._lock = Lock(self.folder, hint)
        self._number = self._first = self._next_number()
        self._same_labels()
        for left in self.folder.glob(f".errors_epoch_*.npy.{_rank()[0]}_of_*"):
            left.unlink(missing_ok=True)  # by this process of a training that was killed
        self._errors = self._nothing()

    def record(self, ids: npt.ArrayLike, errors: npt.ArrayLike) -> None:
        """Note errors of some samples; of a sample recorded twice in an epoch the last one counts.

        Parameters
        ----------
        ids : (m,) int array or tensor
            Number of each sample, from 0.
        errors : (m,), (m, 1) or (m, 3) array or tensor
            Magnitudes, at least 0, or vectors, whose norms are taken: predicted minus reference.
            Vectors of another length are (m, width). NaN is missing. Log what the model predicts,
            without the weights of the loss.

        Raises
        ------
        InputError
            If an id is none or out of range, an error negative or no real number, or shapes do not
            fit: also that of a difference (m, m) which numpy and PyTorch make of (m, 1) and (m,).
        """
        rows, values = np.atleast_1d(plain(ids)), np.atleast_1d(plain(errors))
        self._check_shapes(rows, values)
        if values.dtype.kind not in "fiu":
            raise InputError(f"errors are real numbers, not {values.dtype}")
        if values.ndim == 2:
            values = np.sqrt(np.einsum("ij,ij->i", values, values, dtype=np.float64))
        if rows.size == 0:
            return
        if rows.dtype.kind not in "iu":
            raise InputError(f"ids are whole numbers from 0, not {rows.dtype}")
        outside = np.flatnonzero((rows < 0) | (rows >= self.n))
        if outside.size:
            raise InputError(
                f"there is no sample {rows[outside[0]]} among {self.n:,}",
                hint=f"ids are 0 to {self.n - 1}; the recorder was made for {self.n:,} samples",
            )
        negative = np.flatnonzero((values < 0) & (not self._signed))
        if negative.size:
            first = negative[0]
            raise InputError(
                f"the error of sample {rows[first]} is negative ({values[first]:g}): "
                "record abs(predicted - reference)",
                hint="a magnitude for each sample, or a vector (n, 3), whose norm is taken",
            )
        self._errors[rows] = values

    def _check_shapes(self, ids: Array, errors: Array) -> None:
        """Refuse what is not one error, or one error vector, for each id."""
        n, widths = len(ids), (1, 3) if self.width is None else (self.width,)
        square = errors.shape == (n, n)
        one_each = ids.ndim == 1 and errors.shape[:1] == (n,)
        fits = one_each and (errors.ndim == 1 or (errors.ndim == 2 and errors.shape[1] in widths))
        if fits and not (square and _is_outer_difference(errors)):
            return
        hint = "record(ids, errors) takes one id and one error, or error vector, per sample"
        if square:
            hint = (
                "a difference of (n, 1) and (n,) is (n, n): give both the same shape, as in "
                "predicted.reshape(-1) - reference.reshape(-1)"
            )
        elif one_each and errors.ndim == 2:
            hint = (
                "errors are (n,), or vectors (n, 3); for vectors of another length: "
                f"Recorder(..., width={errors.shape[1]})"
            )
        raise InputError(
            f"ids of shape {ids.shape} and errors of shape {errors.shape} do not fit", hint=hint
        )

    def end_epoch(self) -> Path:
        """Write the file of this epoch and begin the next.

        Returns
        -------
        Path
            Of the file; with several processes it is there when the last one has ended its epoch.

        Raises
        ------
        OutputError
            If it cannot be written, or another training writes into the folder. The epoch is then
            lost, and the next one can begin.
        """
        target = self._target(self._number)
        errors, self._errors = self._errors, self._nothing()
        self._number += 1
        rank, world = _rank()
        if self._lock is not None:
            self._lock.check()
        if world == 1:
            self._write_epoch(target, errors)
        else:
            _write(_part(target, rank, world), errors)
            self._join(target, world)
        return target

    @property
    def n_epochs(self) -> int:
        """Epochs that have ended, with those that the folder held before."""
        return self._number

    @property
    def n_written(self) -> int:
        """Files of its epochs that are there."""
        numbers = range(self._first, self._number)
        return sum(self._target(number).exists() for number in numbers)

    def missing_ranks(self) -> tuple[list[int], int]:
        """Return the processes that have not ended an epoch that this one has, and their number."""
        rank, world = _rank()
        parts = [
            [_part(self._target(number), other, world) for other in range(world)]
            for number in range(self._first, self._number)
            if not self._target(number).exists()
        ]
        left = [own for own in parts if own[rank].exists()]
        return [i for i in range(world) if any(not own[i].exists() for own in left)], world

    def tells_for(self, missing: list[int]) -> bool:
        """Whether this is the first of the processes that are not missing."""
        rank, world = _rank()
        return rank == min(set(range(world)) - set(missing), default=rank)

    def _target(self, number: int) -> Path:
        return self.folder / f"errors_epoch_{number}.npy"

    @property
    def is_first(self) -> bool:
        """Whether this is the first of all processes, or the only one."""
        return _rank()[0] == 0

    def remark(self, *lines: str, **labels: npt.ArrayLike) -> None:
        """Write lines that ``ltau ingest`` will tell, and more labels, beside the epochs."""
        path = self.folder / LABEL_FILE
        old = _read_labels(path) if path.exists() else {}
        new = {name: np.asarray(values) for name, values in labels.items()}
        _write(path, old | new | ({"remarks": np.array(lines)} if lines else {}))

    def lightning(self, ids: str = "ids", errors: str = "errors") -> Any:
        """Return a Lightning callback that records what ``training_step`` returns.

        Parameters
        ----------
        ids, errors : str
            Keys of the dictionary that ``training_step`` returns, beside ``loss``.

        Returns
        -------
        lightning.pytorch.Callback
        """
        if "pytorch_lightning" in sys.modules and "lightning" not in sys.modules:
            from pytorch_lightning import Callback
        else:
            try:
                from lightning.pytorch import Callback
            except ImportError as error:
                raise InputError(
                    "Lightning is not installed", hint="pip install lightning"
                ) from error
        recorder = self

        class RecorderCallback(Callback):  # type: ignore[misc]
            """Records each batch, and ends each epoch."""

            def on_train_batch_end(
                self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
            ) -> None:
                if not isinstance(outputs, dict) or not {ids, errors} <= outputs.keys():
                    raise InputError(
                        f"training_step returns no {ids!r} and {errors!r} to record",
                        hint=f"return {{'loss': loss, {ids!r}: ..., {errors!r}: ...}}",
                    )
                recorder.record(outputs[ids], outputs[errors])

            def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
                recorder.end_epoch()

        return RecorderCallback()

    def _nothing(self) -> Singles:
        return np.full(self.n, np.nan, dtype=np.float32)

    def _next_number(self) -> int:
        """Go on after the last epoch of the folder, which must be of as many samples."""
        files = {int(m[1]): p for p in self.folder.iterdir() if (m := EPOCH_FILE.fullmatch(p.name))}
        if not files:
            return 0
        last = max(files)
        try:
            shape = np.load(files[last], mmap_mode="r").shape
        except (OSError, ValueError) as error:
            raise InputError(f"{files[last]} is not a file of this recorder") from error
        if shape != (self.n,):
            raise self._another(f"{files[last]} has shape {shape}, this training ({self.n},)")
        return last + 1

    def _same_labels(self) -> None:
        """Write the labels, or compare those that are there."""
        path = self.folder / LABEL_FILE
        if self._number == 0 and self._labels:
            _write(path, self._labels)
        elif path.exists():
            old = _read_labels(path)
            for name, values in self._labels.items():
                if name in old and not np.array_equal(old[name], values):
                    raise self._another(f"{path} has other values of {name} than this training")

    def _another(self, what: str) -> InputError:
        return InputError(
            f"{what}: {self.folder} is of another training set",
            hint="give each training set, and each run of an ensemble, a folder of its own",
        )

    def _write_epoch(self, target: Path, errors: Singles) -> None:
        if target.exists():
            raise OutputError(
                f"{target} appeared while this training ran: another one writes into {self.folder}",
                hint="give each training a folder of its own",
            )
        _write(target, errors)

    def _join(self, target: Path, world: int) -> None:
        """Write the epoch if all processes are done with it; a sample's first error counts."""
        parts = [_part(target, rank, world) for rank in range(world)]
        if not all(part.exists() for part in parts):
            return
        with contextlib.suppress(FileNotFoundError):  # another process joins them as well
            errors = np.load(parts[0])
            for part in parts[1:]:
                errors = np.where(np.isnan(errors), np.load(part), errors)
            _write(target, errors)
            for part in parts:
                part.unlink()


def plain(values: npt.ArrayLike) -> Array:
    """Return an array, also of a tensor on any device that requires gradients."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values)


def _is_outer_difference(errors: Array) -> bool:
    """Whether (n, n) numbers are all differences of two lists: ``errors[i, j] = a[i] - b[j]``."""
    mixed = errors - errors[:1] - errors[:, :1] + errors[0, 0]
    small = 1e-5 * np.abs(errors).max()
    varies = np.ptp(errors, axis=0).max() > small and np.ptp(errors, axis=1).max() > small
    return bool(varies and np.abs(mixed).max() <= small)


def _structures(natoms: npt.ArrayLike, n: int) -> Integers:
    """Return the structure, from 0, of each of n samples."""
    counts = plain(natoms)
    if counts.ndim != 1 or counts.dtype.kind not in "iu" or (counts < 1).any():
        raise InputError("natoms are whole numbers from 1, one for each structure")
    if counts.sum() != n:
        raise InputError(
            f"natoms add up to {counts.sum():,}, the recorder was made for {n:,} samples",
            hint="a sample is an atom; for one error per structure leave natoms out",
        )
    return np.repeat(np.arange(len(counts)), counts)


def _read_labels(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _rank() -> tuple[int, int]:
    """Return this process's number and how many there are, as torch.distributed knows them."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def _part(target: Path, rank: int, world: int) -> Path:
    return target.with_name(f".{target.name}.{rank}_of_{world}")


def _write(target: Path, content: Array | Mapping[str, Array]) -> None:
    """Write an array, or several as ``.npz``, to a file that appears when it is complete."""
    temporary = target.with_name(f".{target.name}.{_rank()[0]}.{os.getpid()}.tmp")
    with writing(target):
        try:
            with temporary.open("wb") as file:
                if isinstance(content, np.ndarray):
                    np.save(file, content)
                else:
                    np.savez_compressed(file, **content)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
