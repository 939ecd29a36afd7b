"""Run the demo and the commands of the docs at two commits, and print what differs.

``python -m tests.system.compare_commits OLD NEW`` runs the commands, the docs and the sample data
of OLD with the code of OLD and with that of NEW, in the interpreter that runs this, and compares
exit codes, stdout, stderr and the bytes of every file. It ends with exit code 1 where any differ.
"""

import difflib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.system.test_docs import in_shell, read_blocks, split_console

ROOT = Path(__file__).parent.parent.parent


def git(*words: object) -> None:
    subprocess.run(["git", *map(str, words)], cwd=ROOT, check=True)


def run_all(given: Path, code: Path, folder: Path) -> dict[str, list[str]]:
    """Run every command in an empty folder; return what each printed.

    The docs and the sample data are those of the checkout ``given``, the package that of ``code``.
    Both commits run in a folder of the same name, which messages may show.
    """
    programs = folder.parent / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "ltau").write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m ltau_cli "$@"\n')
    (programs / "ltau").chmod(0o755)
    variables = {
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "PYTHONPATH": str(code),
        "SOURCE_DATE_EPOCH": "1700000000",
        "NUMBA_CACHE_DIR": str(code / "numba"),  # each compiles for itself, and says so
    }
    folder.mkdir()
    scripts = [given / "docs" / name for name in ("own_model.py", "pair_potential.py")]
    subprocess.run(["cp", "-R", given / "sample_data", *scripts, folder], check=True)
    printed = {}

    def run(name: str, command: str) -> None:
        done = in_shell(command, folder, **variables)
        printed[f"{len(printed) + 1} {name}: $ {command}"] = [
            f"exit code {done.returncode}",
            *(f"stdout: {line}" for line in done.stdout.splitlines()),
            *(f"stderr: {line}" for line in done.stderr.splitlines()),
        ]

    run("which code", f"'{sys.executable}' -P -c 'import ltau_cli; print(ltau_cli.__file__)'")
    (where,) = printed.values()
    assert where == ["exit code 0", f"stdout: {code}/ltau_cli/__init__.py"], where
    printed.clear()
    run("demo", "sh sample_data/demo.sh")
    pages = (given / "docs").glob("*.md")
    for page in sorted(pages, key=lambda page: (page.stem != "tutorial", page.name)):
        for block in read_blocks(page):
            if block.language == "console":
                for command, _ in split_console(block):
                    run(block.place, command)
            elif block.file_name is not None:
                (folder / block.file_name).write_text(block.text, encoding="utf-8")
    return printed


def read_files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def main(old: str, new: str) -> int:
    """Print what differs; return how many commands and files do."""
    with tempfile.TemporaryDirectory() as scratch:
        places = [Path(scratch) / "old", Path(scratch) / "new"]
        printed, files = [], []
        try:
            for commit, place in zip((old, new), places, strict=True):
                git("worktree", "add", "--quiet", "--detach", place, commit)
            for place in places:
                work = Path(scratch) / "work"
                printed.append(run_all(places[0], place, work))
                files.append(read_files(work))
                work.rename(place / "work")
        finally:
            for place in places:
                git("worktree", "remove", "--force", place)
    n_different = 0
    for command, lines in printed[0].items():
        other = printed[1][command]
        if lines != other:
            n_different += 1
            print(f"differs: {command}")
            print("\n".join(difflib.unified_diff(lines, other, old, new, lineterm="", n=0)))
    for name in sorted(files[0].keys() | files[1].keys()):
        if files[0].get(name) != files[1].get(name):
            n_different += 1
            sizes = [len(each[name]) if name in each else "no" for each in files]
            print(f"differs: {name}: {sizes[0]} bytes at {old}, {sizes[1]} bytes at {new}")
    for command, lines in printed[0].items():
        if lines[0] != "exit code 0":
            n_different += 1
            print("\n".join([f"fails at {old}: {command}", *lines]))
    n_made = len(files[0]) - sum(name.startswith("sample_data/") for name in files[0])
    print(
        f"{old} and {new}: {len(printed[0])} commands, {n_made} files that they made, "
        f"{n_different} differ or fail"
    )
    return n_different


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m tests.system.compare_commits OLD NEW")
    sys.exit(1 if main(sys.argv[1], sys.argv[2]) else 0)
