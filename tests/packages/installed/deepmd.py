"""The calculator of DeePMD-kit, whose trainings are not recorded."""

from __future__ import annotations

TITLE = "DeePMD-kit"  # of its section in docs/models.md


def calculator(file):
    from deepmd.calculator import DP

    return DP(file)
