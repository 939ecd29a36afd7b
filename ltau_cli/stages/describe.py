"""Frames and a trained network to a described artifact, or checkpoints to an error log.

As in scoring, finished batches go to a store beside the result, where a later call of the same job
goes on; then they are streamed into the artifact.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli import stop
from ltau_cli.artifacts.described import (
    WRITE_ATOMS,
    DescribedFile,
    atom_dtype,
    find_origin,
    mean_errors,
    to_rows,
    write_frames,
    write_predictions,
)
from ltau_cli.artifacts.provenance import Hasher
from ltau_cli.artifacts.read import read_up_to_date
from ltau_cli.artifacts.write import create_artifact, to_json
from ltau_cli.output import check_target
from ltau_cli.packages.network import Network, NetworkName, Prediction
from ltau_cli.pieces.store import Store, open_store, stamps_of
from ltau_cli.progress import Advance, Progress, silent
from ltau_cli.readers.place import Place, check_file
from ltau_cli.results import CheckpointsResult, DescribeResult
from ltau_cli.settings import UNITS, DescribeSettings, documented
from ltau_cli.stages.checkpoints import evaluate_checkpoints
from ltau_cli.stages.given_frames import GivenFrames, look_through
from ltau_cli.stages.trajectory import Trajectory

log = logging.getLogger("ltau")

STORE_SECONDS = 1.0  # of work in a piece, which may be many small batches


@documented
def run(
    frames: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    network: str,
    output: str | os.PathLike[str] = "frames.h5",
    *,
    settings: DescribeSettings | None = None,
    force: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> DescribeResult | CheckpointsResult:
    """Compute descriptors and predictions of frames, and keep their references beside them.

    Parameters
    ----------
    frames : path or sequence of paths
        extxyz files, one after the other.
    network : str
        ``PACKAGE:FILE``, of a folder of :mod:`ltau_cli.packages`. A pattern that fits the
        checkpoints of a run, such as ``mace:checkpoints/*.pt``, gives a log instead: see
        :func:`ltau_cli.stages.checkpoints.evaluate_checkpoints`.
    output : path
        The described artifact, or the folder of the log.

    Raises
    ------
    InputError
        If frames or network cannot be used.
    UsageError
        If the network or layer cannot be meant.
    OutputError
        If the result may not or cannot be written.
    """
    settings, output = DescribeSettings.of(settings, options), Path(output)
    several = [frames] if isinstance(frames, str | os.PathLike) else frames
    paths = [Path(path) for path in several]
    name = NetworkName.parse(network)
    checkpoints = name.checkpoints()
    if checkpoints is None:
        check_target(output, force=force or settings.resume, inputs=[*paths, name.file])
    for path in paths:
        check_file(path)
        find_origin(Place(path))
    with Hasher(paths) as hasher:
        given = look_through(
            paths, isolated=settings.isolated, reference=settings.reference, heads=settings.heads
        )
        _tell_of(given)
        if checkpoints is not None:
            return evaluate_checkpoints(
                given, name, checkpoints, output, settings, force=force, progress=progress,
            )  # fmt: skip
        for path in paths:
            hasher.add("frames", path, "frames")
        loaded = name.load(device=settings.device, layer=settings.layer)
        loaded.check_heads(given.heads)
        hasher.add("network", loaded.file, "network")
        trajectory = None
        if settings.trajectory is not None:
            trajectory = Trajectory.open(name, settings.trajectory, settings.kept, settings.device)
        work = _Work(given, name, loaded, trajectory, output, settings, hasher)
        return _describe(work, force=force, progress=progress)


@dataclass(frozen=True)
class _Work:
    """Frames, the loaded network, and what is to be done with them."""

    given: GivenFrames
    name: NetworkName
    network: Network
    trajectory: Trajectory | None
    output: Path
    settings: DescribeSettings
    hasher: Hasher

    def predict(self, frames: Sequence[Any]) -> Prediction:
        """Evaluate the network, and the weights that were kept, where they are asked for."""
        if self.trajectory is None:
            return self.network(frames)
        told = self.network([frame.copy() for frame in frames])
        return replace(told, trajectory=self.trajectory(frames, told.forces))

    def parameters(self, inputs: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return what the artifact records, given the records of the inputs."""
        return {
            "origin": {
                "package": self.name.package,
                "layer": self.network.layer,
                "network_sha256": inputs[-1]["sha256"],
            },
            "batch_size": self.settings.batch_size,
            "isolated": self.settings.isolated,
            "heads": self.settings.heads,
            "references": self.given.keys,
        } | self._kept()

    def _kept(self) -> dict[str, Any]:
        return {} if self.trajectory is None else {"trajectory": self.trajectory.kept}

    def identify(self) -> dict[str, Any]:
        """All that the rows depend on, without reading whole files."""
        files = [*self.given.paths, self.network.file]
        return {
            "package": self.name.package,
            "layer": self.network.layer,
            "batch_size": self.settings.batch_size,
            "isolated": self.settings.isolated,
            "heads": self.settings.heads,
            "files": stamps_of([Place(path) for path in files]),
        } | self._kept()


def _tell_of(given: GivenFrames) -> None:
    if given.isolated:
        numbers = ", ".join(map(str, given.isolated[:5])) + (
            ", ..." if len(given.isolated) > 5 else ""
        )
        log.warning(
            "%s: left out %s frames of isolated atoms (config_type=IsolatedAtom: frames %s)",
            given.paths[0], f"{len(given.isolated):,}", numbers,
        )  # fmt: skip
    for quantity, n in given.n_without.items():
        if n:
            log.warning(
                "%s: %s of %s frames have no %s (reference %s)",
                given.paths[0], f"{n:,}", f"{len(given):,}", given.keys[quantity], quantity,
            )  # fmt: skip


def _describe(work: _Work, *, force: bool, progress: Progress) -> DescribeResult:
    given, output = work.given, work.output
    if work.settings.resume and output.exists():
        old = _read_up_to_date(work, force=force)
        if old is not None:
            return old
        log.warning("%s is out of date; describing again", output)
        force = True
    first = work.predict(next(given.batches(work.settings.batch_size)))
    dtype = atom_dtype(first)
    with open_store(output, work.identify() | {"row": dtype.descr}) as store:
        _fill(store, work, first, progress)
        with create_artifact(output, "described", units=UNITS["forces"], force=force) as artifact:
            write_predictions(artifact, store.blocks("atoms", WRITE_ATOMS), dtype, given.natoms)
            write_frames(
                artifact, given.with_references(), given.labels, given.natoms, given.number
            )
            force_error, energy_error = mean_errors(artifact, given.natoms, given.paths[0])
            result = DescribeResult(
                output=output,
                units=UNITS["forces"],
                n_atoms=int(given.ends[-1]),
                n_frames=len(given),
                n_isolated=len(given.isolated),
                width=first.descriptors.shape[1],
                layer=work.network.layer,
                references=given.keys,
                n_without_forces=given.n_without.get("forces", len(given)),
                heads=dict(Counter(given.heads)) if len(work.network.heads) > 1 else {},
                mean_force_error=force_error,
                mean_energy_error=energy_error,
                kept_epochs=work.trajectory.kept["epochs"] if work.trajectory else [],
            )
            inputs = work.hasher.records()
            artifact.finish(
                parameters=work.parameters(inputs), inputs=inputs, summary=result.stored()
            )
    return result


def _fill(store: Store, work: _Work, told: Prediction, progress: Progress) -> None:
    """Describe the atoms that the store does not have yet; ``told`` is of the first batch."""
    n = int(work.given.ends[-1])
    todo = store.missing("atoms", 0, n, n)
    done = n - sum(end - start for start, end in todo)
    if done:
        log.warning(
            "%s: %s of %s atoms are there already; going on", work.output, f"{done:,}", f"{n:,}"
        )
    with progress("describing", n) as advance:
        advance(done)
        for start, end in todo:
            _describe_atoms(store, work, told, start, end, advance)


def _describe_atoms(
    store: Store, work: _Work, told: Prediction, start: int, end: int, advance: Advance
) -> None:
    """Describe atoms ``start..end``, of whole batches, and store them now and then."""
    given, dtype = work.given, atom_dtype(told)
    held: list[npt.NDArray[Any]] = []
    at, frame = start, int(np.searchsorted(given.ends, start, side="right"))
    stored = time.monotonic()
    try:
        for batch in given.batches(work.settings.batch_size, frame):
            stop.look()
            natoms = given.natoms[frame : frame + len(batch)]
            held.append(to_rows(told if frame == 0 else work.predict(batch), natoms, dtype))
            at, frame = at + len(held[-1]), frame + len(batch)
            advance(len(held[-1]))
            if at >= end:
                return
            if time.monotonic() > stored + STORE_SECONDS:
                store.save("atoms", start, at, {"rows": np.concatenate(held)})
                start, held, stored = at, [], time.monotonic()
    finally:
        if held:
            store.save("atoms", start, at, {"rows": np.concatenate(held)})


def _read_up_to_date(work: _Work, *, force: bool) -> DescribeResult | None:
    """Read the summary of the result if it is what this job would make again."""
    inputs = work.hasher.records()
    wanted = to_json([work.parameters(inputs), inputs])

    def same(old: DescribedFile) -> bool:
        return to_json([old.parameters, old.inputs]) == wanted

    found: DescribeResult | None = read_up_to_date(work.output, DescribedFile, same, force)
    return found
