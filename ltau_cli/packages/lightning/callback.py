"""A Lightning callback that records what ``training_step`` returns."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ltau_cli.errors import InputError


def make_callback(
    record: Callable[[Any, Any], object], end_epoch: Callable[[], object], ids: str, errors: str
) -> Any:
    """Return the callback; see :meth:`ltau_cli.packages.recorder.Recorder.lightning`.

    Raises
    ------
    InputError
        If neither ``lightning`` nor ``pytorch_lightning`` is there; later, if ``training_step``
        does not return the two keys.
    """
    if "pytorch_lightning" in sys.modules and "lightning" not in sys.modules:
        from pytorch_lightning import Callback
    else:
        try:
            from lightning.pytorch import Callback
        except ImportError as error:
            raise InputError("Lightning is not installed", hint="pip install lightning") from error

    class RecorderCallback(Callback):  # type: ignore[misc]
        """Records each batch, and ends each epoch."""

        def on_train_batch_end(
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            if not isinstance(outputs, dict) or not {ids, errors} <= outputs.keys():
                raise InputError(
                    f"training_step returns no {ids!r} and {errors!r} to record",
                    hint=f"return {{'loss': loss, {ids!r}: ..., {errors!r}: ...}}",
                )
            record(outputs[ids], outputs[errors])

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            end_epoch()

    return RecorderCallback()
