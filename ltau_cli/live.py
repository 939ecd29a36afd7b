"""Error bars inside a running simulation: a calculator and an observer for ASE."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.core.selection import distance_to_nearest
from ltau_cli.errors import InputError, UsageError
from ltau_cli.output import check_target, open_text
from ltau_cli.stages.export import PREFIX, property_name, to_plain
from ltau_cli.stages.frame_descriptors import Function, open_descriptors_of
from ltau_cli.stages.frame_scores import FrameScorer
from ltau_cli.writers.frames import annotate, write_frames

try:
    from ase.calculators.calculator import Calculator, all_changes
except ImportError as error:
    raise InputError(
        "Live and Watch work inside ASE, which is not installed", hint="pip install 'ltau[ase]'"
    ) from error

ERROR, BOUND, PVALUE = PER_ATOM = ("force_error", "force_error_bound", "ood_pvalue")
LEVEL = "force_error_level"
OWN = (*PER_ATOM, LEVEL)


class Live(Calculator):
    """An ASE calculator with error bars: the results of another one, and what ``ltau score`` tells.

    The results of the wrapped calculator stay as they are. Beside them stand ``force_error``
    (n_atoms,) and, with a calibration, ``force_error_bound`` (n_atoms,), both in the error units of
    the model, ``force_error_level``, the share of the errors that stay under the bound, and
    ``ood_pvalue`` (n_atoms,), small where an atom is unlike anything in the training set.

    A frame that is evaluated gets them too, under the names of ``ltau export``: per atom in
    ``atoms.arrays`` (``ltau_calibrated_error``, ``ltau_error_bound_90``, ``ltau_ood_pvalue``), per
    frame in ``atoms.info`` (``ltau_calibrated_error_mean`` and ``..._max``,
    ``ltau_error_bound_max_90``, ``ltau_ood_pvalue_min``). So an extxyz file holds all of them. A
    ``.traj`` file has no place for arrays of one's own: it holds ``atoms.info``, and the results
    above in ``atoms.calc.parameters["ltau"]``.

    Parameters
    ----------
    calculator : ase.calculators.calculator.BaseCalculator
        Gives energy, forces and whatever else it can.
    model : path
        Model artifact, without shards.
    calibration : path or None
        Calibration artifact of that model; None gives expected errors, and no bounds.
    descriptors : str or callable, optional
        Where the descriptors of the atoms come from. A package, such as ``"mace"``: from the
        network in the calculator while it computes the forces (MACE, NequIP, SevenNet, CHGNet).
        ``"mace:FILE"``: from that model file, which is evaluated beside the calculator. A function:
        it gets an ``ase.Atoms`` and returns (n_atoms, d). None takes the package whose descriptors
        the model was fitted on, where ``ltau describe`` made them.
    level : float
        Of the bound, one of the calibration's.
    threads : int
        Of the neighbor search; the numbers do not depend on it.
    device : str, optional
        For a model file, as PyTorch has it; None takes a GPU if there is one.

    Attributes
    ----------
    calculator : ase.calculators.calculator.BaseCalculator
        The wrapped one.
    scorer : FrameScorer
        The model and the calibration.
    descriptors : (n_atoms, d) float32
        Of the frame evaluated last.

    Raises
    ------
    InputError, ArtifactError, UsageError
        What is wrong with which file or argument.
    """

    def __init__(
        self,
        calculator: Any,
        model: str | os.PathLike[str] = "model.h5",
        calibration: str | os.PathLike[str] | None = "calibration.h5",
        descriptors: str | Function | None = None,
        *,
        level: float = 0.9,
        threads: int = 1,
        device: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if not hasattr(calculator, "get_property"):
            raise UsageError(
                f"Live wraps an ASE calculator, not a {type(calculator).__name__}",
                hint="for example Live(MACECalculator('my.model'))",
            )
        self._made_of = (calculator, model, calibration, descriptors, level, threads, device)
        self.calculator = calculator
        self.implemented_properties = [*calculator.implemented_properties, *PER_ATOM]
        self.ignored_changes = set(getattr(calculator, "ignored_changes", ()))
        self.scorer = FrameScorer(
            Path(model), None if calibration is None else Path(calibration), threads=threads
        )
        self.level = level
        self._column = _column_of(level, self.scorer)
        self._source = open_descriptors_of(
            descriptors, calculator, Path(model), self.scorer.origin, device
        )
        self.descriptors = np.zeros((0, self.scorer.width), dtype=np.float32)
        self._told: Callable[[], Any] = lambda: None  # the frame that has the scores
        self._error_name = "expected_error" if calibration is None else "calibrated_error"

    def __reduce__(self) -> Any:
        """Pickle what it was made of; the files are read again."""
        return _make_again, self._made_of

    @property
    def calibrated(self) -> bool:
        """Whether there are bounds."""
        return self._column is not None

    def check_state(self, atoms: Any, tol: float = 1e-15) -> list[str]:
        """Return what changed since the last evaluation, for the wrapped calculator too."""
        bare = _without_scores(atoms)
        changed: list[str] = super().check_state(bare, tol)  # type: ignore[no-untyped-call]
        return changed or list(self.calculator.check_state(bare, tol))

    def get_property(self, name: str, atoms: Any = None, allow_calculation: bool = True) -> Any:
        """Return a result, and let the frame have the scores; evaluate it first if it changed."""
        found = super().get_property(  # type: ignore[no-untyped-call]
            name, atoms, allow_calculation
        )
        if atoms is not None:
            self._tell(atoms)
        return found

    def calculate(
        self,
        atoms: Any = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Let the wrapped calculator evaluate a frame, and score its atoms."""
        frame = _without_scores(self.atoms if atoms is None else atoms)
        kept = {} if system_changes else {n: v for n, v in self.results.items() if n in OWN}
        wanted = [name for name in properties if name not in OWN]
        self.atoms = None  # until all went well
        inner = self.calculator

        def evaluate() -> None:
            for name in wanted:
                inner.get_property(name, frame)

        if not kept:
            inner.results = {}  # so that its network is called, though it may know the frame
            wanted = wanted or list(inner.implemented_properties[:1])
            kept = self._score(self._source.describe(frame, evaluate), frame)
        else:
            evaluate()
        self.results = {**inner.results, **kept}
        self.atoms = frame

    def export_properties(self) -> Any:
        """Return the results that ASE has names for."""
        from ase.outputs import Properties, all_outputs

        return Properties({n: value for n, value in self.results.items() if n in all_outputs})

    def todict(self, skip_default: bool = True) -> dict[str, Any]:
        """Return the parameters of the wrapped calculator, and the scores of the last frame."""
        atoms = self._told()
        known = atoms is not None and not self.check_state(atoms)  # or it moved since then
        scores = {n: value for n, value in self.results.items() if n in OWN} if known else {}
        return {**self.calculator.todict(), "ltau": scores}

    def _score(self, descriptors: npt.ArrayLike, frame: Any) -> dict[str, Any]:
        self.descriptors = self.scorer.check(descriptors, len(frame), self._source.name)
        scores = self.scorer.score(self.descriptors, frame)
        found: dict[str, Any] = {ERROR: scores.error, PVALUE: scores.pvalue}
        if self._column is not None:
            found |= {BOUND: scores.bound[:, self._column], LEVEL: self.level}
        return found

    def _tell(self, atoms: Any) -> None:
        """Write the scores to the frame, or remove those of what it was before."""
        self._told = weakref.ref(atoms)
        _remove_scores(atoms)
        if ERROR not in self.results:
            return
        error, pvalue = self.results[ERROR], self.results[PVALUE]
        arrays = {self._error_name: error, "ood_pvalue": pvalue}
        info = {
            f"{self._error_name}_mean": error.mean(),
            f"{self._error_name}_max": error.max(),
            "ood_pvalue_min": pvalue.min(),
        }
        if self.calibrated:
            bound = self.results[BOUND]
            arrays[f"error_bound_{self.level}"] = bound
            info[f"error_bound_max_{self.level}"] = bound.max()
        annotate(
            atoms,
            {property_name(name): values for name, values in arrays.items()},
            {property_name(name): to_plain(value) for name, value in info.items()},
        )


