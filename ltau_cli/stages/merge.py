"""The scores of all shards to one scores artifact."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ltau_cli.artifacts.read import damaged, open_artifact
from ltau_cli.artifacts.scores import ROW_DIM, WRITE_ROWS, Header, Part, ScoresFile, write_scores
from ltau_cli.core.structures import Block
from ltau_cli.errors import ArtifactError
from ltau_cli.output import check_target
from ltau_cli.progress import Advance, Progress, silent
from ltau_cli.results import ScoreResult


@dataclass(frozen=True)
class _Part:
    """What one part says of itself; ``common`` is what all parts must agree on."""

    path: Path
    range: Part
    common: dict[str, Any]


def run(
    parts: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str] = "scores.h5",
    *,
    force: bool = False,
    progress: Progress = silent,
) -> ScoreResult:
    """Join the parts of ``score --shard``: the same bytes as scoring all rows at once.

    Parameters
    ----------
    parts : sequence of paths
        Scores artifacts of all shards, in any order.
    output : path
        The scores artifact.
    force : bool
        Replace an existing artifact.
    progress : Progress
        Shows the rows.

    Returns
    -------
    ScoreResult

    Raises
    ------
    ArtifactError
        If a part is no shard, or of another job than the others, or if a shard is missing or
        there twice.
    InputError, OutputError
        If a file is not there or cannot be written.
    """
    output = Path(output)
    check_target(output, force=force, inputs=[Path(path) for path in parts])
    found = [_read_part(Path(path)) for path in parts]
    for part in found[1:]:
        _check_same_job(found[0], part)
    ordered = sorted(found, key=lambda part: part.range.index)
    _check_complete(ordered)
    header, inputs = _read_header(ordered[0])
    with progress("merging", header.n) as advance:
        blocks = _regroup(_read_blocks(ordered, advance))
        return write_scores(output, header, blocks, inputs=lambda: inputs, force=force)


def _read_part(path: Path) -> _Part:
    with open_artifact(path, ScoresFile) as artifact:
        found = artifact.part()
        if found is None:
            raise ArtifactError(
                f"{path} is not a shard, it holds all of its rows",
                hint="merge joins the results of ltau score --shard",
            )
        part, n_structures = found
        common = {
            "model": artifact.model_fingerprint,
            "ltau version": artifact.attributes["ltau_version"],
            "inputs": artifact.inputs,
            "number of shards": part.count,
            "number of rows": part.n_rows,
            "structures": n_structures,
            "options": {**artifact.parameters, "shard": None},
            "datasets": [spec.name for spec in artifact.present()],
        }
        if artifact.n != part.n:
            raise damaged(path, f"it has {artifact.n:,} rows, not {part.n:,}")
    return _Part(path, part, common)


def _check_same_job(first: _Part, part: _Part) -> None:
    for what, value in first.common.items():
        if part.common[what] != value:
            raise ArtifactError(
                f"{part.path} and {first.path} are not parts of one result: other {what}",
                hint="ltau info shows how each was made",
            )


def _check_complete(parts: Sequence[_Part]) -> None:
    """Check that the parts, sorted, hold every shard once."""
    for part, following in itertools.pairwise(parts):
        if part.range.index == following.range.index:
            raise ArtifactError(
                f"{part.path} and {following.path} are both shard {part.range.index}",
                hint="leave one of them out",
            )
    count = parts[0].range.count
    missing = sorted(set(range(count)) - {part.range.index for part in parts})
    if missing:
        raise ArtifactError(
            f"{len(missing):,} of {count:,} shards are missing: {_as_ranges(missing)}",
            hint=f"run them again (sbatch --array={_as_ranges(missing)}), then merge all parts",
        )
    ends = [0, *(part.range.last for part in parts)]
    for end, part in zip(ends, parts, strict=False):
        if part.range.first != end:
            raise damaged(part.path, f"it begins at row {part.range.first:,}, not {end:,}")
    if ends[-1] != parts[-1].range.n_rows:
        raise damaged(parts[-1].path, f"it ends at row {ends[-1]:,} of {parts[-1].range.n_rows:,}")


def _as_ranges(numbers: Sequence[int]) -> str:
    """``0-2,7`` for 0, 1, 2, 7, as in a job array."""
    known = set(numbers)
    starts = [n for n in numbers if n - 1 not in known]
    ends = [n for n in numbers if n + 1 not in known]
    return ",".join(
        str(start) if start == end else f"{start}-{end}"
        for start, end in zip(starts, ends, strict=True)
    )


def _read_header(first: _Part) -> tuple[Header, list[dict[str, Any]]]:
    with open_artifact(first.path, ScoresFile) as artifact:
        columns = [spec for spec in artifact.present() if ROW_DIM not in spec.dims]
        header = Header(
            first=0,
            n=first.range.n_rows,
            n_structures=first.common["structures"],
            columns={spec.name: artifact.read(spec.name) for spec in columns},
            calibration=artifact.calibration(),
            label_dtypes={
                spec.name: artifact.dataset(spec.name).dtype
                for spec in artifact.present()
                if ROW_DIM in spec.dims and spec.dtype == "label"
            },
            parameters={k: v for k, v in artifact.parameters.items() if k != "shard"},
            units=artifact.units,
            model_fingerprint=artifact.model_fingerprint or "",
        )
        return header, artifact.inputs


def _read_blocks(parts: Sequence[_Part], advance: Advance) -> Iterator[Block]:
    """Yield the rows of one part after the other."""
    n_structures = parts[0].common["structures"]
    for part in parts:
        with open_artifact(part.path, ScoresFile) as artifact:
            names = [spec.name for spec in artifact.present() if ROW_DIM in spec.dims]
            for start in range(0, part.range.n, WRITE_ROWS):
                block = {name: artifact.read(name, start, start + WRITE_ROWS) for name in names}
                structure = block.get("structure", np.zeros(1, dtype=np.int64))
                if not 0 <= structure.min() <= structure.max() < max(1, n_structures):
                    raise damaged(part.path, f"it has structures beyond {n_structures}")
                yield block
                advance(len(block[names[0]]))


def _regroup(blocks: Iterator[Block]) -> Iterator[Block]:
    """Regroup blocks of any size to ``WRITE_ROWS`` rows, the last one excepted."""
    rest: Block = {}
    for block in blocks:
        rest = {k: np.concatenate([rest[k], v]) for k, v in block.items()} if rest else block
        while len(rest["expected_error"]) >= WRITE_ROWS:
            yield {name: values[:WRITE_ROWS] for name, values in rest.items()}
            rest = {name: values[WRITE_ROWS:] for name, values in rest.items()}
    if len(rest["expected_error"]):
        yield rest
