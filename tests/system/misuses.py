"""One table of what should not be done to a command: every case ends in one line or does no harm.

``make faults`` runs many of them, the tests a part.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from ltau_cli.cli.main import ltau
from tests.helpers import ARTIFACT, COMPUTE, INPUT, OUTPUT, USAGE
from tests.system import bad_files as bad
from tests.system.ground import COMMANDS, Command, Ground, state


@dataclass(frozen=True)
class Case:
    """A misuse: a command in a folder of links to good files, and how it has to end."""

    name: str  # unique
    words: tuple[str, ...]  # ``BAD`` stands for the bad file
    codes: tuple[int, ...]  # exit codes that are right
    make: bad.Make = lambda path: None  # the bad file at a path
    bad: str = "bad"  # its name
    line: str = ""  # pattern of the error line, if the command fails
    kept: bool = True  # everything in the folder has to stay as it was made
    command: str = ""  # name of the command whose targets have to be as before or whole
    options: Mapping[str, object] = field(default_factory=dict)  # of `machine.start`


TOLD = ("error: ", "hint: ", "warning: ", "building an NN-descent", "compiling the neighbor")


def check(case: Case, ground: Ground, folder: Path, counts: Counter[str]) -> Iterator[str]:
    """Run a case in a new folder; yield what is wrong."""
    for wrong in _check(case, ground, folder, counts):
        yield f"{case.name}: {wrong}"
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder)


def _check(case: Case, ground: Ground, folder: Path, counts: Counter[str]) -> Iterator[str]:
    ground.link(folder)
    case.make(folder / case.bad)
    before = state(folder)
    words = [word.replace("BAD", case.bad) for word in case.words]
    done = ground.run(words, folder, **case.options)
    counts.update(["misuses", f"exit code {done.code}"])
    if done.crashed():
        yield str(done.crashed())
    if done.code not in case.codes:
        yield f"exit code {done.code}, not {case.codes}: {done.err.strip()[-300:]}"
    elif done.code and case.options.get("stderr", "file") == "file":
        lines = [line for line in done.err.splitlines() if line]
        errors = [line for line in lines if line.startswith("error: ")]
        if len(errors) != 1 or not re.search(case.line, errors[0]):
            yield f"tells {errors or done.err[-200:]}, not {case.line!r}"
        if case.kept and any(not line.startswith(TOLD) for line in lines):
            yield f"says more than one line: {done.err[:300]}"
        if done.out and "stdout" not in case.options:
            yield f"prints {done.out[:80]!r}"
    after = state(folder)
    if case.kept and after != before:
        changed = sorted(k for k in {*after, *before} if after.get(k) != before.get(k))
        yield f"changes {changed}"
    whole = ground.whole(case.command)[0] if case.command else {}
    for target, content in whole.items():
        if after.get(target) not in (before.get(target), content):
            yield f"BROKEN {target}"
        if done.code == 0 and after.get(target) != content:
            yield f"exit code 0 without {target}"
    if any(name.endswith(".tmp") for name in after) and "unlink" not in case.name:
        yield f"leaves {sorted(after)}"


def misuses(random: np.random.Generator) -> Iterator[Case]:
    """Every case, in one order for a seed."""
    yield from options()
    yield from names()
    yield from files()
    for name, command in COMMANDS.items():
        yield from odd_targets(name, command)
        yield from inputs_as_targets(name, command)
        yield from surroundings(name, command)
        yield from failing_disks(name, command, random)
        yield from damaged_files(name, command, random)


# Options

NO_NUMBERS = ("nan", "inf", "-inf", "1e999", "NaN")
LONG = "9" * 5_000
CONDITIONS = ("x < nan", "x < inf", "x", "x <", "expected_error < 1 < 2", "expected_error < 1e999")
COUNTS = ("nan", "-1", "0.5", "9" * 30, LONG, "")
EPOCHS = ("a:b", "1", "1:2:0", "1:2:3:4", "nan:", LONG + ":")
VALUES: dict[str, tuple[str, ...]] = {  # of options, none of which can be
    **{f"fit {flag}": COUNTS for flag in ("--bins", "-k", "--shards", "--threads")},
    "fit --seed": ("nan", "-1", "0.5", LONG, ""),
    "score --shard": ("0/0", "2/2", "a/2", "1", LONG + "/3", "0/" + LONG, "0/1e3"),
    **{f"{name} --epochs": EPOCHS for name in ("ingest", "fit", "describe")},
    "export --where": CONDITIONS,
    "evaluate --fail-if": CONDITIONS,
}
ROWS = ("a", "-1", "9" * 30, LONG, "1,,2", "1.5")


def takes_fractions(kind: click.ParamType[Any]) -> bool:
    """Whether an option of this type can be a number that is not whole."""
    return any(_converts(kind, text) for text in ("0.5", "1.5", "-0.5"))


def _converts(kind: click.ParamType[Any], text: str) -> bool:
    try:
        return isinstance(kind.convert(text, None, None), float)
    except click.UsageError:
        return False


def number_options() -> Iterator[tuple[str, click.Option]]:
    """Yield every option of every command that takes fractions, with the command's name."""
    assert isinstance(ltau, click.Group)
    for name, command in ltau.commands.items():
        for parameter in command.params:
            kinds = getattr(parameter.type, "types", [parameter.type])
            if (
                name in COMMANDS
                and isinstance(parameter, click.Option)
                and any(map(takes_fractions, kinds))
            ):
                yield name, parameter


