"""A table of what should not be done to a command: every case ends in one line or does no harm."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.system.ground import Command, Ground, files_in

Make = Callable[[Path], object]  # makes what stands at a path
Harm = Callable[[bytes], bytes]  # spoils the content of a file

ERRORS = (
    errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY,
    errno.ESTALE, errno.EXDEV, errno.ENOLCK,
)  # fmt: skip
CALLS = ("open", "pwrite", "write", "fsync", "ftruncate", "link", "replace", "unlink", "fchmod")


@dataclass(frozen=True)
class Case:
    """One misuse.

    Attributes
    ----------
    name : str
    words : callable
        Words of the command, given an empty folder for its targets, which it may fill first.
    codes : tuple of int
        Exit codes that are right.
    line : str
        Pattern of the error line, if the command fails.
    kept : bool
        Whether everything in the folder has to stay as it was made.
    command : str
        Name of the command whose targets have to be as before or whole.
    options : dict
        See :func:`tests.system.machine.start`.
    """

    name: str
    words: Callable[[Path], Sequence[object]]
    codes: tuple[int, ...]
    line: str = ""
    kept: bool = True
    command: str = ""
    options: dict[str, object] = field(default_factory=dict)


class Tester:
    """Runs cases over a ground.

    Parameters
    ----------
    ground : Ground
    folder : Path
        For the targets.
    seed : int
    """

    def __init__(self, ground: Ground, folder: Path, seed: int) -> None:
        self.ground = ground
        self.folder = folder
        self.counts: Counter[str] = Counter()
        self._random = np.random.default_rng(seed)
        self._inputs = files_in(ground.folder)
        self._number = 0

    def run(self, n: int | None) -> Iterator[str]:
        """Run ``n`` cases chosen by chance, or all; yield what went wrong."""
        cases = list(all_cases(self.ground, self._random))
        if n is not None:
            order = self._random.permutation(len(cases))[:n]
            cases = [cases[i] for i in order]
        for case in cases:
            for wrong in self._check(case):
                yield f"{case.name}: {wrong}"
        if files_in(self.ground.folder) != self._inputs:
            yield "an input was changed"

    def _check(self, case: Case) -> Iterator[str]:
        self._number += 1
        folder = self.folder / str(self._number)
        folder.mkdir(parents=True)
        words = case.words(folder)
        before = files_in(folder) | special(folder)
        done = self.ground.run(list(words), **case.options)
        self.counts["bad inputs"] += 1
        self.counts[f"exit code {done.code}"] += 1
        crash = done.crashed()
        if crash:
            yield crash
        if done.code not in case.codes:
            yield f"exit code {done.code}, not {case.codes}: {done.err.strip()[-300:]}"
        lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
        told = case.options.get("stderr", "file") == "file"
        if done.code and told and (len(lines) != 1 or not re.search(case.line, lines[0])):
            yield f"tells {lines or done.err[-200:]}, not {case.line!r}"
        after = files_in(folder) | special(folder)
        if case.kept and after != before:
            changed = sorted(k for k in {*after, *before} if after.get(k) != before.get(k))
            yield f"changes {changed}"
        whole = self.ground.whole(case.command)[0] if case.command else {}
        for target, content in whole.items():
            if after.get(target) not in (before.get(target), content):
                yield f"BROKEN {target}"
            if done.code == 0 and after.get(target) != content:
                yield f"exit code 0 without {target}"
        if any(name.endswith(".tmp") for name in after) and "unlink" not in case.name:
            yield f"leaves {sorted(after)}"


def special(folder: Path) -> dict[str, bytes]:
    """Kind of every file under a folder that is not a regular one."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[str(path)] = os.readlink(path).encode()
        elif not path.is_file() and not path.is_dir():
            found[str(path)] = str(stat.S_IFMT(path.stat().st_mode)).encode()
    return found


def all_cases(ground: Ground, random: np.random.Generator) -> Iterator[Case]:
    """Every case, in one order for a seed."""
    for name, command in ground.commands().items():
        use = Use(ground, name, command)
        yield from odd_targets(use)
        yield from inputs_as_targets(use)
        yield from surroundings(use)
        yield from failing_disks(use, random)
        yield from damaged_files(use, random)


