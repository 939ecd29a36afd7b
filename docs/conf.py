"""Sphinx settings; what is generated: format tables, helps, and figures of the commands shown."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ltau_cli import __version__
from ltau_cli.artifacts.schema import SPECS, ArtifactSpec
from ltau_cli.cli.main import ltau

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "ltau"
author = "the ltau developers"
version = release = __version__

extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_generated"]  # _generated is included by other pages

smartquotes = False  # help texts hold commands to copy
html_theme = "furo"
html_title = f"ltau {release}"


def format_tables() -> str:
    """One section per artifact kind, one table row per dataset."""
    return "\n".join(line for spec in SPECS.values() for line in _section(spec))


def _section(spec: ArtifactSpec) -> list[str]:
    lines = [
        f"## {spec.kind}",
        "",
        f"{spec.description} Written by `ltau {spec.made_by}`, format version {spec.version}.",
        "",
        "| dataset | shape | dtype | units | content |",
        "| --- | --- | --- | --- | --- |",
    ]
    for dataset in spec.datasets:
        notes = ("" if dataset.required else " *(optional)*") + (
            " *(may hold NaN)*" if dataset.nan and "NaN" not in dataset.description else ""
        )
        shape = ", ".join(dataset.dims)
        cells = [
            f"`{dataset.name}`", f"({shape})", dataset.dtype, dataset.units,
            "; ".join([dataset.description, *map(str, dataset.rules)]) + notes,
        ]  # fmt: skip
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [*lines, ""]


def helps() -> str:
    """One section per command: what ``-h`` prints, made of the settings classes."""
    lines = []
    for name, command in ltau.commands.items():
        context = click.Context(
            command, info_name=f"ltau {name}", terminal_width=90, **ltau.context_settings
        )
        lines += [f"### ltau {name}", "", "```text", command.get_help(context), "```", ""]
    return "\n".join(lines)


def write_pages(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "_generated"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"formats.md": format_tables(), "helps.md": helps()}.items():
        target = folder / name
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")


# What the tutorial makes before figures.md is read.
ARTIFACTS = """
ingest sample_data/logs --units eV/Å
fit errors.h5 sample_data/train_descriptors.npy
score sample_data/test_300K_descriptors.npy --natoms sample_data/test_300K_natoms.npy
calibrate scores.h5 sample_data/test_300K_force_errors.npy
score sample_data/test_300K_descriptors.npy --natoms sample_data/test_300K_natoms.npy
  --calibration calibration.h5 -o scores_300K.h5
score sample_data/test_900K_descriptors.npy --natoms sample_data/test_900K_natoms.npy
  --calibration calibration.h5 -o scores_900K.h5
"""


def draw_figures(app: Sphinx) -> None:
    """Run the ``ltau plot`` commands of figures.md on the sample data."""
    docs = Path(app.srcdir)
    page = (docs / "figures.md").read_text(encoding="utf-8").replace("\\\n> ", "")
    commands = ARTIFACTS.strip().replace("\n  ", " ").splitlines()
    commands += re.findall(r"^\$ ltau (plot .*\.png.*)$", page, re.MULTILINE)
    target = docs / "_generated" / "figures"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sample_data").symlink_to(docs.parent / "sample_data")
        for command in commands:
            words = [sys.executable, "-m", "ltau_cli", *shlex.split(command), "-q"]
            subprocess.run(words, cwd=folder, check=True)
        for figure in Path(folder).glob("*.png"):
            shutil.copyfile(figure, target / figure.name)


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", draw_figures)
    app.connect("builder-inited", write_pages)
