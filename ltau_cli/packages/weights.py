"""Weights that are kept while a network is trained, for ``ltau describe --trajectory``."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ltau_cli.errors import writing

FOLDER = "weights"  # beside the epochs of a log
_NAME = re.compile(r"epoch_(\d+)\.?")


class KeptWeights:
    """Keeps the weights of some epochs, spread over the last two thirds of a training.

    How long it will be is not known. So those of every 1st, 2nd, 4th, ... epoch are kept, and some
    of them go as it goes on: at most three times as many as wanted are there at a time, and at
    least as many as wanted in the last two thirds, wherever it ends. ``finish`` leaves those that
    are wanted.

    Parameters
    ----------
    folder : Path
        Of the log; the weights go to ``folder/weights/epoch_0``, ... with the trainer's ending.
    number : int
        Weights to keep; 0 keeps none.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number = folder / FOLDER, number
        self._step = 1

    def keep(self, epoch: int, save: Callable[[Path], object], ending: str) -> None:
        """Keep the weights after an epoch, counted from 0: ``save(path)`` writes them.

        What it writes, a file or a folder, appears whole.

        Raises
        ------
        OutputError
            If they cannot be written.
        """
        while epoch + 1 > 3 * self.number * self._step:
            self._step *= 2
        for old, path in self._there().items():
            if old % self._step or old < epoch // 3:
                _remove(path)
        if epoch % self._step:
            return
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = self.folder / f".{os.getpid()}{ending}"
            try:
                save(temporary)
                target = self.folder / f"epoch_{epoch}{ending}"
                _remove(target)
                os.replace(temporary, target)
            finally:
                _remove(temporary)

    def finish(self, n_epochs: int) -> int:
        """Leave those that are wanted of a training of ``n_epochs``; return how many there are."""
        there = self._there()
        late = [epoch for epoch in sorted(there) if 3 * epoch >= n_epochs] or sorted(there)
        if len(late) > self.number and late[-1] == n_epochs - 1:
            late.pop()  # hardly another than the trained network
        places = np.linspace(0, len(late) - 1, min(self.number, len(late))).round().astype(int)
        wanted = {late[place] for place in places}
        for epoch, path in there.items():
            if epoch not in wanted:
                _remove(path)
        return len(wanted)

    def _there(self) -> dict[int, Path]:
        if not self.folder.is_dir():
            return {}
        paths = list(self.folder.iterdir())
        return {int(m[1]): path for path in paths if (m := _NAME.match(path.name))}


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