def _make_again(*made_of: Any) -> Live:
    *first, level, threads, device = made_of
    return Live(*first, level=level, threads=threads, device=device)


def _column_of(level: float, scorer: FrameScorer) -> int | None:
    """Column of the bounds; None without a calibration."""
    if not len(scorer.levels):
        return None
    (columns,) = np.nonzero(np.isclose(scorer.levels, level))
    if not len(columns):
        raise UsageError(
            f"{scorer.calibration_path} has no bounds at the level {level:g}",
            hint="it has: " + ", ".join(f"{known:g}" for known in scorer.levels),
        )
    return int(columns[0])


_SCORES = tuple(
    PREFIX + name for name in ("expected_error", "calibrated_error", "error_bound", "ood_pvalue")
)


def _remove_scores(atoms: Any) -> None:
    for values in (atoms.arrays, atoms.info):
        for name in [name for name in values if str(name).startswith(_SCORES)]:
            del values[name]


def _without_scores(atoms: Any) -> Any:
    """Return a copy without scores, of which some calculators would say that they changed."""
    bare = atoms.copy()
    _remove_scores(bare)
    return bare


class Stopped(Exception):  # noqa: N818 (nothing failed)
    """Raised by a :class:`Watch` to end a run; its ``with`` block takes it.

    Attributes
    ----------
    watch : Watch
    atoms : (n,) int64
        Numbers of the atoms that are the reason.
    """

    def __init__(self, watch: Watch, atoms: npt.NDArray[np.int64], reason: str) -> None:
        super().__init__(reason)
        self.watch, self.atoms = watch, atoms


