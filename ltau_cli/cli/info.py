"""``ltau info``."""

from pathlib import Path
from typing import Any

import click

from ltau_cli.cli import options
from ltau_cli.cli.console import Console, table
from ltau_cli.cli.report import log_lines
from ltau_cli.results import ArtifactResult, IngestResult


@options.command("info")
@click.argument("artifact", type=options.FILE)
def command(artifact: Path, console: Console) -> None:
    """Tell what an artifact is, what it holds and how it was made.

    \b
    Example:
      ltau info model.h5
    """
    from ltau_cli.stages import info

    result = info.run(artifact)
    if console.as_json:
        console.json(result.to_dict())
        return
    lines = [
        f"{result.file}: {result.kind} (format {result.format_version}), "
        f"{result.bytes:,} bytes",
        result.description,
        f"made by {result.made_by}, {result.created}; "
        f"errors in {result.units or 'units that were not named'}",
        "",
        *table(
            ["dataset", "shape", "dtype", "units"],
            [
                [name, " x ".join(map(str, d.shape)), d.dtype, d.units or "-"]
                for name, d in result.datasets.items()
            ],
        ),
        "",
        *(f"input {i['role']}: {i['file']} ({int(i['size']):,} bytes, sha256 {i['sha256'][:12]})"
          for i in result.inputs),
        "",
        *_pairs("parameters", result.parameters),
        *_summary(result.summary),
    ]  # fmt: skip
    click.echo("\n".join(lines))


def _summary(told: ArtifactResult) -> list[str]:
    if isinstance(told, IngestResult):
        return log_lines(told) + [f"  warning: {line}" for line in told.warnings]
    return _pairs("summary", dict(sorted(told.stored().items())))


def _pairs(name: str, values: dict[str, Any], indent: str = "") -> list[str]:
    lines = [f"{indent}{name}:"]
    for key, value in values.items():
        if isinstance(value, dict):
            lines += _pairs(key, value, indent + "  ")
        elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            lines.append(f"{indent}  {key}:")
            lines += [
                f"{indent}    " + ", ".join(f"{k} {_short(v)}" for k, v in entry.items())
                for entry in value
            ]
        else:
            lines.append(f"{indent}  {key}: {_short(value)}")
    return lines


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_short(entry)}" for key, entry in value.items()) + ")"
    if isinstance(value, list):
        return " ".join(_short(entry) for entry in value)
    return str(value)
