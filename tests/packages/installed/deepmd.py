"""The calculator of DeePMD-kit, whose trainings are not recorded."""

TITLE = "DeePMD-kit"  # of its section in docs/models.md


def calculator(file):
    from deepmd.calculator import DP

    return DP(file)
