"""The checkpoints of a training run to an error log, as the training would have written it."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ltau_cli.array_types import Singles
from ltau_cli.epochs import choose_epochs, format_epochs
from ltau_cli.errors import InputError, OutputError
from ltau_cli.output import check_target, open_binary
from ltau_cli.packages.network import NetworkName
from ltau_cli.packages.recorder import LABEL_FILE
from ltau_cli.progress import Advance, Progress
from ltau_cli.readers.frames import check_truth
from ltau_cli.readers.logs.numbered import by_epoch
from ltau_cli.results import CheckpointsResult
from ltau_cli.settings import DescribeSettings
from ltau_cli.stages.given_frames import GivenFrames

log = logging.getLogger("ltau")


def evaluate_checkpoints(
    given: GivenFrames,
    name: NetworkName,
    checkpoints: Sequence[Path],
    folder: Path,
    settings: DescribeSettings,
    *,
    force: bool,
    progress: Progress,
) -> CheckpointsResult:
    """Write the force error of every atom by every checkpoint; NaN where there is no reference.

    The names of the checkpoints tell their epochs. The folder is made if it is not there.
    """
    if "forces" not in given.keys:
        raise InputError(
            f"{given.paths[0]}: no frame has reference forces to compare with",
            hint="name them: --reference-key NAME",
        )
    files = by_epoch(checkpoints)
    start, stop, _ = settings.epochs
    within = choose_epochs(files.epochs, (start, stop, None))
    if not within:
        raise InputError(
            f"--epochs {format_epochs(settings.epochs)} leaves no checkpoint of "
            f"{files.files[0].parent}",
            hint=f"they are of the epochs {files.epochs[0]} to {files.epochs[-1]}",
        )
    places = sorted({*choose_epochs(files.epochs, settings.epochs), within[-1]})
    chosen = [(files.epochs[i], files.files[i]) for i in places]
    targets = {epoch: folder / f"force_errors_epoch_{epoch}.npy" for epoch, _ in chosen}
    labels = folder / LABEL_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error
    for target in (*targets.values(), labels):
        check_target(target, force=force or settings.resume, inputs=[*given.paths, *checkpoints])
    means, n_new = [], 0
    with progress("evaluating", len(chosen) * len(given)) as advance:
        for epoch, path in chosen:
            if settings.resume and targets[epoch].exists():
                errors = np.load(targets[epoch], allow_pickle=False)
                advance(len(given))
            else:
                errors = _force_errors(given, name, path, settings, advance)
                with open_binary(targets[epoch], force=force) as stream:
                    np.save(stream, errors)
                n_new += 1
            means.append(float(np.nanmean(errors, dtype=np.float64)))
    with open_binary(labels, force=True) as stream:  # of the very frames that were evaluated
        np.savez_compressed(stream, **given.labels)  # type: ignore[arg-type]
    return CheckpointsResult(
        output=folder,
        n_atoms=int(given.ends[-1]),
        n_frames=len(given),
        n_checkpoints=len(checkpoints),
        epochs=[epoch for epoch, _ in chosen],
        mean_force_error=means,
        n_new=n_new,
    )


def _force_errors(
    given: GivenFrames,
    name: NetworkName,
    checkpoint: Path,
    settings: DescribeSettings,
    advance: Advance,
) -> Singles:
    """Norm of predicted minus reference force of every atom, (n_atoms,) float32 in eV/Å."""
    network = NetworkName(name.package, str(checkpoint)).load(
        device=settings.device, layer=settings.layer
    )
    network.check_heads(given.heads)
    parts, size = [], 0.0
    for batch in given.batches(settings.batch_size):
        true = np.concatenate([given.reference_forces(frame) for frame in batch])
        told = network(batch).forces
        if told is None:
            raise InputError(f"{checkpoint} gives no forces")
        parts.append(np.linalg.norm(told - true, axis=1))
        size += float(np.nansum(np.linalg.norm(true, axis=1)))
        advance(len(batch))
    errors = np.concatenate(parts)
    check_truth(float(np.nansum(errors)), size, given.paths[0])
    return errors.astype(np.float32)
