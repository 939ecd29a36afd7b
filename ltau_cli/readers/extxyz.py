"""Frames as text: ASE reads them one by one, and nothing that it would pass over stays unsaid.

ASE ends at an empty line, drops columns that the header does not name, knows names by their exact
case, and takes a frame without a cell for a molecule, one that is periodic in a cell of zero too.
"""

import io
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ltau_cli.errors import InputError, warn

_PLAIN = "species:S:1:pos:R:3"  # the columns of a file that does not name them
_MOST_COLUMNS = 100_000
_EXACT = ("Lattice", "Properties", "pbc")  # names in a header
_COLUMNS = ("species", "pos")
_TENSORS = re.compile(r"(?<!\S)(stress|virial)(\s*=)")
_TRUTHS = {"T", "F", "True", "False"}
_ISOTOPES = {"D", "T"}
_OF_MOLECULES = {*"HBCNOFPSI", "He", "Ne", "Cl", "Ar", "Se", "Br", "Kr", "Xe"}
_DENSE = 0.075  # atoms per Å³; less than in water, more than in the box around a large molecule
_SEVERAL = 60  # atoms from which on a box tells
_TOO_NEAR = 0.25  # Å
_NO_POSITIONS = re.compile(r"-(frc|vel|for|force|forces|velocity|velocities)-\d+$")  # of CP2K


def read_extxyz(path: Path, *, placed: bool) -> Iterator[Any]:
    """Yield the ``ase.Atoms`` of a file.

    Where it matters how they are ``placed``, positions that are none are refused, and what was
    taken for granted is a warning.
    """
    unsaid, looked = {"isotopes", "columns", "cell"} if placed else set(), not placed

    def say(what: str, text: str) -> None:
        if what in unsaid:
            unsaid.remove(what)
            warn(text)

    with path.open(encoding="utf-8-sig") as file:
        for number, (line, n, block) in enumerate(_split(path, file)):
            where = f"{path}, frame {number} (line {line})"
            info = _parse_header(block[0], where)
            fields = _parse_columns(info, where)
            if "Properties" in info:
                info["Properties"] = ":".join(map(":".join, fields))
            elif placed and _NO_POSITIONS.search(path.stem):
                raise _no_positions(where, "by its name it holds forces or velocities")
            said = info.keys() & {"Lattice", "pbc"}
            extended = bool(said) or "Properties" in info or "energy" in info
            notes = _check_rows(
                block, n, fields, f"{path}, frame {number}", line, extended=extended
            )
            for what, note in notes.items():
                say(what, f"{where}: {note}")
            frame = _read(n, block, info)
            if "cell" in unsaid and not said and not frame.pbc.any() and _looks_condensed(frame):
                say("cell", f"{where}: no cell and no pbc are given: taken as a molecule of "
                    f"{n:,} atoms in vacuum; a crystal or a liquid needs its Lattice")  # fmt: skip
            _check_frame(frame, where)
            if not looked and n > 2:
                _check_distances(frame, where)
                looked = True
            yield frame


def _split(path: Path, file: TextIO) -> Iterator[tuple[int, int, list[str]]]:
    """Yield the first line's number of each frame, its atoms, and its lines from the header on."""
    lines, number = enumerate(file, 1), 0
    at, line = next(lines, (0, ""))
    while line:
        if line.isspace():
            at, line = next(lines, (0, ""))
            continue
        try:
            n = int(line)
        except ValueError:
            n = -1
        if n < 0:
            raise InputError(
                f"{path}, line {at}: a frame begins with its number of atoms, not with "
                f"{' '.join(line.split())[:40]!r}",
                hint="check that it is extxyz and not cut short, and the atoms of the frame before",
            )
        first, block = at, [text for _, text in itertools.islice(lines, n + 1)]
        if len(block) <= n:
            raise InputError(
                f"{path}, frame {number}: on line {first} begins a frame of {n:,} atoms, but the "
                f"file ends after {max(0, len(block) - 1):,}",
                hint="check that it is extxyz and not cut short",
            )
        at, line = next(lines, (0, ""))
        while line.lstrip().startswith("VEC"):  # the cell, as ADF has it
            block.append(line)
            at, line = next(lines, (0, ""))
        yield first, n, block
        number += 1


def _parse_header(text: str, where: str) -> dict[str, Any]:
    """Return what ASE reads of a header, whatever the case of a name and the form of a stress."""
    from ase.io import extxyz

    parse: Callable[[str], dict[str, Any]] = extxyz.key_val_str_to_dict
    try:
        info = parse(text)
    except ValueError:  # ASE takes 9 numbers only
        info = parse(_TENSORS.sub(r"\1_of_6\2", text))
        texts = {key: value for key, value in info.items() if isinstance(value, str)}
        info |= {key: re.sub(r"(stress|virial)_of_6", r"\1", value) for key, value in texts.items()}
        for name in ("stress", "virial"):
            value = info.pop(f"{name}_of_6", None)
            if value is None:
                continue
            if np.shape(value) not in ((6,), (9,)):
                raise InputError(f"{where}: {name} is {value!r:.40}, not 6 or 9 numbers") from None
            info[name] = value if len(value) == 6 else value.reshape((3, 3), order="F")
    for name in _EXACT:
        for other in [key for key in info if key.lower() == name.lower() and key != name]:
            if name in info:
                raise InputError(f"{where}: the header has both {name} and {other}")
            info[name] = info.pop(other)
            if name == "Lattice":
                if np.shape(info[name]) != (9,):
                    raise InputError(f"{where}: {other} is not 9 numbers")
                info[name] = info[name].reshape((3, 3), order="F")
    return info