def options() -> Iterator[Case]:
    """Values of options that cannot be meant."""
    for name, option in number_options():
        flag = max(option.opts, key=len)
        for text in NO_NUMBERS:
            words = COMMANDS[name].line(flag, *["0.5"] * (option.nargs - 1), text)
            yield Case(f"{name} {flag} {text}", words, (USAGE,))
    for where, texts in VALUES.items():
        name, flag = where.split()
        for text in texts:
            words = COMMANDS[name].line(flag, text)
            yield Case(f"{where} {text[:40]} {len(text)}", words, (USAGE,))
    for text in ROWS:
        words = ("plot", "trajectories", "errors.h5", "--rows", text, "-o", "out.png")
        yield Case(f"plot --rows {text[:40]} {len(text)}", words, (USAGE,))


# Names: what stands where a file is wanted

WANTED = {  # argument and ending: the command
    **{f"log.{ending}": "ingest BAD -o out.h5" for ending in [*bad.LOGS, "csv.gz"]},
    "describe frames.xyz": "describe BAD --network python:own.py:describe -o out.h5",
    "describe frames.h5": "describe BAD --network python:own.py:describe -o out.h5",
    "describe --network.py": "describe frames.xyz --network python:BAD:f -o out.h5",
    "fit errors.h5": "fit BAD x.npy -o out.h5",
    "fit descriptors.npy": "fit errors.h5 BAD -o out.h5",
    "fit descriptors.xyz": "fit errors.h5 BAD -o out.h5",
    "fit descriptors.h5": "fit errors.h5 BAD:x -o out.h5",
    "fit --held-out.npy": "fit errors.h5 x.npy -o out.h5 --tune --held-out BAD truth.npy",
    "score descriptors.npz": "score BAD -m model.h5 -o out.h5",
    "score --model.h5": "score x.npy -m BAD -o out.h5",
    "calibrate scores.h5": "calibrate BAD truth.npy -o out.h5",
    **{
        f"calibrate truth.{ending}": "calibrate scores.h5 BAD -o out.h5"
        for ending in ("csv", "xyz", "json", "out")
    },
    "evaluate scores.h5": "evaluate BAD truth.npy",
    "evaluate truth.npy": "evaluate calibrated.h5 BAD",
    "export scores.h5": "export BAD -o out.csv",
    "export --frames.xyz": "export scores.h5 -o out.xyz --frames BAD",
    "select scores.h5": "select BAD -n 3 -o out.txt",
    "weights model.h5": "weights BAD -o out.npy",
    "weights --natoms.txt": "weights model.h5 -o out.npy --per structure --natoms BAD",
    "plot artifact.h5": "plot BAD -o out.png",
    "plot --true.npy": "plot parity calibrated.h5 --true BAD -o out.png",
    "plot --ood-labels.npy": "plot ood model.h5 scores.h5 --ood-labels BAD -o out.png",
    "info artifact.h5": "info BAD",
    **{  # options beside what their command needs
        wanted: " ".join(COMMANDS[wanted.split()[0]].line(wanted.split()[1].split(".")[0], "BAD"))
        for wanted in (
            "ingest --natoms.npy", "ingest --frames.xyz", "ingest --group.txt",
            "ingest --sample-id.npy", "ingest --magnitude.txt", "ingest --config.yaml",
            "score --natoms.npy", "score --group.npy", "score --calibration.h5",
            "calibrate --group.npy", "evaluate --ood-labels.npy", "select --descriptors.npy",
            "select --frames.xyz", "plot --style.mplstyle",
        )
    },
}  # fmt: skip
ARTIFACTS = ("errors", "model", "calibration", "scores", "artifact")


