"""The docs hold: their commands run and print what is shown, and nothing is left out."""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from ltau_cli import errors
from ltau_cli.cli.main import ltau

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
# Later pages use the files that the commands of the tutorial wrote.
IN_ORDER = sorted(PAGES, key=lambda page: (page.stem != "tutorial", page.name))
COMMANDS = dict(ltau.commands)
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"^# ([\w.]+\.\w+)$")  # first or second line: the block is this file


@dataclass(frozen=True)
class Block:
    place: str
    language: str
    text: str

    @property
    def file_name(self) -> str | None:
        for line in self.text.splitlines()[:2]:
            if found := FILE_NAME.match(line):
                return found[1]
        return None


def read_blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(f"{page.name}:{text.count(chr(10), 0, m.start()) + 1}", m[1], m[2])
        for m in FENCE.finditer(text)
    ]


BLOCKS = [block for page in IN_ORDER for block in read_blocks(page)]


def split_console(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Yield commands (``$ ``, going on with ``> ``) and the output shown for them."""
    command: list[str] = []
    shown: list[str] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            if command:
                yield "\n".join(command), shown
            command, shown = [line[2:]], []
        elif line.startswith("> ") and not shown:
            command.append(line[2:])
        else:
            shown.append(line)
    yield "\n".join(command), shown


def matches(shown: list[str], printed: list[str]) -> bool:
    """Whether ``printed`` is as shown, where a line ``...`` stands for any lines."""
    if not shown:
        return not printed
    if shown[0] == "...":
        return any(matches(shown[1:], printed[i:]) for i in range(len(printed) + 1))
    return bool(printed) and shown[0] == printed[0] and matches(shown[1:], printed[1:])


def test_dots_stand_for_any_lines() -> None:
    assert matches(["a", "...", "d"], ["a", "b", "c", "d"])
    assert matches(["a", "..."], ["a"])
    assert not matches(["a", "d"], ["a", "b", "d"])
    assert not matches(["a"], ["a", "b"])
    assert not matches(["...", "b"], ["a"])


def in_shell(command: str, folder: Path, stderr: int = subprocess.PIPE, **variables: str) -> Any:
    """Run a command of the docs, with these environment variables beside what a shell has."""
    ours = ("LTAU_", "SLURM_", "SOURCE_DATE_EPOCH")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    path = [str(Path(sys.executable).parent), environment.get("PATH", "")]
    environment |= {"PATH": os.pathsep.join(path), "PYTHONUTF8": "1"} | variables
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=stderr, encoding="utf-8", check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_commands_of_the_docs(tmp_path: Path) -> None:
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    for name in ("own_model.py", "pair_potential.py"):
        (tmp_path / name).symlink_to(DOCS / name)
    n_run = 0
    for block in BLOCKS:
        if block.language != "console":
            if block.file_name is not None:
                (tmp_path / block.file_name).write_text(block.text, encoding="utf-8")
            continue
        for command, shown in split_console(block):
            done = in_shell(command, tmp_path, stderr=subprocess.STDOUT)
            printed = [line.rstrip() for line in done.stdout.splitlines()]
            report = f"{block.place}: $ {command}\n{done.stdout}"
            assert done.returncode == 0, f"exit code {done.returncode} of {report}"
            assert matches([line.rstrip() for line in shown], printed), (
                f"the docs show other output than\n{report}"
            )
            n_run += 1
    assert n_run > 10


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_blocks_are_well_formed(block: Block, tmp_path: Path) -> None:
    if block.language == "python":
        compile(block.text, block.place, "exec")
    elif block.language == "bash":
        subprocess.run(["bash", "-n"], input=block.text, encoding="utf-8", check=True)
    elif block.language == "console":
        assert block.text.startswith("$ ")
    else:
        assert block.language in {"yaml", "text"}


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_documented(name: str) -> None:
    for page in ("commands.md", "tutorial.md"):
        text = (DOCS / page).read_text(encoding="utf-8")
        assert f"ltau {name}" in text, f"docs/{page} does not mention ltau {name}"


def test_every_help_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    listed = importlib.import_module("conf").helps()
    assert "```{include} _generated/helps.md\n" in (DOCS / "commands.md").read_text("utf-8")
    for name, command in COMMANDS.items():
        assert f"### ltau {name}\n" in listed
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert f" {max(parameter.opts, key=len)}" in listed, (name, parameter.name)


def test_named_environment_variables_exist() -> None:
    known = {
        parameter.envvar
        for command in COMMANDS.values()
        for parameter in command.params
        if isinstance(parameter, click.Option)
    }
    for page in PAGES:
        named = set(re.findall(r"\bLTAU_[A-Z]+_[A-Z_]+\b", page.read_text(encoding="utf-8")))
        assert named <= known, page.name


def test_shown_flags_exist() -> None:
    """Every long flag that a page names belongs to some ltau command, or is in the list here."""
    slurm = {"--array", "--cpus-per-task", "--dependency", "--job-name", "--mem", "--mem-per-cpu",
             "--ntasks", "--overlap", "--parsable", "--requeue", "--time", "--wrap"}  # fmt: skip
    dask = {"--local-directory", "--memory-limit", "--no-dashboard", "--no-nanny", "--nthreads",
            "--scheduler-file"}  # fmt: skip
    ours = {"--columns", "--configs", "--development", "--draws", "--epochs", "--inputs", "--kills",
            "--plot", "--samples", "--seeds", "--sizes", "--splits",
            "--starts", "--tables"}  # fmt: skip
    trainers = {"--batch", "--correlation", "--default", "--device", "--distributed", "--ema",
                "--energy", "--export", "--force", "--forces", "--foundation", "--lbfgs", "--lr",
                "--max", "--model", "--multiheads", "--name", "--num", "--pt", "--r", "--restart",
                "--scheduler", "--seed", "--swa", "--train", "--valid"}  # fmt: skip
    others = slurm | dask | ours | trainers | {"--help"}
    known = others | {
        flag
        for command in COMMANDS.values()
        for parameter in command.params
        for flag in (*parameter.opts, *parameter.secondary_opts)
    }
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
        assert named <= known, page.name


def test_exit_codes_are_listed() -> None:
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    kinds = [errors.LtauError, *errors.LtauError.__subclasses__()]
    assert listed == {0, 129, 130, 131, 143, 152} | {kind.exit_code for kind in kinds}
