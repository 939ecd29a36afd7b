"""Signals that ask the process to end: noted, and heeded between two blocks of work."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

WORDS: dict[int, str] = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "hung up",
    signal.SIGQUIT: "quit",
    signal.SIGXCPU: "out of CPU time",
}
SAME = 0.3  # seconds in which a repeated signal is the same request, as timeout(1) sends two
GRACE = 5.0  # seconds until work that does not look is ended where it stands

_asked: int | None = None
_asked_at = 0.0
_clean_ups: list[Callable[[], None]] = []


class Ended(BaseException):
    """The work was asked to end, and does; the exit code is 128 and the signal's, as in a shell."""

    def __init__(self, number: int) -> None:
        super().__init__(f"{WORDS.get(number, 'ended')}; nothing was left half-written")
        self.exit_code = 128 + number


def listen() -> None:
    """Note signals from now on; those that are ignored, as under ``nohup``, stay so."""
    for number in WORDS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _note)
    signal.signal(signal.SIGALRM, _end_here)


def look() -> None:
    """End the work here if that was asked for; called wherever a block of it is done."""
    if _asked is not None:
        raise Ended(_asked)


def unset_timer() -> None:
    """Let the process end in peace: from here on nothing can be cut off."""
    signal.setitimer(signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def at_worst(clean_up: Callable[[], None]) -> Iterator[None]:
    """Have something removed even where the work is ended without an exception."""
    _clean_ups.append(clean_up)
    try:
        yield
    finally:
        _clean_ups.remove(clean_up)


def _note(number: int, frame: FrameType | None) -> None:
    """Take the first signal for a request; a second, or the end of the grace, is an order."""
    global _asked, _asked_at
    if _asked is None:
        _asked, _asked_at = number, time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, GRACE)
    elif time.monotonic() > _asked_at + SAME:
        _end_here(number, frame)


def _end_here(number: int, _frame: FrameType | None) -> None:
    """End the process; as after SIGKILL, every result is the old one or the whole new one."""
    asked = _asked or number
    try:
        for clean_up in _clean_ups:
            clean_up()
        os.write(2, f"error: {Ended(asked)}\n".encode())
    finally:
        os._exit(128 + asked)
