"""Error bars inside a running simulation: a calculator for ASE."""

import os
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ltau_cli.errors import InputError, UsageError
from ltau_cli.packages.network import parts_of
from ltau_cli.stages.frame_descriptors import Function, open_descriptors_of, open_trajectory
from ltau_cli.stages.frame_scores import FrameScorer
from ltau_cli.writers.frames import PREFIX, annotate, property_name

PVALUE = "ood_pvalue"

try:
    from ase.calculators.calculator import Calculator, all_changes
except ImportError as error:
    raise InputError(
        "Live and Watch work inside ASE, which is not installed", hint="pip install 'ltau[ase]'"
    ) from error


class Live(Calculator):
    """An ASE calculator with error bars: the results of another one, and what ``ltau score`` tells.

    The results of the wrapped calculator stay as they are. Beside them stand, each (n_atoms,) and
    named as in the scores, ``calibrated_error`` and ``error_bound_90``, which 90 % of the errors
    stay under, both in the error units of the model; and ``ood_pvalue``, small where an atom is
    unlike anything in the training set. Without a calibration there is ``expected_error`` in place
    of the first two.

    A frame that is evaluated gets them too, as ``ltau export`` writes them: per atom in
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
        ``"mace:FILE"``: from the network in that file, which is evaluated beside the calculator. A
        function: it gets an ``ase.Atoms`` and returns (n_atoms, d). None takes the package whose
        descriptors the model was fitted on, where ``ltau describe`` made them.
    trajectory : path or callable, optional
        For a calibration of frames that ``ltau describe --trajectory`` described: the folder, or
        the pattern, of the weights that were kept during the training. As many as there are
        evaluated for every frame (``--kept 1``: one). Or a function: it gets an ``ase.Atoms`` and
        returns (n_atoms,), in eV/Å.
    level : float
        Of the bound, one of the calibration's.
    threads : int
        Of the neighbor search; the numbers do not depend on it.
    device : str, optional
        For a network's file, as PyTorch has it; None takes a GPU if there is one.

    Attributes
    ----------
    calculator : ase.calculators.calculator.BaseCalculator
        The wrapped one.
    error, bound : str
        Names of their results: ``calibrated_error`` or ``expected_error``; ``error_bound_90``, or
        empty where there are no bounds.
    scorer : FrameScorer
        The model and the calibration.
    descriptors, relative_distance : (n_atoms, d) and (n_atoms,) float32
        Of the frame evaluated last; the relative distance is about 1 inside the training set.

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
        trajectory: str | os.PathLike[str] | Function | None = None,
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
        self._made_of = (
            (calculator, model, calibration, descriptors),
            {"trajectory": trajectory, "level": level, "threads": threads, "device": device},
        )
        self.calculator = calculator
        self.ignored_changes = set(getattr(calculator, "ignored_changes", ()))
        self.scorer = FrameScorer(
            Path(model), None if calibration is None else Path(calibration), threads=threads
        )
        self.level = level
        self._column = _column_of(level, self.scorer)
        self.error, self.bound = "expected_error", ""
        if self._column is not None:
            self.error, self.bound = "calibrated_error", _of_level("error_bound", level)
        self._own = [name for name in (self.error, self.bound, PVALUE) if name]
        self.implemented_properties = [*calculator.implemented_properties, *self._own]
        self._source = open_descriptors_of(
            descriptors, calculator, Path(model), self.scorer.origin, device
        )
        self._trajectory = open_trajectory(trajectory, descriptors, calculator, self.scorer, device)
        self.descriptors = np.zeros((0, self.scorer.width), dtype=np.float32)
        self.relative_distance = np.zeros(0, dtype=np.float32)
        self._told: Callable[[], Any] = lambda: None  # the frame that has the scores

    def __reduce__(self) -> Any:
        """Pickle what it was made of; the files are read again."""
        return _make_again, self._made_of

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
        kept = {} if system_changes else self._scores()
        wanted = [name for name in properties if name not in self._own]
        self.atoms = None  # until all went well
        inner = self.calculator

        def evaluate() -> None:
            for name in wanted:
                inner.get_property(name, frame)

        if not kept:
            for part in (inner, *parts_of(inner)):
                part.results = {}  # so that its network is called, though it may know the frame
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
        return {**self.calculator.todict(), "ltau": self._scores() if known else {}}

    def _scores(self) -> dict[str, Any]:
        return {name: self.results[name] for name in self._own if name in self.results}

    def _score(self, descriptors: npt.ArrayLike, frame: Any) -> dict[str, Any]:
        self.descriptors = self.scorer.check(descriptors, len(frame), self._source.name)
        moved = self._trajectory and self._trajectory(
            frame, lambda: self.calculator.get_property("forces", frame)
        )
        scores = self.scorer.score(self.descriptors, frame, moved)
        self.relative_distance = scores.relative_distance
        found = {self.error: scores.error, PVALUE: scores.pvalue}
        if self.bound:
            found[self.bound] = scores.bound[:, self._column]
        return found

    def _tell(self, atoms: Any) -> None:
        """Write the scores to the frame, or remove those of what it was before."""
        self._told = weakref.ref(atoms)
        _remove_scores(atoms)
        arrays = self._scores()
        if not arrays:
            return
        error = arrays[self.error]
        info = {
            f"{self.error}_mean": error.mean(),
            f"{self.error}_max": error.max(),
            f"{PVALUE}_min": arrays[PVALUE].min(),
        }
        if self.bound:
            info[_of_level("error_bound_max", self.level)] = arrays[self.bound].max()
        annotate(atoms, arrays, info)


def _of_level(name: str, level: float) -> str:
    """``error_bound_90`` for 0.9, as ``ltau export`` has it."""
    return property_name(f"{name}_{level}").removeprefix(PREFIX)


def _make_again(given: Sequence[Any], options: dict[str, Any]) -> Live:
    return Live(*given, **options)


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
