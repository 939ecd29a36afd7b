"""The model deviation table of DeePMD-kit, ``model_devi.out``.

The layout is that of DeePMD-kit's LAMMPS pair style: seven columns, a header that starts with #
(https://docs.deepmodeling.com/projects/deepmd, "Model deviation"). DP-GEN (Zhang et al., Comput.
Phys. Commun. 253, 107206 (2020), doi 10.1016/j.cpc.2020.107206) reads it with ``numpy.loadtxt`` and
compares the columns ``max_devi_f`` and ``max_devi_v`` with its trust levels.
"""

from typing import TextIO

from ltau_cli.array_types import Floats, Integers

_COLUMNS = ("max_devi_v", "min_devi_v", "avg_devi_v", "max_devi_f", "min_devi_f", "avg_devi_f")


def write_model_devi(
    stream: TextIO, step: Integers, largest: Floats, smallest: Floats, mean: Floats
) -> None:
    """Write one line per frame, of (n_frames,) arrays: its step, and errors over its atoms.

    The virial columns are 0: there is no number for them, and with NaN DP-GEN would stop. Zero
    is below its default trust levels of the virial.
    """
    stream.write(f"#{'step':>11}" + "".join(f"{name:>19}" for name in _COLUMNS) + "\n")
    zeros = f"{0:19.6e}" * 3
    for row in zip(step, largest, smallest, mean, strict=True):
        stream.write(f"{row[0]:12d}{zeros}" + "".join(f"{v:19.6e}" for v in row[1:]) + "\n")
