"""Where compiled kernels are kept, and whether they have to be compiled first."""

from __future__ import annotations

import importlib.util
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


def is_compiled(package: str, module: str) -> bool:
    """Whether numba has kept compiled functions of a module of an installed package."""
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    roots = [os.environ["NUMBA_CACHE_DIR"]] if "NUMBA_CACHE_DIR" in os.environ else places
    return any(any(Path(root).rglob(f"{module}.*.nbi")) for root in roots)
