"""Which samples of the set a batch of a PyTorch loader holds, without touching the samples."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any


class NumberedLoader:
    """Iterates over a loader, and knows the numbers of the samples in the current batch.

    What the sampler draws is noted as it is drawn, in the order of the batches, which a loader
    keeps with any number of workers. Neither samples nor random numbers are touched.

    Parameters
    ----------
    loader : torch.utils.data.DataLoader

    Attributes
    ----------
    numbers : list of int
        Positions in ``loader.dataset``, in the order of the batch.
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.numbers: list[int] = []
        self._drawn: deque[list[int]] = deque()
        # The loader guards this attribute, for it does not matter once workers have begun.
        vars(loader)["batch_sampler"] = _Watched(loader.batch_sampler, self._drawn)

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of an epoch."""
        self._drawn.clear()
        for batch in self.loader:
            self.numbers = self._drawn.popleft()
            yield batch

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        """Be the loader in all other respects."""
        return getattr(self.loader, name)


class _Watched:
    """A batch sampler that notes what it draws."""

    def __init__(self, sampler: Any, drawn: deque[list[int]]) -> None:
        self._sampler = sampler
        self._drawn = drawn

    def __iter__(self) -> Iterator[list[int]]:
        for numbers in self._sampler:
            self._drawn.append(list(numbers))
            yield numbers

    def __len__(self) -> int:
        return len(self._sampler)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)