def _parse_columns(info: dict[str, Any], where: str) -> list[list[str]]:
    """Return name, type and width of each property of the atoms."""
    text = str(info.get("Properties", _PLAIN))
    parts = text.split(":")
    fields = [parts[i : i + 3] for i in range(0, len(parts), 3)]
    if not all(len(field) == 3 and field[2].isdecimal() for field in fields):
        raise InputError(f"{where}: Properties={text[:80]} is not NAME:TYPE:COLUMNS of each column")
    if any(int(width) > _MOST_COLUMNS for _, _, width in fields):
        raise InputError(f"{where}: its Properties have too many columns")
    names = {name for name, _, _ in fields}
    for field in fields:
        if field[0].lower() in _COLUMNS and not {field[0], field[0].lower()} <= names:
            field[0] = field[0].lower()
    names = {name for name, _, _ in fields}
    for known, what in (
        ({"pos", "positions"}, "positions (pos:R:3)"),
        ({"species", "symbols", "Z", "numbers"}, "elements (species:S:1)"),
    ):
        if not known & names:
            raise InputError(f"{where}: its Properties name no {what}: {text[:80]}")
    return fields


def _check_rows(
    block: list[str], n: int, fields: list[list[str]], where: str, line: int, *, extended: bool
) -> dict[str, str]:
    """Check the columns of the rows of a frame; write isotopes as what they are; return notes."""
    types = [kind for _, kind, width in fields for _ in range(int(width))]
    symbols = next(
        (i for i, field in enumerate(fields) if field[0] in ("species", "symbols")), None
    )
    at = None if symbols is None else sum(int(width) for _, _, width in fields[:symbols])
    truths = [i for i, kind in enumerate(types) if kind == "L"]
    notes = {}
    for i in range(1, n + 1):
        words = block[i].split()
        if len(words) > len(types) and not extended:
            notes["columns"] = (
                f"{len(words)} columns, of which 4 are read, as element and position; name the "
                "others in the header: Properties=species:S:1:pos:R:3:NAME:R:WIDTH"
            )
        elif len(words) != len(types):
            named = ":".join(map(":".join, fields))
            raise InputError(
                f"{where}, line {line + 1 + i}: {len(words)} columns, the header names "
                f"{len(types)} ({named[:80]})",
                hint="name all columns in the header, as in "
                "Properties=species:S:1:pos:R:3:forces:R:3",
            )
        if any(words[column] not in _TRUTHS for column in truths):
            raise InputError(f"{where}, line {line + 1 + i}: a column of type L is neither T nor F")
        if at is not None and words[at].capitalize() in _ISOTOPES:
            notes["isotopes"] = f"{words[at]} is read as H"
            words[at] = "H"
            block[i] = " ".join(words) + "\n"
    return notes


def _read(n: int, block: list[str], info: dict[str, Any]) -> Any:
    from ase.io.extxyz import read_xyz

    text = io.StringIO("".join([f"{n}\n", *block]))
    return next(read_xyz(text, index=0, properties_parser=lambda _line: info))


def _check_frame(frame: Any, where: str) -> None:
    if not np.isfinite(frame.positions).all():
        raise InputError(f"{where}: a position is NaN or infinite")
    periodic = frame.cell.array[frame.pbc]
    if len(periodic) and np.linalg.matrix_rank(periodic) < len(periodic):
        raise InputError(
            f"{where}: it is periodic, but has no cell" if not frame.cell.any()
            else f"{where}: it is periodic in directions that its cell does not span",
            hint='give its Lattice="...", or pbc="F F F" for a molecule',
        )  # fmt: skip


def _check_distances(frame: Any, where: str) -> None:
    """Refuse forces or velocities in the place of positions: these lie around zero."""
    from scipy.spatial import KDTree

    nearest = KDTree(frame.positions).query(frame.positions, k=2)[0][:, 1]
    if np.median(nearest) < _TOO_NEAR:
        raise _no_positions(where, f"most atoms are within {np.median(nearest):.2g} Å of another")


def _no_positions(where: str, why: str) -> InputError:
    return InputError(
        f"{where}: its columns are no positions: {why}",
        hint="give the positions, with forces as further columns: "
        "Properties=species:S:1:pos:R:3:forces:R:3",
    )


def _looks_condensed(frame: Any) -> bool:
    """Whether atoms are those of a solid, or fill the box around them."""
    symbols = set(frame.get_chemical_symbols())
    if len(frame) > 2 and "H" not in symbols and symbols - _OF_MOLECULES:
        return True
    volume = float(np.prod(np.ptp(frame.positions, axis=0) + 1))
    return len(frame) >= _SEVERAL and len(frame) > _DENSE * volume
