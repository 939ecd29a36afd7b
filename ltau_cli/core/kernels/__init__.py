"""The compiled inner loops.

Every kernel runs serially over the rows it is given and releases the GIL; the callers share rows
among threads. A row's result never depends on which rows stand beside it, so any split into
blocks gives the same bytes. Each kernel has a slow, obvious twin in tests/oracles.py.

numba keeps what it compiled by file, and does not see changes in the other files that a function
calls: so kernels that call one another stand in one file.
"""

import sys

import numba

from ltau_cli.core.compile import forgive_cache

# numba looks for the BLAS of scipy as soon as it loads a kernel, for np.cov, which is used nowhere
# here: a third of a second of every cold start.
if sys.modules.setdefault("scipy.linalg.cython_blas", None) is None:  # type: ignore[arg-type]
    import numba.np.arraymath

    del sys.modules["scipy.linalg.cython_blas"]

forgive_cache()
compiled = numba.njit(nogil=True, cache=True, error_model="numpy")
# Sums in any order and with fused operations, as the processor likes it best: for bounds only,
# which leave room for rounding. NaN stays NaN, so a comparison with it must not skip anything.
reordered = numba.njit(
    nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"}
)