class Watch:
    """An ASE observer that keeps frames to label, and ends a run when its forces cannot be trusted.

    An atom is flagged when its bound is above ``bound`` or its p-value below ``pvalue``. Once some
    atom has been flagged in ``patience`` frames in a row, the frame is kept, if a flagged atom of
    it is unlike those of the frames kept before, and the run ends::

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
        In (0, 1).
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
        If the atoms have no Live, or nothing that is watched for can happen.
    OutputError
        If ``save`` may not or cannot be written.
    """

    def __init__(
        self,
        atoms: Any,
        bound: float | None = None,
        pvalue: float | None = None,
        patience: int = 5,
        save: str | os.PathLike[str] | None = "to_label.xyz",
        *,
        stop: bool = True,
        within: float | None = None,
        force: bool = False,
    ) -> None:
        self.atoms, self.bound, self.pvalue = atoms, bound, pvalue
        self.patience, self.stop = patience, stop
        self.save = None if save is None else Path(save)
        self._check()
        if self.save is not None:
            check_target(self.save, force=force)
        self.within = self._live().scorer.usual_distance if within is None else within
        self.frames: list[Any] = []
        self.n_seen = self.n_flagged = 0
        self.stopped: Stopped | None = None
        self._in_a_row = np.zeros(0, dtype=np.int64)  # frames that each atom has been flagged in
        self._kept = np.zeros((0, 0), dtype=np.float32)  # scaled descriptors of flagged atoms

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        return isinstance(error, Stopped) and error.watch is self

    def __call__(self) -> None:
        """Look at the frame as it is now.

        Raises
        ------
        Stopped
            If the run has to end.
        """
        live = self._live()
        live.get_property(ERROR, self.atoms)  # of an evaluated frame this evaluates nothing
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

    def _flagged(self, live: Live) -> npt.NDArray[np.bool_]:
        """Tell which atoms have a bound that is too large or a p-value that is too small."""
        flagged = np.zeros(len(self.atoms), dtype=bool)
        if self.bound is not None:
            flagged |= live.results[BOUND] > self.bound
        if self.pvalue is not None:
            flagged |= live.results[PVALUE] < self.pvalue
        return flagged

    def _keep(self, live: Live, flagged: npt.NDArray[np.bool_], number: int) -> None:
        points = live.scorer.to_search_space(live.descriptors[flagged])
        if len(self._kept) and distance_to_nearest(points, self._kept).max() <= self.within:
            return
        self._kept = np.concatenate([self._kept.reshape(-1, points.shape[1]), points])
        frame = annotate(self.atoms.copy(), {}, {"ltau_frame": number})
        self.frames.append(frame)
        if self.save is not None:
            with open_text(self.save, force=True) as stream:
                write_frames(stream, self.frames)

    def _reason(self, live: Live, caught: npt.NDArray[np.int64], number: int) -> str:
        pvalue = live.results[PVALUE]
        worst = caught[np.argmin(pvalue[caught])]
        told = f"p-value {pvalue[worst]:.2g}"
        if self.bound is not None:
            bound = live.results[BOUND]
            worst = caught[np.argmax(bound[caught])]
            value = f"{bound[worst]:.3g} {live.scorer.units}".rstrip()
            told = f"{live.level:.0%} bound {value}, p-value {pvalue[worst]:.2g}"
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
        if self.bound is None and self.pvalue is None:
            raise UsageError("Watch watches for nothing", hint="give bound=, pvalue= or both")
        if self.patience < 1:
            raise UsageError(f"patience={self.patience} is no number of frames", hint="1 or more")
        if self.bound is not None and not live.calibrated:
            raise UsageError(
                "Watch has bound=, but Live has no calibration, and so no bounds",
                hint="give Live a calibration, or watch for pvalue= only",
            )
        least = live.scorer.smallest_pvalue
        if self.pvalue is not None and self.pvalue <= least:
            raise UsageError(
                f"pvalue={self.pvalue:g}: no p-value is below {least:.3g} with this training set",
                hint="give a larger one",
            )
