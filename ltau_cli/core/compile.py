"""Where compiled kernels are kept, and whether they have to be compiled first."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def prepare_cache() -> None:
    """Give numba a folder it can write to; call this before numba is imported.

    ``NUMBA_CACHE_DIR`` is respected. Without it numba writes beside the installed packages, which
    a shared installation does not allow: then a folder of the user's is taken, or a temporary one.
    """
    if "NUMBA_CACHE_DIR" in os.environ or os.access(Path(__file__).parent, os.W_OK):
        return
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    user = os.getuid() if hasattr(os, "getuid") else "user"
    for folder in (home / "ltau" / "numba", Path(tempfile.gettempdir()) / f"ltau-numba-{user}"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            os.environ["NUMBA_CACHE_DIR"] = str(folder)
            return


def is_compiled(module: str) -> bool:
    """Whether numba has kept a compiled function of a module file such as ``kernels``."""
    folder = os.environ.get("NUMBA_CACHE_DIR")
    root = Path(folder) if folder else Path(__file__).parent.parent
    return any(root.rglob(f"{module}.*.nbi"))
