"""What a scores artifact says of the part it holds."""

from __future__ import annotations

from ltau_cli.artifacts.read import Artifact, damaged
from ltau_cli.errors import ArtifactError
from ltau_cli.stages.score_artifact import Shard


def find_shard(artifact: Artifact) -> tuple[Shard, int] | None:
    """Return the part and the structures of the whole; None if it holds all rows.

    Raises
    ------
    ArtifactError
        If the parameter ``shard`` is damaged.
    """
    if "shard" not in artifact.parameters:
        return None
    about = artifact.parameters["shard"]
    names = ("index", "count", "n_rows", "first", "last", "n_structures")
    values = [about.get(name) if isinstance(about, dict) else None for name in names]
    numbers = [value for value in values if isinstance(value, int) and value >= 0]
    if len(numbers) < len(names):
        raise damaged(artifact.path, "parameter shard is not as ltau score writes it")
    index, count, n_rows, first, last, n_structures = numbers
    if not (index < count <= n_rows and first <= last <= n_rows):
        raise damaged(artifact.path, f"it cannot be shard {index} of {count} of {n_rows} rows")
    return Shard(index, count, n_rows, first, last), n_structures


def refuse_shard(artifact: Artifact) -> None:
    """Refuse a part where the whole is needed.

    Raises
    ------
    ArtifactError
        If it is the result of ``ltau score --shard``.
    """
    found = find_shard(artifact)
    if found is not None:
        raise ArtifactError(
            f"{artifact.path} holds only shard {found[0].index} of {found[0].count}",
            hint="join the shards first: ltau merge",
        )
