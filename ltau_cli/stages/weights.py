"""A model artifact to training weights or a keep-list, and to suspects for wrong labels."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.array_types import Array, Floats, Integers
from ltau_cli.artifacts.model import ModelFile
from ltau_cli.artifacts.read import open_artifact
from ltau_cli.core.scoring import Model
from ltau_cli.core.search.loo import leave_one_out
from ltau_cli.core.suspects import OUTLIER, explain, own_quartile, robust_score
from ltau_cli.core.threads import available_threads
from ltau_cli.core.weights import choose_kept, effective_size, weigh
from ltau_cli.errors import InputError, UsageError
from ltau_cli.matching import Known
from ltau_cli.output import check_target, open_binary, open_text
from ltau_cli.progress import Progress, silent
from ltau_cli.readers.descriptors import read_structure
from ltau_cli.readers.place import Place
from ltau_cli.results import NearSample, Suspect, WeightsResult
from ltau_cli.settings import WeightSettings, documented

NEIGHBORS_SHOWN = 5
BLOCK_POINTS = 65_536


@documented
def run(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    settings: WeightSettings | None = None,
    threads: int | None = None,
    force: bool = False,
    progress: Progress = silent,
    **options: Any,
) -> WeightsResult:
    """Weigh training samples, or the structures they belong to, by their own trajectories.

    What was never logged gets weight 1 and is always kept.

    Parameters
    ----------
    model : path
        Model artifact.
    output : path
        ``.npy`` or ``.txt``; ``-`` is standard output, as text. Weights are float64, a keep-list
        holds increasing int64 numbers from 0.

    Raises
    ------
    InputError, ArtifactError, UsageError, OutputError
        What is wrong with which file or option.
    """
    model, output = Path(model), Path(output)
    settings = WeightSettings.of(settings, options)
    check_target(output, force=force, inputs=[model, settings.natoms, settings.frames])
    with open_artifact(model, ModelFile) as artifact:
        point = artifact.read("point")
        logged = np.flatnonzero(point >= 0)
        structure = _structure(artifact, settings)
        threshold, column = _threshold(artifact, settings.threshold)
        uncertainty = artifact.of_samples(artifact.read("uncertainty")[:, column])
        if settings.per == "structure":
            if structure is None:
                raise InputError(
                    f"{model} does not say which structure a sample belongs to",
                    hint="give --natoms or --frames, or fit with --loo structure",
                )
            uncertainty = _mean_of_structures(uncertainty, structure)
        known = np.flatnonzero(np.isfinite(uncertainty))
        result = WeightsResult(
            output=output,
            per=settings.per,
            emphasis=settings.emphasis,
            threshold=threshold,
            units=artifact.units,
            n=len(uncertainty),
            n_never_logged=len(uncertainty) - len(known),
            uncertainty_mean=float(uncertainty[known].mean()),
            uncertainty_std=float(uncertainty[known].std()),
        )
        if settings.suspects:
            n_suspects, suspects = _suspects(
                artifact, logged, structure, settings.suspects,
                threads or available_threads(), progress,
            )  # fmt: skip
            result = replace(result, outlier=OUTLIER, n_suspects=n_suspects, suspects=suspects)
    choose = _weights if settings.keep is None else _keep_list
    values, result = choose(result, uncertainty, known, settings)
    _write(output, values, force=force)
    return result


def _weights(
    result: WeightsResult, uncertainty: Floats, known: Integers, settings: WeightSettings
) -> tuple[Array, WeightsResult]:
    """Return the weight of each sample or structure, and tell of them."""
    values = np.ones(len(uncertainty))
    values[known] = weigh(
        uncertainty[known], emphasis=settings.emphasis, temperature=settings.temperature,
        floor=settings.floor, ceiling=settings.ceiling,
    )  # fmt: skip
    return values, replace(
        result,
        temperature=settings.temperature,
        floor=settings.floor,
        ceiling=settings.ceiling,
        min=float(values.min()),
        max=float(values.max()),
        mean=float(values.mean()),
        n_at_floor=int((values[known] <= settings.floor).sum()),
        n_at_ceiling=int((values[known] >= settings.ceiling).sum()),
        effective_size=float(effective_size(values)),
    )


def _keep_list(
    result: WeightsResult, uncertainty: Floats, known: Integers, settings: WeightSettings
) -> tuple[Array, WeightsResult]:
    """Return the samples or structures to keep, increasing, and tell of them."""
    assert settings.keep is not None, "checked by the caller"
    n = max(1, round(settings.keep * len(known)))
    kept = known[choose_kept(uncertainty[known], n, emphasis=settings.emphasis)]
    values = np.union1d(kept, np.flatnonzero(np.isnan(uncertainty)))
    return values, replace(
        result,
        keep=settings.keep,
        kept_uncertainty_mean=float(uncertainty[kept].mean()),
        n_kept=len(values),
    )


def _structure(artifact: ModelFile, settings: WeightSettings) -> Integers | None:
    """Structure of each sample from 0; None if nobody says."""
    natoms = None if settings.natoms is None else Place.parse(settings.natoms)
    rows = Known(artifact.path, artifact.sizes["n_samples"], {})
    given = read_structure(natoms, settings.frames, rows)
    if not given and artifact.has("loo_group"):
        return artifact.read("loo_group")
    return given.get("structure")


def _threshold(artifact: ModelFile, wanted: float | None) -> tuple[float, int]:
    """Return the threshold and its column."""
    thresholds = artifact.read("thresholds")
    if wanted is None:
        return float(thresholds[0]), 0
    found = np.flatnonzero(np.isclose(thresholds, wanted, rtol=1e-6, atol=0))
    if len(found) == 0:
        raise UsageError(
            f"{artifact.path} has no uncertainty at --threshold {wanted:g}; its thresholds are "
            + ", ".join(f"{value:.6g}" for value in thresholds),
            hint=f"use one of them, or fit again with --threshold {wanted:g}",
        )
    return float(thresholds[found[0]]), int(found[0])


def _mean_of_structures(uncertainty: Floats, structure: Integers) -> Floats:
    """Mean (n_structures,) over the logged samples of each; NaN if there are none."""
    n = int(structure.max()) + 1
    logged = np.isfinite(uncertainty)
    total = np.bincount(structure[logged], uncertainty[logged], minlength=n)
    count = np.bincount(structure[logged], minlength=n)
    mean: Floats = np.full(n, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def _suspects(
    artifact: ModelFile,
    logged: Integers,
    structure: Integers | None,
    n: int,
    threads: int,
    progress: Progress,
) -> tuple[int, list[Suspect]]:
    """Count the samples that stand out; return the ``n`` worst with their nearest samples."""
    model = artifact.load()
    points, group = model.points, model.loo_group
    own = _own_quartiles(model, threads)[points.of_sample]
    with progress("comparing with the neighbors", len(own)) as advance:
        others = leave_one_out(
            model.shards, points, own, group, model.k,
            weighting=model.weighting, threads=threads, advance=advance,
        ).expected_error  # fmt: skip
    score = robust_score(own, others)
    worst = np.argsort(-score, kind="stable")[:n]
    worst = worst[score[worst] > OUTLIER]
    k = min(NEIGHBORS_SHOWN, model.k)
    explained = explain(model.shards, points, group, worst, k) if len(worst) else []
    suspects = [
        Suspect(
            sample=int(logged[i]),
            structure=None if structure is None else int(structure[logged[i]]),
            lower_quartile=float(own[i]),
            neighbors_lower_quartile=float(others[i]),
            score=float(score[i]),
            nearest=[
                NearSample(
                    sample=int(logged[j]), distance=float(distance), lower_quartile=float(own[j])
                )
                for j, distance in zip(nearest.sample, nearest.distance, strict=True)
            ],
        )
        for i, nearest in zip(worst.tolist(), explained, strict=True)
    ]
    return int((score > OUTLIER).sum()), suspects


def _own_quartiles(model: Model, threads: int) -> Floats:
    """Lower quartile of each point, whose counts may have to be read block by block."""
    n = len(model.max_error)
    result = np.empty(n)
    for start in range(0, n, BLOCK_POINTS):
        part = slice(start, min(start + BLOCK_POINTS, n))
        counts = model.counts
        rows = counts(np.arange(part.start, part.stop)) if callable(counts) else counts[part]
        result[part] = own_quartile(rows, model.max_error[part], model.edges, threads=threads)
    return result


def _write(output: Path, values: Array, *, force: bool) -> None:
    if output.suffix == ".npy":
        with open_binary(output, force=force) as file:
            np.save(file, values)
        return
    with open_text(output, force=force) as stream:
        stream.writelines(f"{value}\n" for value in values.tolist())