def names() -> Iterator[Case]:
    """Folders, pipes, sockets, ... where a file is wanted."""
    for wanted, words in WANTED.items():
        what, _, ending = wanted.partition(".")
        role = what.rpartition(" ")[2].lstrip("-")
        for kind, (make, name) in bad.NAMES.items():
            is_artifact = role in ARTIFACTS and ending == "h5" and kind not in bad.NOT_THERE
            code = USAGE if role == "config" else ARTIFACT if is_artifact else INPUT
            if kind == "an empty file" and role in ("config", "style"):
                continue  # which is a good one
            named = name.format("." + ending)
            yield Case(f"{wanted}: {kind}", tuple(words.split()), (code,), make, named)


# Files of other tools

WIDE = {name: make for name, make in bad.DESCRIPTORS.items() if name != "another width"}
USES: dict[str, dict[str, bad.Make]] = {
    "score BAD -m model.h5 -o out.h5": bad.DESCRIPTORS,
    "fit errors.h5 BAD -o out.h5": WIDE,
    "select scores.h5 -n 3 -o out.txt --descriptors BAD": WIDE,
    "ingest log.npy -o out.h5 --natoms BAD": bad.NATOMS,
    "score x.npy -m model.h5 -o out.h5 --natoms BAD": bad.NATOMS,
    "weights model.h5 -o out.npy --per structure --natoms BAD": bad.NATOMS,
    "ingest log.npy -o out.h5 --group BAD": bad.LABELS,
    "ingest log.npy -o out.h5 --sample-id BAD": bad.LABELS,
    "score x.npy -m model.h5 -o out.h5 --group BAD": bad.LABELS,
    "calibrate scores.h5 truth.npy -o out.h5 --group BAD": bad.LABELS,
    "evaluate calibrated.h5 truth.npy --ood-labels BAD": bad.LABELS | {
        "twos": bad.save(np.full(bad.N, 2)), "NaN": bad.save(np.full(bad.N, np.nan))
    },
    "ingest log.npy -o out.h5 --magnitude BAD": {
        name: make for name, make in bad.TRUTHS.items() if name != "negative"
    },
    "calibrate scores.h5 BAD -o out.h5": bad.TRUTHS,
    "evaluate calibrated.h5 BAD": bad.TRUTHS,
    "plot parity calibrated.h5 -o out.png --true BAD": bad.TRUTHS,
}  # fmt: skip


