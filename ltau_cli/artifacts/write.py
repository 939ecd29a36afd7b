"""Write an artifact, atomically and reproducibly."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ltau_cli import __version__, stop
from ltau_cli.array_types import Array
from ltau_cli.artifacts.provenance import created_now
from ltau_cli.artifacts.schema import ERROR_UNITS, FORMAT, SPECS, DatasetSpec
from ltau_cli.artifacts.sink import FileSink
from ltau_cli.output import replace_atomically
from ltau_cli.plain import to_plain

COMPRESS_FROM = 1 << 16  # bytes; smaller datasets stay contiguous


class BlockWriter:
    """A dataset that is being filled; a failed write shows at once."""

    def __init__(self, dataset: h5py.Dataset, sink: FileSink) -> None:
        self._dataset = dataset
        self._sink = sink
        self.shape: tuple[int, ...] = dataset.shape
        self.chunks: tuple[int, ...] = dataset.chunks or dataset.shape

    def __getitem__(self, place: Any) -> Any:
        return self._dataset[place]

    def __setitem__(self, place: Any, values: npt.ArrayLike) -> None:
        stop.look()
        self._dataset[place] = values
        self._sink.check()


class ArtifactWriter:
    """The open artifact of one stage, in these error units; datasets are declared by the schema."""

    def __init__(self, file: h5py.File, sink: FileSink, kind: str, units: str) -> None:
        self._file = file
        self._sink = sink
        self._spec = SPECS[kind]
        self.units = units

    def put(self, name: str, values: npt.ArrayLike, *, compress: bool = False) -> None:
        """Write a whole dataset, cast to the dtype of the schema."""
        spec = self._spec.of(name)
        array = np.asarray(values)
        if spec.dtype == "label":
            array = as_stored(array)
        elif spec.dtype != "unsigned":
            array = array.astype(spec.dtype)
        self.create(name, array.shape, dtype=array.dtype, compress=compress)[...] = array

    def has(self, name: str) -> bool:
        """Whether the dataset is there."""
        return name in self._file

    def read(self, name: str, start: int | None = None, stop: int | None = None) -> Array:
        """Read back a dataset, or its rows ``start..stop``."""
        values: Array = self._file[name][start:stop]
        return values

    def create(
        self,
        name: str,
        shape: tuple[int, ...],
        *,
        dtype: npt.DTypeLike | None = None,
        chunks: tuple[int, ...] | None = None,
        compress: bool = False,
    ) -> BlockWriter:
        """Create a dataset to be filled block by block."""
        spec = self._spec.of(name)
        dtype = np.dtype(spec.dtype if dtype is None else dtype)
        options: dict[str, Any] = {}
        if compress and np.prod(shape) * dtype.itemsize >= COMPRESS_FROM:
            options = {"shuffle": True, "compression": "gzip", "compression_opts": 1}
            chunks = chunks or _row_chunks(shape, dtype)
        dataset = self._file.create_dataset(name, shape, dtype, chunks=chunks, **options)
        _describe(dataset, spec, self.units)
        return BlockWriter(dataset, self._sink)

    def finish(
        self,
        *,
        parameters: Mapping[str, Any],
        inputs: Sequence[Mapping[str, Any]],
        summary: Mapping[str, Any],
        model_fingerprint: str | None = None,
    ) -> None:
        """Write the root attributes; an artifact without them is not readable."""
        missing = [s.name for s in self._spec.datasets if s.required and s.name not in self._file]
        assert not missing, f"the stage forgot {missing}"
        attributes = {
            "format": FORMAT,
            "kind": self._spec.kind,
            "format_version": self._spec.version,
            "ltau_version": __version__,
            "created": created_now(),
            "units": self.units,
            "parameters": to_json(parameters),
            "inputs": to_json(inputs),
            "summary": to_json(summary),
        }
        if model_fingerprint is not None:
            attributes["model_fingerprint"] = model_fingerprint
        for name, value in attributes.items():
            self._file.attrs[name] = value


@contextlib.contextmanager
def create_artifact(path: Path, kind: str, *, units: str, force: bool) -> Iterator[ArtifactWriter]:
    """Open a new artifact; it appears at ``path`` when the block ends without an error."""
    with (
        replace_atomically(path, force=force) as temporary,
        _open_hdf5(temporary, path) as (file, sink),
    ):
        yield ArtifactWriter(file, sink, kind, units)


@contextlib.contextmanager
def _open_hdf5(temporary: Path, target: Path) -> Iterator[tuple[h5py.File, FileSink]]:
    sink = FileSink(temporary, target)
    with contextlib.closing(sink), h5py.File(sink, "w", libver="v110") as file:
        yield file, sink
    sink.check()


def as_stored(values: Array) -> Array:
    """Return labels as int64 or UTF-8 bytes; anything else as it is."""
    if values.dtype.kind == "U":
        return np.char.encode(values, "utf-8")
    return values.astype(np.int64) if values.dtype.kind in "iu" else values


def _describe(dataset: h5py.Dataset, spec: DatasetSpec, units: str) -> None:
    dataset.attrs["dims"] = to_json(list(spec.dims))
    dataset.attrs["units"] = units if spec.units == ERROR_UNITS else spec.units
    dataset.attrs["description"] = spec.description


def _row_chunks(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    row = max(1, int(np.prod(shape[1:]))) * dtype.itemsize
    return (max(1, min(shape[0], (1 << 20) // row)), *shape[1:])


def to_json(value: Any) -> str:
    """Compact JSON with sorted keys; see :func:`ltau_cli.plain.to_plain`."""
    return json.dumps(to_plain(value), sort_keys=True, allow_nan=False)
