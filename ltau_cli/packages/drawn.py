"""Which samples of the set a batch of a PyTorch loader holds, without touching the samples."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from ltau_cli.errors import InputError


class DrawnBatches:
    """Notes what the sampler of a loader draws, batch by batch.

    A loader gives its batches in the order in which they were drawn, with any number of workers.
    Neither samples nor random numbers are touched.

    Parameters
    ----------
    loader : torch.utils.data.DataLoader

    Raises
    ------
    InputError
        If it has no sampler of batches.
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self._drawn: deque[list[int]] = deque()
        sampler = getattr(loader, "batch_sampler", None)
        if sampler is None:
            raise InputError(f"samples of a {type(loader).__name__} cannot be told apart")
        # The loader guards this attribute, since it comes too late once batches are being drawn.
        vars(loader)["batch_sampler"] = _Watched(sampler, self._drawn)

    def pop(self) -> list[int]:
        """Return the positions in ``loader.dataset`` of the batch that comes next."""
        return self._drawn.popleft()


class _Watched:
    """A batch sampler that notes what it draws; a new pass forgets the last one."""

    def __init__(self, sampler: Any, drawn: deque[list[int]]) -> None:
        self._sampler = sampler
        self._drawn = drawn

    def __iter__(self) -> Iterator[list[int]]:
        self._drawn.clear()
        for numbers in self._sampler:
            self._drawn.append([int(number) for number in numbers])
            yield numbers

    def __len__(self) -> int:
        return len(self._sampler)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._sampler, name)