def files() -> Iterator[Case]:
    """Files that cannot be what they are given as."""
    for ending, makes in bad.LOGS.items():
        for name, make in makes.items():
            words = ("ingest", "BAD", "-o", "out.h5")
            yield Case(f"log.{ending}: {name}", words, (INPUT,), make, f"bad.{ending}")
    for use, makes in USES.items():
        for name, make in makes.items():
            yield Case(f"{use}: {name}", tuple(use.split()), (INPUT,), make, "bad.npy")
    for name, text in bad.CONFIGS.items():
        words = COMMANDS["fit"].line("--config", "BAD")
        yield Case(f"config: {name}", words, (USAGE,), bad.text_of(text), "bad.yaml")


# Targets

NO_FORMAT = "cannot tell the format|are written as"  # found out before the target is looked at
SPECIAL, NO_FOLDER = "is a device, a pipe or a socket", "there is no folder"
UNFORCED: dict[str, tuple[bad.Make, str]] = {
    "a file": (lambda path: path.write_text("mine"), "exists already"),
    "a link to nothing": (lambda path: path.symlink_to("nothing"), "which is not there"),
}
FORCED: dict[str, tuple[bad.Make, str, str]] = {
    "a folder": (Path.mkdir, "{}", "is a folder"),
    "a pipe": (os.mkfifo, "{}", SPECIAL),
    "a socket": (bad.bind_socket, "{}", SPECIAL),
    "a link to a device": (lambda path: path.symlink_to("/dev/null"), "{}", SPECIAL),
    "a link to no folder": (lambda path: path.symlink_to("no/where"), "{}", NO_FOLDER),
    "a link to itself": (lambda path: path.symlink_to(path), "{}", "Too many levels"),
    "/dev/null": (lambda path: None, "/dev/null", SPECIAL),
    "in no folder": (lambda path: None, "no/folder/{}", NO_FOLDER),
    "in a file": (lambda path: None, "log.csv/{}", NO_FOLDER),
    "too long": (lambda path: None, "x" * 300 + "{}", "File name too long"),
}


def onto(command: Command, option: str) -> tuple[str, ...]:
    """Give the words of a command with the bad file as the target of an option."""
    return Command(command.text, {**command.targets, option: "BAD"}).line()


def odd_targets(name: str, command: Command) -> Iterator[Case]:
    """Targets that are no place for a result."""
    for option, target in command.targets.items():
        words = onto(command, option)
        for what, (make, line) in UNFORCED.items():
            yield Case(f"{name}, {option} is {what}", words, (OUTPUT,), make, target, line)
        for what, (make, place, line) in FORCED.items():
            yield Case(
                f"{name}, {option} is {what} by force", (*words, "--force"), (USAGE, OUTPUT), make,
                place.format(target), f"{line}|{NO_FORMAT}",
            )  # fmt: skip


def inputs_as_targets(name: str, command: Command) -> Iterator[Case]:
    """Targets that are inputs of the command, also through links."""
    for option, target in command.targets.items():
        for given in command.inputs:
            hows: list[tuple[str, str, bad.Make]] = [
                ("itself", given, lambda path: None),
                ("through a link", target, lambda path, given=given: path.symlink_to(given)),
                ("under another name", target,
                 lambda path, given=given: path.hardlink_to((path.parent / given).resolve())),
            ]  # fmt: skip
            for how, place, make in hows:
                yield Case(
                    f"{name}, {option} is its input {given} {how}",
                    (*onto(command, option), "--force"), (USAGE, OUTPUT), make, place,
                    f"is an input of this command|{NO_FORMAT}",
                )  # fmt: skip


# Surroundings

