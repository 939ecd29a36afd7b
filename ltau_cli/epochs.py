"""Which epochs of a run are meant: START:STOP:STEP, by epoch number."""

from collections.abc import Sequence

EpochRange = tuple[int | None, int | None, int | None]
ALL_EPOCHS: EpochRange = (None, None, None)


def parse_epochs(text: str) -> EpochRange:
    """Read ``START:STOP:STEP``, each of which may be left out.

    Raises
    ------
    ValueError
        If it is nothing like that, or STEP is below 1.
    """
    try:
        parts = [int(part) if part.strip() else None for part in text.split(":")]
    except ValueError:
        parts = []
    start, stop, step = [*parts, None][:3] if len(parts) in (2, 3) else (None, None, 0)
    if step is not None and step < 1:
        raise ValueError(f"{text!r} is not START:STOP:STEP, such as 10: or 10:200:2")
    return start, stop, step


def format_epochs(epochs: EpochRange) -> str:
    """Return the text that :func:`parse_epochs` reads."""
    start, stop, step = ("" if bound is None else str(bound) for bound in epochs)
    return f"{start}:{stop}" + (f":{step}" if step else "")


def choose_epochs(numbers: Sequence[int], epochs: EpochRange) -> list[int]:
    """Choose epochs of a run, as places among their increasing numbers.

    From START up to STOP, which is left out; a negative one counts from the end. Of these, every
    STEP-th number from START, or from the first epoch.
    """
    if not numbers:
        return []
    start, stop, step = epochs
    end = numbers[-1] + 1
    low = numbers[0] if start is None else start + (end if start < 0 else 0)
    high = end if stop is None else stop + (end if stop < 0 else 0)
    return [i for i, e in enumerate(numbers) if low <= e < high and (e - low) % (step or 1) == 0]
