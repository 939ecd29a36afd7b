"""Ways to damage an artifact: every dataset and every attribute of a good one, one at a time."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from ltau_cli.artifacts.schema import SPECS, DatasetSpec
from ltau_cli.artifacts.views import open_artifact

# Numbers that may have any sign and size.
FREE = {
    "descriptors", "descriptor_shift", "descriptor_transform", "index/tree_hyperplanes",
    "index/tree_offsets", "coefficients", "baselines/coefficients", "calibration/coefficients",
    "calibration/baselines/coefficients", "epoch", "sample_id", "group",
    "index/cell_axes", "index/cell_low", "index/cell_high",  # looser ones are as right
    "exponent_center", "baselines/exponent_center", "calibration/exponent_center",
    "calibration/baselines/exponent_center",
}  # fmt: skip
SHARES = {
    "uncertainty", "ood_pvalue", "quantile_levels", "levels", "calibrated_uncertainty", "cdf",
    "heldout_uncertainty", "structures/uncertainty_mean", "structures/uncertainty_max",
    "structures/out_of_domain_share",
}  # fmt: skip
NUMBERS = {  # of something else, below how many there are
    "point", "loo_group", "structure", "heldout_stratum", "multiplicity", "n_logged",
    "epoch_missing", "epoch_zeros", "shard_start", "structures/n_samples", "index/graph_indptr",
    "index/graph_indices", "index/tree_children", "index/tree_indices", "index/vertex_order",
}  # fmt: skip
GROWING = {
    "bin_edges", "thresholds", "quantile_levels", "levels", "quantiles", "cdf", "cdf_edges",
    "fit_row", "heldout_row", "shard_start", "index/graph_indptr", "groups",
    "bound_groups", "baselines/ratio_quantiles", "calibration/groups", "calibration/bound_groups",
    "calibration/baselines/ratio_quantiles",
}  # fmt: skip
ODD: tuple[Any, ...] = (None, True, -1, 1e300, 10**30, "x", [None], {})


class Mutation(NamedTuple):
    """A damage."""

    name: str
    edit: Callable[[h5py.File], Any]  # does it to an open file
    refused: bool = True  # it must be seen when all is read; else it may leave a good artifact


def read_all(path: Path) -> None:
    """Read all that any command reads of an artifact."""
    with open_artifact(path) as artifact:
        for spec in artifact.present():
            artifact.read(spec.name)
        if hasattr(artifact, "load"):
            artifact.load()
        if hasattr(artifact, "calibration"):
            artifact.calibration()


def mutations(path: Path) -> Iterator[Mutation]:
    """Yield the damages of a good artifact."""
    with h5py.File(path) as file:
        spec = SPECS[file.attrs["kind"]]
        attributes = dict(file.attrs)
        names: list[str] = []
        file.visititems(lambda n, item: names.append(n) if hasattr(item, "dtype") else None)
        for name in names:
            yield from _of_dataset(name, spec.of(name), file[name][...])
    for name in attributes:
        yield from _of_attribute(name)
    for name in ("parameters", "summary", "inputs"):
        yield from _of_json(name, json.loads(attributes[name]))


def _of_dataset(name: str, spec: DatasetSpec, values: Any) -> Iterator[Mutation]:
    def put(new: Any, **options: Any) -> Callable[[h5py.File], None]:
        def edit(file: h5py.File) -> None:
            del file[name]
            file.create_dataset(name, data=new, **options)

        return edit

    def one(value: Any, at: int = 0) -> Callable[[h5py.File], None]:
        def edit(file: h5py.File) -> None:
            changed = file[name][...]
            changed.reshape(-1)[at] = value
            file[name][...] = changed

        return edit

    def promised(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, (2**34, *values.shape[1:]), values.dtype)

    def linked(file: h5py.File) -> None:
        file.move(name, "elsewhere")
        file[name] = h5py.SoftLink("/elsewhere")

    plain = name.partition("index/")[1] + name.rpartition("/")[2] if "index/" in name else name
    yield Mutation(f"{name} is gone", lambda file: file.pop(name), spec.required)
    yield Mutation(f"{name} of another type", put(values.astype("S9").astype("V9")))
    yield Mutation(f"{name} as complex numbers", put(np.ones(values.shape, complex)))
    yield Mutation(f"{name} has one more dimension", put(values[..., None]))
    yield Mutation(f"{name} is a single number", put(0))
    yield Mutation(f"{name} is empty", put(values[:0]))
    yield Mutation(f"{name} is null", put(h5py.Empty(values.dtype)))
    yield Mutation(f"{name} promises more than there is", promised)
    yield Mutation(f"{name} is a link", linked)
    yield Mutation(f"{name} is a group", lambda file: (file.pop(name), file.create_group(name)))
    yield Mutation(f"{name} is one short", put(values[:-1]), False)
    yield Mutation(f"{name} repeats its last", put(np.append(values, values[-1:], axis=0)), False)
    if values.dtype.kind == "S":
        yield Mutation(f"{name} is not UTF-8", put(np.full(values.shape, b"\xff")))
    if values.dtype.kind == "f":
        yield Mutation(f"{name} holds infinity", one(np.inf, -1))
        yield Mutation(f"{name} holds NaN", one(np.nan), not spec.nan)
        yield Mutation(f"{name} is all NaN", put(np.full_like(values, np.nan)), not spec.nan)
    if values.dtype.kind in "fi":
        negative = plain not in FREE and plain != "run" and values.dtype.kind in "fi"
        yield Mutation(f"{name} holds -7", one(-7), negative and plain != "index/tree_children")
        least = np.finfo(values.dtype) if values.dtype.kind == "f" else np.iinfo(values.dtype)
        yield Mutation(f"{name} holds the least", one(least.min), plain not in FREE)
        yield Mutation(f"{name} holds the most", one(least.max, -1), plain in NUMBERS | SHARES)
        yield Mutation(f"{name} is all 0", put(np.zeros_like(values)), False)
        yield Mutation(f"{name} is all 1", put(np.ones_like(values)), False)
    if plain in GROWING and values.shape[-1] > 1:
        varies = bool((values[..., :1] != values[..., -1:]).any())
        yield Mutation(f"{name} falls", put(values[..., ::-1]), varies)
    elif len(values) > 1:
        yield Mutation(f"{name} in reverse", put(values[::-1]), False)


def _of_attribute(name: str) -> Iterator[Mutation]:
    def put(value: Any) -> Callable[[h5py.File], None]:
        def edit(file: h5py.File) -> None:
            del file.attrs[name]
            file.attrs[name] = value

        return edit

    yield Mutation(f"attribute {name} is gone", lambda file: file.attrs.pop(name))
    for what, value in {
        "a number": 7, "a fraction": 1.5, "bytes": np.bytes_(b"\xff\xfe"), "a list": [1, 2],
        "null": h5py.Empty("f4"), "objects": np.array(["a", "b"], dtype=h5py.string_dtype()),
    }.items():  # fmt: skip
        yield Mutation(f"attribute {name} is {what}", put(value))
    for value in (0, -1, 99):
        if name == "format_version":
            yield Mutation(f"attribute {name} is {value}", put(value))
    if name in ("parameters", "summary", "inputs"):
        wrong = "", "{", "null", "7", "NaN", "[" * 100_000, '"x"', '{"k": NaN}', "[{}]", "[7]"
        for text in wrong:
            yield Mutation(f"attribute {name} is {text[:9]}", put(text))


def _of_json(name: str, good: Any) -> Iterator[Mutation]:
    for place in _places(good):
        for value in ("gone", *ODD):
            changed = copy.deepcopy(good)
            parent = changed
            for key in place[:-1]:
                parent = parent[key]
            if value == "gone":
                del parent[place[-1]]
            else:
                parent[place[-1]] = value
            text = json.dumps(changed)

            def edit(file: h5py.File, text: str = text) -> None:
                file.attrs[name] = text

            yield Mutation(f"{name} {'.'.join(map(str, place))} is {value}", edit, False)


def _places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value[:1])
    for key, inner in entries:
        yield (*above, key)
        if isinstance(inner, dict | list):
            yield from _places(inner, (*above, key))
