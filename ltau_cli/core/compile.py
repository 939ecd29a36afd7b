"""Where compiled kernels are kept, and whether they have to be compiled first."""

import atexit
import contextlib
import importlib.util
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any


def prepare_cache() -> None:
    """Give numba a folder it can write to; call this before numba is imported.

    ``NUMBA_CACHE_DIR`` is respected. Without it numba writes beside the installed packages, which
    a shared installation does not allow: then a folder of the user's is taken. What numba finds in
    its folder it runs as code, so it must be this user's alone; if none is, a new one serves this
    process.
    """
    if "NUMBA_CACHE_DIR" in os.environ or os.access(Path(__file__).parent, os.W_OK):
        return
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    shared = Path(_temporary_folder())
    for folder in (home / "ltau" / "numba", shared / f"ltau-numba-{os.getuid()}"):
        if folder.is_absolute() and _is_ours(folder):
            break
    else:
        folder = Path(tempfile.mkdtemp(prefix="ltau-numba-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["NUMBA_CACHE_DIR"] = str(folder)


def forgive_cache() -> None:
    """Let numba compile what it cannot read back, such as a file cut short, or cannot keep.

    Of itself it only forgives that a file is not there, and it sets up its compiler before it looks
    for a file: 0.2 s of every cold start, for which the machine code that it finds has no use. What
    has to be compiled sets it up then. Call this before the first kernel runs.
    """
    from numba.core import caching
    from numba.core.runtime.nrt import rtsys

    cache: Any = caching.Cache
    save = cache.save_overload

    def load_or_forget(self: Any, signature: Any, context: Any) -> Any:
        rtsys.initialize(context)  # for kernels that allocate
        try:
            return self._load_overload(signature, context)
        except Exception:  # what a damaged pickle raises may be anything
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_or_not(self: Any, *entry: Any) -> None:
        with contextlib.suppress(OSError):
            save(self, *entry)

    cache.load_overload, cache.save_overload = load_or_forget, save_or_not


def is_compiled(package: str, function: str) -> bool:
    """Whether numba has kept a compiled function of an installed package."""
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    roots = [os.environ["NUMBA_CACHE_DIR"]] if "NUMBA_CACHE_DIR" in os.environ else places
    return any(any(Path(root).rglob(f"*.{function}-*.nbi")) for root in roots)


def _temporary_folder() -> str:
    """Return the folder for temporary files, or nothing where there is none."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return ""


def _is_ours(folder: Path) -> bool:
    """Whether a folder is there, or can be made, that only this user may write to."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o022
    return private and found.st_uid == os.getuid() and os.access(folder, os.W_OK)
