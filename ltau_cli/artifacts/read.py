"""Open an artifact and check it before anyone uses it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from ltau_cli.array_types import Array
from ltau_cli.artifacts.attributes import InputRecord
from ltau_cli.artifacts.schema import (
    FIXED_SIZES,
    FORMAT,
    SPECS,
    ArtifactSpec,
    DatasetSpec,
    split_dim,
)
from ltau_cli.errors import ArtifactError, InputError, LtauError
from ltau_cli.plain import from_plain, load_json
from ltau_cli.readers.hdf5 import not_stored
from ltau_cli.readers.place import check_file

_MADE_BY_HINT = {spec.kind: f"make one with: ltau {spec.made_by}" for spec in SPECS.values()}


class Artifact:
    """A checked artifact, open for reading; each kind has a view of its own.

    ``summary`` is what the stage that made it told, ``attributes`` are the remaining root
    attributes, ``sizes`` those of each named dimension.
    """

    kind: str

    def __init__(self, path: Path, file: h5py.File, spec: ArtifactSpec) -> None:
        self.path = path
        self.spec = spec
        self._file = file
        self.attributes: dict[str, Any] = {
            name: self._text(name) for name in ("kind", "ltau_version", "created", "units")
        }
        self.attributes["format_version"] = int(file.attrs["format_version"])
        self.units = str(self.attributes["units"])
        self.parameters: dict[str, Any] = self._json("parameters", spec.parameters)
        self.inputs: list[dict[str, Any]] = self._json("inputs", list[InputRecord])
        self.summary: Any = self._json("summary", spec.summary, output=str(path), units=self.units)
        self.model_fingerprint = self._text("model_fingerprint") if spec.fingerprint else None
        self.sizes: dict[str, int] = dict(FIXED_SIZES)

    def __repr__(self) -> str:
        shapes = (f"  {spec.name} {self.dataset(spec.name).shape}" for spec in self.present())
        return "\n".join([f"<{type(self).__name__} {self.path}>", *shapes])

    def has(self, name: str) -> bool:
        """Whether the dataset is there."""
        return name in self._file

    def dataset(self, name: str) -> Values:
        """Open a dataset for reading block by block."""
        with _damage_named(self.path, f"dataset {name} cannot be read"):
            return Values(self, self._file[name], self.spec.of(name))

    def read(self, name: str, start: int | None = None, stop: int | None = None) -> Array:
        """Read a dataset, or its rows ``start..stop``, checked; labels as int64 or str."""
        values = self.dataset(name)[start:stop]
        if values.dtype.kind == "S":
            with _damage_named(self.path, f"dataset {name} is not UTF-8"):
                return np.char.decode(values, "utf-8")
        return values

    def present(self) -> list[DatasetSpec]:
        """Specs of the datasets that are there."""
        return [
            spec
            for declared in self.spec.datasets
            for spec in _numbered(self._file, declared)
            if spec.name in self._file
        ]

    def _text(self, name: str) -> str:
        with _damage_named(self.path, f"attribute {name} is missing or not text"):
            text = _text(self._file.attrs[name])
        if not isinstance(text, str):
            raise damaged(self.path, f"attribute {name} is not text")
        return text

    def _json(self, name: str, of: Any, **beside: str) -> Any:
        try:
            value = load_json(self._text(name))
            return from_plain(value | beside if isinstance(value, dict) else value, of)
        except (json.JSONDecodeError, RecursionError) as error:
            raise damaged(self.path, f"attribute {name} is not JSON") from error
        except ValueError as error:
            raise damaged(self.path, f"attribute {name}: {error}") from error


class Values:
    """A dataset of an artifact; what is read of it is checked.

    Numbers must be finite, or NaN where the schema allows it, and follow the rules of the schema.
    """

    def __init__(self, artifact: Artifact, dataset: h5py.Dataset, spec: DatasetSpec) -> None:
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype: np.dtype[Any] = dataset.dtype
        self.chunks: tuple[int, ...] | None = dataset.chunks
        self._artifact = artifact
        self._dataset = dataset
        self._spec = spec

    def __getitem__(self, place: Any) -> Array:
        path, name = self._artifact.path, self._spec.name
        with _damage_named(path, f"dataset {name} cannot be read"):
            values: Array = self._dataset[place]
        if values.dtype.kind == "f":
            wrong = np.isinf(values) if self._spec.nan else ~np.isfinite(values)
            if wrong.any():
                raise damaged(
                    path, f"dataset {name} holds {wrong.sum():,} values that are not finite"
                )
        whole = values.shape == self.shape
        for rule in self._spec.rules:
            if (whole or not rule.of_all) and not rule.holds(values, self._artifact.sizes):
                raise damaged(path, f"dataset {name} holds other values than {rule}")
        return values


View = TypeVar("View", bound=Artifact)


@contextlib.contextmanager
def open_artifact(path: Path, *views: type[View]) -> Iterator[View]:
    """Open an artifact of one of the kinds that ``views`` are of, checked."""
    kinds = {view.kind: view for view in views}
    hint = _MADE_BY_HINT[views[0].kind] if len(views) == 1 else None
    check_file(path, otherwise=ArtifactError, hint=hint)
    with _open_hdf5(path) as file:
        with _damage_named(path, "its structure cannot be read"):
            spec = _check_kind(path, file, tuple(kinds), hint)
            artifact = kinds[spec.kind](path, file, spec)
            for declared in spec.datasets:
                for dataset in _numbered(file, declared):
                    if _check_presence(path, file, dataset):
                        _check_dataset(path, file[dataset.name], dataset, artifact.sizes)
        yield artifact


def read_up_to_date(path: Path, view: type[View], same: Callable[[View], bool], force: bool) -> Any:
    """Read the summary of an artifact if it is the ``same`` as what would be made again, else None.

    None also of one that is damaged, where it may be replaced.
    """
    try:
        with open_artifact(path, view) as old:
            return replace(old.summary, up_to_date=True) if same(old) else None
    except ArtifactError:
        if not force:
            raise
        return None


@contextlib.contextmanager
def _open_hdf5(path: Path) -> Iterator[h5py.File]:
    try:
        file = h5py.File(path, "r")
    except PermissionError as error:
        raise InputError(f"{path}: no permission to read it") from error
    except OSError as error:
        if h5py.is_hdf5(path):
            raise ArtifactError(
                f"{path} is damaged: it is cut short or being written",
                hint="wait until it is written, or make it again from its inputs",
            ) from error
        raise ArtifactError(
            f"{path} is not an HDF5 file", hint="ltau stages read what other ltau stages wrote"
        ) from error
    with file:
        yield file


def _check_kind(
    path: Path, file: h5py.File, kinds: tuple[str, ...], hint: str | None
) -> ArtifactSpec:
    wanted = " or ".join(kinds)
    if _text(file.attrs.get("format", "")) != FORMAT:
        raise ArtifactError(f"{path} is an HDF5 file, but no artifact of ltau", hint=hint)
    kind = _text(file.attrs.get("kind", ""))
    if kind not in SPECS:
        raise ArtifactError(
            f"{path} is an artifact of unknown kind {kind!r}",
            hint="a newer ltau may have written it: upgrade ltau",
        )
    if kind not in kinds:
        article = "an" if wanted[0] in "aeiou" else "a"
        raise ArtifactError(
            f"{path} is of kind {kind}, but {article} {wanted} artifact is needed here", hint=hint
        )
    version = file.attrs.get("format_version")
    if not isinstance(version, int | np.integer) or version < 1:
        raise damaged(path, "attribute format_version is missing or not 1 or more")
    if version > SPECS[kind].version:
        raise ArtifactError(
            f"{path} has {kind} format version {version}; this ltau reads up to "
            f"{SPECS[kind].version}",
            hint="upgrade ltau: pip install --upgrade ltau",
        )
    return SPECS[kind]


def _numbered(file: h5py.File, spec: DatasetSpec) -> list[DatasetSpec]:
    """Return the spec, or where its name holds ``*``, one for each number that is there."""
    folder, star, _ = spec.name.partition("/*/")
    if not star:
        return [spec]
    if not isinstance(file.get(folder, getlink=True), h5py.HardLink):
        return []  # not there, or a link, which is refused where the folder itself is looked at
    group = file[folder]
    keys = group if isinstance(group, h5py.Group) else ()
    return [spec.numbered(number) for number in sorted(int(key) for key in keys if key.isdecimal())]


def _check_presence(path: Path, file: h5py.File, spec: DatasetSpec) -> bool:
    """Whether the dataset is there, and there in this very file."""
    required = spec.required or (spec.beside != "" and spec.beside in file)
    group = file
    for part in spec.name.split("/"):
        link = group.get(part, getlink=True)
        if link is None:
            if required:
                raise damaged(path, f"dataset {spec.name} is missing")
            return False
        if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
            raise damaged(path, f"{spec.name} is a link to another place, which is not followed")
        group = group[part]
    if not isinstance(group, h5py.Dataset):
        raise damaged(path, f"{spec.name} is not a dataset")
    if group.is_virtual or group.external:
        raise damaged(path, f"dataset {spec.name} keeps its values in another file")
    return True


def _check_dataset(
    path: Path, dataset: h5py.Dataset, spec: DatasetSpec, sizes: dict[str, int]
) -> None:
    dtype = dataset.dtype
    if spec.dtype == "unsigned":
        fits = dtype.kind == "u"
    elif spec.dtype == "label":
        fits = dtype == np.int64 or dtype.kind == "S"
    else:
        fits = dtype == np.dtype(spec.dtype)
    if not fits:
        raise damaged(path, f"dataset {spec.name} has dtype {dtype}, not {spec.dtype}")
    if len(dataset.shape) != len(spec.dims):
        raise damaged(
            path, f"dataset {spec.name} has {len(dataset.shape)} dimensions, not {len(spec.dims)}"
        )
    if 0 in dataset.shape:
        raise damaged(path, f"dataset {spec.name} is empty: its shape is {dataset.shape}")
    lacking = not_stored(dataset, path.stat().st_size)
    if lacking:
        raise damaged(path, f"dataset {spec.name} {lacking}")
    for size, dim in zip(dataset.shape, spec.dims, strict=True):
        name, more = split_dim(dim)
        if sizes.setdefault(name, size - more) != size - more:
            raise damaged(
                path, f"dataset {spec.name} has size {size} along {dim}, not {sizes[name] + more}"
            )


@contextlib.contextmanager
def _damage_named(path: Path, what: str) -> Iterator[None]:
    """Turn whatever h5py raises over a damaged file into one clear line."""
    try:
        yield
    except (LtauError, MemoryError):
        raise
    except Exception as error:
        raise damaged(path, what) from error


def damaged(path: Path, what: str) -> ArtifactError:
    """Return the error about an artifact that cannot be trusted."""
    return ArtifactError(f"{path} is damaged: {what}", hint="make it again from its inputs")


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