@dataclass(frozen=True)
class Use:
    """A command as it is used, and ways to spoil it; each gives the words for an empty folder."""

    ground: Ground
    name: str
    command: Command

    def plain(self, folder: Path) -> list[object]:
        """As it should be; a command that changes a file gets a copy of it."""
        name = self.command.grows
        if name:
            (folder / name).write_bytes((self.ground.folder / name).read_bytes())
        return self.command.line(folder)

    def over_old_results(self, folder: Path) -> list[object]:
        """Replace what is there."""
        line = self.plain(folder)
        if self.command.grows:
            return line
        for target in self.command.targets.values():
            (folder / target).write_text("old")
        return [*line, "--force"]

    def onto(self, option: str, place: Path, make: Make | None, folder: Path) -> list[object]:
        """With another target, by force, which is made first."""
        place = folder / place
        if make is not None:
            make(place)
        others = {o: name for o, name in self.command.targets.items() if o != option}
        return Command(self.command.words, others).line(folder, option, place, "--force")

    def onto_unforced(self, *where: Any) -> list[object]:
        """With another target, see :meth:`onto`."""
        return self.onto(*where)[:-1]

    def given(self, number: int, harm: Harm | None, folder: Path) -> list[object]:
        """With one of its input files spoiled, or not there."""
        line = self.plain(folder)
        good = Path(str(line[number]))
        line[number] = folder / f"bad{good.suffix}"
        if harm is not None:
            (folder / f"bad{good.suffix}").write_bytes(harm(good.read_bytes()))
        return line

    def input_files(self) -> list[tuple[int, Path]]:
        """Its input files, each with its place among the words."""
        return [
            (number, word)
            for number, word in enumerate(self.command.words)
            if isinstance(word, Path) and word.is_file()
        ]


NO_FORMAT = "cannot tell the format|are written as"  # found out before the target is looked at


def odd_targets(use: Use) -> Iterator[Case]:
    """Targets that are no place for a result."""
    special_file = "is a device, a pipe or a socket"
    no_folder = "there is no folder"
    for option, target in use.command.targets.items():
        name = Path(target)
        unforced: list[tuple[str, Make, str]] = [
            ("a file", lambda path: path.write_text("mine"), "exists already"),
            ("a link to nothing", lambda path: path.symlink_to("nothing"), "which is not there"),
        ]
        for what, make, line in unforced if not use.command.grows else ():
            words = partial(use.onto_unforced, option, name, make)
            yield Case(f"{use.name}, {option} is {what}", words, (5,), line)
        forced: list[tuple[str, Path, Make | None, str]] = [
            ("a folder", name, lambda path: path.mkdir(), "is a folder"),
            ("a pipe", name, os.mkfifo, special_file),
            ("a socket", name, bind_socket, special_file),
            ("a link to a device", name, lambda path: path.symlink_to("/dev/null"), special_file),
            ("a link to no folder", name, lambda path: path.symlink_to("no/where"), no_folder),
            ("a link to itself", name, lambda path: path.symlink_to(path), "Too many levels"),
            ("/dev/null", Path("/dev/null"), None, special_file),
            ("in no folder", Path("no/folder") / target, None, no_folder),
            ("in a file", use.ground.folder / "log.csv" / target, None, no_folder),
            ("too long", Path("x" * 300 + target), None, "File name too long"),
        ]
        for what, place, make_or_not, line in forced:
            words = partial(use.onto, option, place, make_or_not)
            yield Case(f"{use.name}, {option} is {what}", words, (2, 5), f"{line}|{NO_FORMAT}")


def inputs_as_targets(use: Use) -> Iterator[Case]:
    """Targets that are inputs of the command, also through links."""
    if use.command.grows:
        return
    for option, target in use.command.targets.items():
        for _, given in use.input_files():
            hows: list[tuple[str, Path, Make | None]] = [
                ("itself", given, None),
                ("through a link", Path(target), partial(link_to, given)),
                ("under another name", Path(target), partial(os.link, given)),
            ]
            for how, place, make in hows:
                words = partial(use.onto, option, place, make)
                line = f"is an input of this command|{NO_FORMAT}"
                name = f"{use.name}, {option} is its input {given.name} {how}"
                yield Case(name, words, (2, 5), line)


