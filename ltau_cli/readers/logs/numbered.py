"""Files of a folder that differ in one number: the epoch."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ltau_cli.errors import InputError

_NUMBER = re.compile(r"\d+")
_OF_EPOCH = re.compile(r"(?:epoch|ckpt)[-_=]?(\d+)", re.IGNORECASE)
LARGEST_EPOCH = 2**31 - 1
QUANTITIES = {"forces": ("force",), "energy": ("energy", "energies")}


@dataclass(frozen=True)
class NumberedFiles:
    """A set of per-epoch files, by epoch number (9 before 10)."""

    pattern: str  # name with ``#`` for each number
    epochs: list[int]
    files: list[Path]


def _stem(path: Path) -> str:
    """Name without its endings; a number in ``.h5`` is no epoch."""
    name = path.name
    while (ending := Path(name).suffix) and not _NUMBER.fullmatch(ending[1:]):
        name = name[: -len(ending)]
    return name


def has_number(path: Path) -> bool:
    """Whether a file's name says an epoch."""
    return _NUMBER.search(_stem(path)) is not None


def find_numbered(
    files: Iterable[Path], *, where: str, quantity: str | None = None, inside: bool = False
) -> NumberedFiles:
    """Find the one set of numbered files, or of arrays ``inside`` a file."""
    stem = Path.as_posix if inside else _stem
    patterns: dict[str, list[Path]] = {}
    files = sorted(files)
    for path in files:
        if _NUMBER.search(stem(path)):
            name = stem(path) if inside else path.name
            patterns.setdefault(_NUMBER.sub("#", name), []).append(path)
    if not patterns:
        left = ", ".join(path.name for path in files[:5])
        raise InputError(
            f"{where} holds no per-epoch files" + f": no number in {left}" * bool(left),
            hint="name them like errors_epoch_0.npy, errors_epoch_1.npy, ...",
        )
    series = {name: paths for name, paths in patterns.items() if len(paths) > 1} or patterns
    told = [word for words in QUANTITIES.values() for word in words]
    if quantity is not None and any(word in name.lower() for name in series for word in told):
        words = QUANTITIES[quantity]
        series = {n: p for n, p in series.items() if any(word in n.lower() for word in words)}
        if not series:
            raise InputError(f"{where} holds no per-epoch files of {quantity} errors")
    if len(series) > 1:
        raise InputError(
            f"{where} holds several sets of numbered files: " + ", ".join(sorted(series)[:5]),
            hint=_several_hint(series),
        )
    ((pattern, paths),) = series.items()
    epochs = _epochs(paths, list(map(stem, paths)), where)
    order = sorted(range(len(paths)), key=lambda i: (epochs[i], paths[i].name))
    return NumberedFiles(pattern, [epochs[i] for i in order], [paths[i] for i in order])


def by_epoch(checkpoints: Sequence[Path]) -> NumberedFiles:
    """Order by the number after epoch or ckpt, else by the one number that varies."""
    told = [_OF_EPOCH.search(path.name) for path in checkpoints]
    epochs = [int(match[1]) for match in told if match is not None]
    if len(epochs) < len(checkpoints):
        return find_numbered(checkpoints, where=str(checkpoints[0].parent))
    order = np.argsort(epochs, kind="stable")
    epochs, files = [epochs[i] for i in order], [checkpoints[i] for i in order]
    for i in range(1, len(files)):
        if epochs[i] == epochs[i - 1]:
            raise InputError(
                f"{files[i - 1]} and {files[i]} are of the same epoch",
                hint="let the pattern fit the checkpoints of one run",
            )
    return NumberedFiles(str(checkpoints[0]), epochs, files)


def _several_hint(series: Iterable[str]) -> str:
    of = [
        name
        for name, words in QUANTITIES.items()
        if sum(any(word in pattern.lower() for word in words) for pattern in series) == 1
    ]
    if of:
        return "choose with --quantity " + " or --quantity ".join(of)
    return "move each set to a folder of its own, or name its group: FILE.h5:GROUP"


def _epochs(paths: Sequence[Path], stems: Sequence[str], where: str) -> list[int]:
    numbers = [[int(n) for n in _NUMBER.findall(stem)] for stem in stems]
    varying = [i for i, column in enumerate(zip(*numbers, strict=True)) if len(set(column)) > 1]
    if len(varying) > 1:
        raise InputError(
            f"{where}: more than one number varies in the names, such as "
            f"{paths[0].name} and {paths[-1].name}",
            hint="keep one folder or group per run, where only the epoch number varies",
        )
    column = varying[0] if varying else -1
    epochs = [row[column] for row in numbers]
    if max(epochs) > LARGEST_EPOCH:
        raise InputError(
            f"{where}: {max(epochs)} in the file names is too large for an epoch number",
            hint="name the files by epoch, not by time",
        )
    return epochs
