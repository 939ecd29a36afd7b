"""How a stage tells that it is alive; the command line decides how that looks."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

Advance = Callable[[int], None]
Progress = Callable[[str, int], AbstractContextManager[Advance]]


@contextlib.contextmanager
def silent(_label: str, _total: int) -> Iterator[Advance]:
    """Show nothing."""
    yield lambda _steps: None
