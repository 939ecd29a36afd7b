"""Lightning: which samples the batches of its training loader hold, and the log of a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ltau_cli.errors import InputError
from ltau_cli.packages.frame_log import DrawnBatches, FrameFile, FrameLog, log_of, number_samples
from ltau_cli.packages.hooks import around, name_trainer, or_refuse

_drawn: list[DrawnBatches | InputError] = []


def watch_batches(fit_loop: Any) -> None:
    """Watch the training loader that Lightning makes in the end, with its own samplers in it."""

    @around(fit_loop, "_process_dataloader")
    def process(original: Any, *args: Any, **kwargs: Any) -> Any:
        loader = original(*args, **kwargs)
        try:
            _drawn[:] = [DrawnBatches(loader)]
        except InputError as error:  # of no concern to loops of one's own
            _drawn[:] = [error]
        return loader


def log_of_training(
    package: str,
    describe: Callable[[Any], FrameFile],
    *,
    forces: bool = True,
    energies: bool = True,
) -> FrameLog:
    """Return the log of the training that runs, whose loader has begun to draw its batches."""
    drawn = _drawn[0]
    if isinstance(drawn, InputError):
        with or_refuse():
            raise drawn

    def begin() -> FrameLog:
        samples = number_samples(drawn.loader.dataset, describe)
        return FrameLog(
            name_trainer(package), *samples, drawn=drawn, forces=forces, energies=energies
        )

    return log_of(drawn.loader, begin)