ENVIRONMENTS: list[tuple[str, str | None, int, str]] = [
    ("SOURCE_DATE_EPOCH", "x", USAGE, "SOURCE_DATE_EPOCH=x is not a number"),
    ("SOURCE_DATE_EPOCH", "-1", USAGE, "SOURCE_DATE_EPOCH=-1 is not a number"),
    ("SOURCE_DATE_EPOCH", "9" * 30, USAGE, "SOURCE_DATE_EPOCH=9+ is not a number"),
    ("SLURM_CPUS_PER_TASK", "9999999", 0, ""),
    ("SLURM_CPUS_PER_TASK", "²", 0, ""),
    ("HOME", None, 0, ""),
    ("HOME", "/no/such/home", 0, ""),
    ("TMPDIR", "/no/such/folder", 0, ""),
    ("LC_ALL", "C", 0, ""),
    ("COLUMNS", "0", 0, ""),
]
STREAMS = [("stdout", None, 0), ("stdout", "/dev/full", OUTPUT), ("stderr", None, 0),
           ("stderr", "/dev/full", 0)]  # fmt: skip
ERRORS = (
    errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY,
    errno.ESTALE, errno.EXDEV, errno.ENOLCK,
)  # fmt: skip
CALLS = ("open", "pwrite", "write", "fsync", "ftruncate", "link", "replace", "unlink", "fchmod")


def surroundings(name: str, command: Command) -> Iterator[Case]:
    """Environments and streams that no shell gives."""
    for variable, value, code, line in ENVIRONMENTS:
        options = {"environment": {variable: value}}
        yield Case(f"{name}, {variable}={value}", command.line(), (code,), line=line,
                   kept=code != 0, options=options)  # fmt: skip
    for stream, where, code in STREAMS:
        what, options = f"{name}, {stream} is {where or 'closed'}", {stream: where}
        yield Case(what, command.line(), (code,), line="cannot write standard output", kept=False,
                   options=options)  # fmt: skip
        words, bad_name = given(command, command.inputs[0])
        yield Case(f"{what}, no such input", words, (INPUT,), bad=bad_name, line="no such file",
                   options=options)  # fmt: skip


def given(command: Command, name: str) -> tuple[tuple[str, ...], str]:
    """Words with the bad file in place of an input, and the name of the bad file."""
    return tuple("BAD" if w == name else w for w in command.line()), f"bad{Path(name).suffix}"


def failing_disks(name: str, command: Command, random: np.random.Generator) -> Iterator[Case]:
    """A file system that fails one call; then the old result is there, or the new one."""

    def old_results(path: Path) -> None:
        for target in command.targets.values():
            (path.parent / target).write_text("old")

    for call in CALLS if command.targets else ():
        for error in random.choice(ERRORS, 3, replace=False).tolist():
            n, old = int(random.integers(0, 3)), random.random() < 0.5
            yield Case(
                f"{name}, {call} fails with {errno.errorcode[error]} after {n} calls",
                command.line(*["--force"] * old), (0, OUTPUT),
                old_results if old else lambda path: None,
                line="cannot write|is being written|appeared", kept=False, command=name,
                options={"before": partial(break_call, call, error, n)},
            )  # fmt: skip


def damaged_files(name: str, command: Command, random: np.random.Generator) -> Iterator[Case]:
    """Inputs cut short, of another kind, empty, or not there."""
    noise = random.bytes(3000)
    harms: dict[str, Callable[[bytes], bytes]] = {
        "is empty": lambda content: b"",
        "is cut to a half": lambda content: content[: len(content) // 2],
        "is noise": lambda content: noise,
        "is text": lambda content: b"not what you think\n" * 40,
        "is zeros": lambda content: bytes(len(content)),
    }

    def make(good: str, harm: Callable[[bytes], bytes], path: Path) -> None:
        path.write_bytes(harm((path.parent / good).read_bytes()))

    for good in command.inputs:
        words, bad_name = given(command, good)
        text = Path(good).suffix in (".csv", ".xyz")
        codes = (USAGE, INPUT, ARTIFACT, COMPUTE, *([0] if text else []))
        for what, harm in harms.items():
            yield Case(f"{name}, {good} {what}", words, codes, partial(make, good, harm), bad_name,
                       "bad", kept=not text)  # fmt: skip
        yield Case(f"{name}, {good} is not there", words, (USAGE, INPUT), bad=bad_name,
                   line="no such file|cannot read")  # fmt: skip


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