def surroundings(use: Use) -> Iterator[Case]:
    """Environments and streams that no shell gives."""
    environments: list[tuple[str, str | None, int, str]] = [
        ("SOURCE_DATE_EPOCH", "x", 2, "SOURCE_DATE_EPOCH=x is not a number"),
        ("SOURCE_DATE_EPOCH", "-1", 2, "SOURCE_DATE_EPOCH=-1 is not a number"),
        ("SOURCE_DATE_EPOCH", "9" * 30, 2, "SOURCE_DATE_EPOCH=9+ is not a number"),
        ("SLURM_CPUS_PER_TASK", "9999999", 0, ""),
        ("SLURM_CPUS_PER_TASK", "²", 0, ""),
        ("HOME", None, 0, ""),
        ("HOME", "/no/such/home", 0, ""),
        ("TMPDIR", "/no/such/folder", 0, ""),
        ("LC_ALL", "C", 0, ""),
        ("COLUMNS", "0", 0, ""),
    ]
    for variable, value, code, line in environments:
        name = f"{use.name}, {variable}={value}"
        options: dict[str, object] = {"environment": {variable: value}}
        yield Case(name, use.plain, (code,), line, kept=code != 0, options=options)
    streams: list[tuple[str, str | None, int]] = [
        ("stdout", None, 0), ("stdout", "/dev/full", 5), ("stderr", None, 0),
        ("stderr", "/dev/full", 0),
    ]  # fmt: skip
    for stream, where, code in streams:
        name, line = f"{use.name}, {stream} is {where or 'closed'}", "cannot write standard output"
        yield Case(name, use.plain, (code,), line, kept=False, options={stream: where})
        number = use.input_files()[0][0] if use.input_files() else 1
        words = partial(use.given, number, None)
        yield Case(f"{name}, no such input", words, (3,), "no such file", options={stream: where})


def failing_disks(use: Use, random: np.random.Generator) -> Iterator[Case]:
    """A file system that fails one call; then the old result is there, or the new one."""
    for call in CALLS if use.command.targets else ():
        for error in random.choice(ERRORS, 3, replace=False).tolist():
            n = int(random.integers(0, 3))
            words = use.plain if random.random() < 0.5 else use.over_old_results
            yield Case(
                f"{use.name}, {call} fails with {errno.errorcode[error]} after {n} calls",
                words, (0, 5), "cannot write|is being written|appeared", kept=False,
                command=use.name, options={"before": partial(break_call, call, error, n)},
            )  # fmt: skip


def damaged_files(use: Use, random: np.random.Generator) -> Iterator[Case]:
    """Inputs cut short, of another kind, empty, or not there."""
    noise = random.bytes(3000)
    harms: dict[str, Harm] = {
        "is empty": lambda content: b"",
        "is cut to a half": lambda content: content[: len(content) // 2],
        "is noise": lambda content: noise,
        "is text": lambda content: b"not what you think\n" * 40,
        "is zeros": lambda content: bytes(len(content)),
    }
    for number, given in use.input_files():
        text = given.suffix in (".csv", ".xyz")
        for what, harm in harms.items():
            codes = (2, 3, 4, 6, 0) if text else (2, 3, 4, 6)
            words, name = partial(use.given, number, harm), f"{use.name}, {given.name} {what}"
            yield Case(name, words, codes, "bad", kept=not text)
        words, name = partial(use.given, number, None), f"{use.name}, {given.name} is not there"
        yield Case(name, words, (2, 3), "no such file|cannot read")


def bind_socket(path: Path) -> None:
    """Make a socket; its address may have no more than 107 bytes."""
    here = os.getcwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
    os.chdir(here)


def link_to(given: Path, path: Path) -> None:
    """Make a symbolic link."""
    path.symlink_to(given)


def _is_stream(descriptor: int) -> bool:
    """Whether it is standard output or error, or a copy of one."""
    return any(os.path.sameopenfile(descriptor, stream) for stream in (1, 2))


def break_call(call: str, error: int, after: int) -> None:
    """Let a call of the operating system that changes files fail after ``after`` of them."""
    real = getattr(os, call)
    calls = 0

    def broken(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        to_stream = call == "write" and _is_stream(arguments[0])
        if to_stream or (call == "open" and not arguments[1] & os.O_CREAT):
            return real(*arguments, **options)
        calls += 1
        if calls > after:
            raise OSError(error, os.strerror(error))
        return real(*arguments, **options)

    setattr(os, call, broken)
