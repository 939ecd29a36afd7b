"""Unit labels, which users spell as they like."""

import re

_ENERGY = {"ev": "eV", "mev": "meV", "kcal/mol": "kcal/mol", "kj/mol": "kJ/mol", "ha": "Ha",
           "hartree": "Ha", "eh": "Ha", "ry": "Ry", "rydberg": "Ry"}  # fmt: skip
_PER = {"": "", "å": "Å", "a": "Å", "ang": "Å", "angstrom": "Å", "bohr": "bohr", "a0": "bohr",
        "nm": "nm", "atom": "atom"}  # fmt: skip


def _parse(label: str) -> tuple[str, str] | None:
    """Energy, and length or atom that it is per; None for what is not known."""
    text = re.sub(r"[\s_*·()]", "", label.lower().replace("\u212b", "å"))
    text = re.sub(r"/?(å|ang|angstrom|bohr|nm|atom|a)(\^?-1|⁻¹)$", r"/\1", text)
    for energy in sorted(_ENERGY, key=len, reverse=True):
        per = text.removeprefix(energy)
        if text.startswith(energy) and (per == "" or per[0] == "/") and per[1:] in _PER:
            return _ENERGY[energy], _PER[per[1:]]
    return None


def same_units(one: str, other: str) -> bool:
    """Whether two labels may stand for the same units; those that are not known may."""
    known = _parse(one), _parse(other)
    return None in known or known[0] == known[1]


def of_forces(label: str) -> bool:
    """Whether a label names the units of a force."""
    known = _parse(label)
    return known is not None and known[1] in ("Å", "bohr", "nm")
