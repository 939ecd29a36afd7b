"""What every Python process of a recorded training runs as it starts: it puts the hooks in place.

The trainer may live in another environment than ``ltau``. So this very package is what it imports,
by its place, and no path of this environment is added to that one.
"""

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def _import_this_ltau() -> None:
    package = HERE.parent.parent
    spec = importlib.util.spec_from_file_location(
        "ltau_cli", package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ltau_cli"] = module
    spec.loader.exec_module(module)


def _run_the_one_behind() -> None:
    """Run the ``sitecustomize`` that this one hides, if there is one."""
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize")
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


_run_the_one_behind()
if "LTAU_RECORD_OUTPUT" in os.environ:
    _import_this_ltau()
    from ltau_cli.packages import hooks

    hooks.install(os.environ["LTAU_RECORD_OUTPUT"])
