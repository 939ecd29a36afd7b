"""Error bars inside a running simulation: an observer for ASE that keeps frames and ends runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.array_types import Bools, Integers
from ltau_cli.core.domain import FAR, OUTLIERS, out_of_domain
from ltau_cli.core.selection import distance_to_nearest
from ltau_cli.errors import UsageError, warn
from ltau_cli.live import PVALUE, Live
from ltau_cli.lock import Lock
from ltau_cli.output import check_target, open_text
from ltau_cli.writers.frames import annotate, write_frames


class Stopped(Exception):  # noqa: N818 (nothing failed)
    """Raised by a :class:`Watch` to end a run; its ``with`` block takes it.

    Attributes
    ----------
    watch : Watch
    atoms : (n,) int64
        Numbers of the atoms that are the reason.
    """

    def __init__(self, watch: Watch, atoms: Integers, reason: str) -> None:
        super().__init__(reason)
        self.watch, self.atoms = watch, atoms


class Watch:
    """An ASE observer that keeps frames to label, and ends a run when its forces cannot be trusted.

    An atom is flagged when its bound is above ``bound``, its p-value below ``pvalue``, or its
    relative distance above ``distance``. Once some atom has been flagged in ``patience`` frames in
    a row, the frame is kept, if a flagged atom of it is unlike those of the frames kept before, and
    the run ends::

        with Watch(atoms, bound=0.3, pvalue=1e-3) as watch:
            optimizer.attach(watch)
            optimizer.run(fmax=0.05)
        print(watch.stopped or "trusted to the end")

    It ends by an exception, :class:`Stopped`, which the ``with`` block takes; so a run in several
    stages ends as a whole. It is raised between two steps: positions, forces and what observers
    attached before wrote belong together. Attach a Watch last.

    Parameters
    ----------
    atoms : ase.Atoms
        With a :class:`Live` as calculator.
    bound : float, optional
        In error units.
    pvalue : float, optional
        In (0, 1). Where the training set is so small that no p-value is below it, atoms are flagged
        that are farther away than all of it but two, with a relative distance above 2.
    distance : float, optional
        About 1 is inside the training set.
    patience : int
        Frames in a row, of those that the observer sees.
    save : path or None
        Extxyz file of the kept frames: with their scores, without predicted energies and forces.
    stop : bool
        False only keeps frames.
    within : float, optional
        How close, in the scaled descriptors, an atom may be to a kept one and still be like it;
        by default the median distance of a training sample from its own neighbors.
    force : bool
        Replace an existing ``save``.

    Attributes
    ----------
    frames : list of ase.Atoms
        The kept ones; ``info["ltau_frame"]`` counts what the observer had seen before.
    n_seen, n_flagged : int
        Frames seen, and those with a flagged atom.
    stopped : Stopped or None
        Why the run was ended.

    Raises
    ------
    UsageError
        If the atoms have no Live, a limit is none, or nothing that is watched for can happen.
    OutputError
        If ``save`` may not or cannot be written, or another process writes it.
    """

    def __init__(
        self,
        atoms: Any,
        bound: float | None = None,
        pvalue: float | None = None,
        patience: int = 5,
        save: str | os.PathLike[str] | None = "to_label.xyz",
        *,
        distance: float | None = None,
        stop: bool = True,
        within: float | None = None,
        force: bool = False,
    ) -> None:
        self.atoms, self.bound, self.pvalue, self.distance = atoms, bound, pvalue, distance
        self.patience, self.stop = patience, stop
        self.save = None if save is None else Path(save)
        self._check()
        if self.save is not None:
            check_target(self.save, force=force)
            self._lock = Lock(self.save, "give each simulation a file of its own: save=FILE")
        self.within = self._live().scorer.usual_distance if within is None else within
        self.frames: list[Any] = []
        self.n_seen = self.n_flagged = 0
        self.stopped: Stopped | None = None
        self._in_a_row = np.zeros(0, dtype=np.int64)  # frames that each atom has been flagged in
        self._kept = np.zeros((0, 0), dtype=np.float32)  # scaled descriptors of flagged atoms

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, _kind: object, error: object, _trace: object) -> bool:
        return isinstance(error, Stopped) and error.watch is self

    def __call__(self) -> None:
        """Look at the frame as it is now.

        Raises
        ------
        Stopped
            If the run has to end.
        """
        live = self._live()
        live.get_property(live.error, self.atoms)  # of an evaluated frame this evaluates nothing
        flagged = self._flagged(live)
        if len(self._in_a_row) != len(flagged):
            self._in_a_row = np.zeros(len(flagged), dtype=np.int64)
        self._in_a_row = np.where(flagged, self._in_a_row + 1, 0)
        number = self.n_seen
        self.n_seen += 1
        self.n_flagged += bool(flagged.any())
        caught = np.flatnonzero(self._in_a_row >= self.patience)
        if not len(caught):
            return
        self._keep(live, flagged, number)
        if self.stop:
            self.stopped = Stopped(self, caught, self._reason(live, caught, number))
            raise self.stopped

    def _flagged(self, live: Live) -> Bools:
        """Tell which atoms have a bound that is too large, or are too far from the training set."""
        flagged = np.zeros(len(self.atoms), dtype=bool)
        if self.bound is not None:
            flagged |= live.results[live.bound] > self.bound
        if self.pvalue is not None:
            least = live.scorer.least_pvalue
            far = live.relative_distance
            flagged |= out_of_domain(live.results[PVALUE], far, least, self.pvalue)
        if self.distance is not None:
            flagged |= live.relative_distance > self.distance
        return flagged

    def _keep(self, live: Live, flagged: Bools, number: int) -> None:
        points = live.scorer.to_search_space(live.descriptors[flagged])
        if len(self._kept) and distance_to_nearest(points, self._kept).max() <= self.within:
            return
        self._kept = np.concatenate([self._kept.reshape(-1, points.shape[1]), points])
        frame = annotate(self.atoms.copy(), {}, {"frame": number})
        self.frames.append(frame)
        if self.save is not None:
            self._lock.check()
            with open_text(self.save, force=True) as stream:
                write_frames(stream, self.frames)

    def _reason(self, live: Live, caught: Integers, number: int) -> str:
        pvalue = live.results[PVALUE]
        worst = caught[np.argmax(live.relative_distance[caught])]
        told = ""
        if self.bound is not None:
            bound = live.results[live.bound]
            worst = caught[np.argmax(bound[caught])]
            value = f"{bound[worst]:.3g} {live.scorer.units}".rstrip()
            told = f"{live.level:.0%} bound {value}, "
        told += (
            f"p-value {pvalue[worst]:.2g}, relative distance {live.relative_distance[worst]:.3g}"
        )
        return (
            f"frame {number}: atom {worst} ({self.atoms.symbols[worst]}) was flagged in "
            f"{self._in_a_row[worst]} frames in a row: {told}"
        )

    def _live(self) -> Live:
        if not isinstance(self.atoms.calc, Live):
            raise UsageError(
                "Watch needs atoms whose calculator is a Live", hint="atoms.calc = Live(calculator)"
            )
        return self.atoms.calc

    def _check(self) -> None:
        live = self._live()
        if self.bound is None and self.pvalue is None and self.distance is None:
            raise UsageError("Watch watches for nothing", hint="give bound=, pvalue= or distance=")
        limits = {"bound": self.bound, "pvalue": self.pvalue, "distance": self.distance}
        for name, limit in limits.items():
            if limit is not None and not 0 < limit < (1 if name == "pvalue" else np.inf):
                what = "between 0 and 1" if name == "pvalue" else "above 0"
                raise UsageError(
                    f"{name}={limit} is not a number {what}", hint="None watches for no such thing"
                )
        if self.patience < 1:
            raise UsageError(f"patience={self.patience} is no number of frames", hint="1 or more")
        if self.bound is not None and not live.bound:
            raise UsageError(
                "Watch has bound=, but Live has no calibration, and so no bounds",
                hint="give Live a calibration, or watch for pvalue= or distance= only",
            )
        least = live.scorer.least_pvalue
        if self.pvalue is not None and self.pvalue <= least:
            warn(
                f"p cannot be below {least:.2g} with this training set: for pvalue={self.pvalue:g} "
                f"atoms are flagged that are farther away than all of it but {OUTLIERS}, with a "
                f"relative distance above {FAR:g}"
            )
