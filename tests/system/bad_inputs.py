"""Bad inputs, each with the command that meets it and the exit code it must end with.

:data:`CASES` is run as a whole by ``make faults``, through the real command, and in this process by
the tests.
"""

from __future__ import annotations

import gzip
import io
import itertools
import os
import socket
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np

from ltau_cli.cli.main import ltau
from tests.helpers import ARTIFACT, INPUT, USAGE

N, FRAME = 60, 5  # rows of everything, and rows of a frame
Words = Sequence[object]
Make = Callable[[Path], None]  # makes the bad file


@dataclass(frozen=True)
class Case:
    """A bad input.

    Attributes
    ----------
    name : str
        Unique.
    words : tuple of str
        The command, in a folder of good files (see :func:`make_good`); ``BAD`` stands for the bad
        one. It writes nothing.
    code : int
        How it must end.
    make : callable
        Makes the bad file at a path.
    bad : str
        Name of the bad file.
    """

    name: str
    words: tuple[str, ...]
    code: int
    make: Make = lambda path: None
    bad: str = "bad"

    def prepare(self, good: Path, folder: Path) -> list[str]:
        """Make the bad file in a new folder beside links to the good ones; return the words."""
        for file in good.iterdir():
            (folder / file.name).symlink_to(file)
        self.make(folder / self.bad)
        return [word.replace("BAD", self.bad) for word in self.words]


def judge(case: Case, code: int, out: str, err: str) -> str | None:
    """Say what is wrong with how a command ended; None if nothing is."""
    lines = [line for line in err.splitlines() if line]
    errors = [line for line in lines if line.startswith("error: ")]
    if code != case.code:
        return f"ended with {code}, not {case.code}: {(lines or [''])[-1][:200]}"
    if len(errors) != 1 or any(not line.startswith(_LINES) for line in lines):
        return f"said more than one line: {err[:300]}"
    return f"printed {out[:80]!r}" if out else None


_LINES = ("error: ", "hint: ", "warning: ", "building an NN-descent", "compiling the neighbor")


def make_good(folder: Path, run: Callable[[Words], int]) -> None:
    """Fill a folder with small good files and artifacts; ``run`` runs a command in it."""
    make_files(folder)
    make_artifacts(run)


def make_files(folder: Path) -> None:
    """Write the files of other tools."""
    rng = np.random.default_rng(0)
    log = rng.gamma(2, 0.1, (12, N)).astype(np.float32)
    np.save(folder / "log.npy", log)
    np.save(folder / "x.npy", rng.normal(size=(N, 4)))
    np.save(folder / "natoms.npy", np.full(N // FRAME, FRAME))
    np.save(folder / "truth.npy", rng.gamma(2, 0.1, N))
    np.save(folder / "group.npy", np.where(np.arange(N) % 2, "Cu", "O"))
    np.save(folder / "ood.npy", np.arange(N) % 2)
    lines = []
    for _ in range(N // FRAME):
        lines += [str(FRAME), "Properties=species:S:1:pos:R:3:REF_forces:R:3:pred_forces:R:3"]
        lines += ["Cu " + " ".join(f"{v:.4f}" for v in row) for row in rng.normal(size=(FRAME, 9))]
    (folder / "frames.xyz").write_text("\n".join(lines) + "\n")
    (folder / "own.py").write_text(
        "import numpy as np\n\n"
        "def describe(frames):\n"
        "    return {'descriptors': np.concatenate([frame.positions for frame in frames])}\n"
    )


def make_artifacts(run: Callable[[Words], int]) -> None:
    """Make an artifact of every kind of them."""
    score = ["score", "x.npy", "-m", "model.h5", "-q"]
    labels = ["--natoms", "natoms.npy", "--group", "group.npy"]
    levels = ["--level", "0.5", "--level", "0.8"]
    for words in (
        ["ingest", "log.npy", "--natoms", "natoms.npy", "--group", "group.npy", "-o", "errors.h5"],
        ["fit", "errors.h5", "x.npy", "-k", "5", "-o", "model.h5"],
        ["fit", "errors.h5", "x.npy", "-k", "5", "--index", "nndescent", "--recall", "0.5", "-o",
         "graph.h5"],
        ["fit", "errors.h5", "x.npy", "-k", "5", "--shards", "2", "-o", "sharded.h5"],
        [*score, *labels, "-o", "scores.h5"],
        ["calibrate", "scores.h5", "truth.npy", *levels, "--group", "group", "-o",
         "calibration.h5"],
        [*score, *labels, "--calibration", "calibration.h5", "--cdf", "-o", "calibrated.h5"],
    ):  # fmt: skip
        assert run(words) == 0, words


# Options


DESCRIBE = ("describe", "--network", "python:own.py:describe", "-o", "out.h5")
COMMANDS: dict[str, tuple[str, ...]] = {
    "ingest": ("ingest", "log.npy", "-o", "out.h5"),
    "describe": (*DESCRIBE, "frames.xyz"),
    "fit": ("fit", "errors.h5", "x.npy", "-o", "out.h5"),
    "score": ("score", "x.npy", "-m", "model.h5", "-o", "out.h5"),
    "calibrate": ("calibrate", "scores.h5", "truth.npy", "-o", "out.h5"),
    "evaluate": ("evaluate", "calibrated.h5", "truth.npy"),
    "export": ("export", "calibrated.h5", "-o", "out.csv"),
    "select": ("select", "scores.h5", "-n", "3", "-o", "out.txt"),
    "weights": ("weights", "model.h5", "-o", "out.npy"),
    "plot": ("plot", "calibration.h5", "-o", "out.png"),
    "info": ("info", "model.h5"),
}
NO_NUMBERS = ("nan", "inf", "-inf", "1e999", "NaN")


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
            if isinstance(parameter, click.Option) and any(map(takes_fractions, kinds)):
                yield name, parameter


def _option_cases() -> Iterator[Case]:
    for name, option in number_options():
        flag = max(option.opts, key=len)
        for text in NO_NUMBERS:
            values = ["0.5"] * (option.nargs - 1) + [text]
            yield Case(f"{name} {flag} {text}", (*COMMANDS[name], flag, *values), USAGE)
    for flag in ("--seed", "--bins", "-k", "--shards", "--burn-in", "--threads"):
        for text in ("nan", "-1", "0.5", "9" * 30, "9" * 5_000, ""):
            if (flag, text) != ("--seed", "9" * 30):
                yield Case(f"fit {flag} {text[:40]}", (*COMMANDS["fit"], flag, text), USAGE)
    for text in ("0/0", "2/2", "a/2", "1", "9" * 5_000 + "/3", "0/" + "9" * 5_000, "0/1e3"):
        yield Case(f"score --shard {text[:9]} {len(text)}", (*COMMANDS["score"], "--shard", text),
                   USAGE)  # fmt: skip
    for text in ("a", "-1", "9" * 30, "9" * 5_000, "1,,2", "1.5"):
        words = ("plot", "trajectories", "errors.h5", "--rows", text, "-o", "out.png")
        yield Case(f"plot --rows {text[:40]}", words, USAGE)
    for text in (
        "x < nan",
        "x < inf",
        "x",
        "x <",
        "expected_error < 1 < 2",
        "expected_error < 1e999",
    ):
        yield Case(f"export --where {text}", (*COMMANDS["export"], "--where", text), USAGE)
        yield Case(f"evaluate --fail-if {text}", (*COMMANDS["evaluate"], "--fail-if", text), USAGE)
    for text in ("a:b", "1", "1:2:0", "1:2:3:4", "nan:", "9" * 5_000 + ":"):
        yield Case(f"ingest --epochs {text[:9]}", (*COMMANDS["ingest"], "--epochs", text), USAGE)


# Names: what stands where a file is wanted


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as place:
        folder = os.open(path.parent, os.O_RDONLY)  # a socket's name may have 107 bytes
        try:
            place.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)


def _locked(path: Path) -> None:
    path.write_bytes(b"")
    path.chmod(0)


NAMES: dict[str, tuple[Make, str]] = {
    "nothing": (lambda path: None, "bad{}"),
    "a folder": (Path.mkdir, "bad{}"),
    "a pipe": (_pipe, "bad{}"),
    "a socket": (_socket, "bad{}"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "bad{}"),
    "a dangling link": (lambda path: path.symlink_to("nowhere"), "bad{}"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "bad{}"),
    "a long name": (lambda path: None, "b" * 300 + "{}"),
    "a file as folder": (lambda path: None, "x.npy/bad{}"),
    "an empty file": (Path.touch, "bad{}"),
    "a locked file": (_locked, "bad{}"),
    "a locked folder": (lambda path: path.parent.mkdir(mode=0), "locked/bad{}"),
}
NOT_THERE = {"nothing", "a dangling link", "a link to itself", "a long name", "a file as folder",
             "a locked file", "a locked folder"}  # fmt: skip
WANTED: dict[str, tuple[str, ...]] = {  # option or argument, its ending, the command
    "log.npy": ("ingest", "BAD", "-o", "out.h5"),
    "log.csv": ("ingest", "BAD", "-o", "out.h5"),
    "log.jsonl": ("ingest", "BAD", "-o", "out.h5"),
    "log.csv.gz": ("ingest", "BAD", "-o", "out.h5"),
    "log.npz": ("ingest", "BAD", "-o", "out.h5"),
    "log.h5": ("ingest", "BAD", "-o", "out.h5"),
    "log.xyz": ("ingest", "BAD", "-o", "out.h5"),
    "ingest --natoms.npy": (*COMMANDS["ingest"], "--natoms", "BAD"),
    "ingest --frames.xyz": (*COMMANDS["ingest"], "--frames", "BAD"),
    "ingest --group.txt": (*COMMANDS["ingest"], "--group", "BAD"),
    "ingest --sample-id.npy": (*COMMANDS["ingest"], "--sample-id", "BAD"),
    "ingest --magnitude.txt": (*COMMANDS["ingest"], "--magnitude", "BAD"),
    "ingest --config.yaml": (*COMMANDS["ingest"], "--config", "BAD"),
    "describe frames.xyz": (*DESCRIBE, "BAD"),
    "describe frames.h5": (*DESCRIBE, "BAD"),
    "describe --network.py": (
        "describe",
        "frames.xyz",
        "--network",
        "python:BAD:f",
        "-o",
        "out.h5",
    ),
    "fit descriptors.xyz": ("fit", "errors.h5", "BAD", "-o", "out.h5"),
    "calibrate truth.json": ("calibrate", "scores.h5", "BAD", "-o", "out.h5"),
    "calibrate truth.out": ("calibrate", "scores.h5", "BAD", "-o", "out.h5"),
    "fit errors.h5": ("fit", "BAD", "x.npy", "-o", "out.h5"),
    "fit descriptors.npy": ("fit", "errors.h5", "BAD", "-o", "out.h5"),
    "fit descriptors.h5": ("fit", "errors.h5", "BAD:x", "-o", "out.h5"),
    "fit --held-out.npy": (*COMMANDS["fit"], "--tune", "--held-out", "BAD", "truth.npy"),
    "score descriptors.npz": ("score", "BAD", "-m", "model.h5", "-o", "out.h5"),
    "score --model.h5": ("score", "x.npy", "-m", "BAD", "-o", "out.h5"),
    "score --natoms.npy": (*COMMANDS["score"], "--natoms", "BAD"),
    "score --group.npy": (*COMMANDS["score"], "--group", "BAD"),
    "score --calibration.h5": (*COMMANDS["score"], "--calibration", "BAD"),
    "calibrate scores.h5": ("calibrate", "BAD", "truth.npy", "-o", "out.h5"),
    "calibrate truth.csv": ("calibrate", "scores.h5", "BAD", "-o", "out.h5"),
    "calibrate truth.xyz": ("calibrate", "scores.h5", "BAD", "-o", "out.h5"),
    "calibrate --group.npy": (*COMMANDS["calibrate"], "--group", "BAD"),
    "evaluate scores.h5": ("evaluate", "BAD", "truth.npy"),
    "evaluate truth.npy": ("evaluate", "calibrated.h5", "BAD"),
    "evaluate --ood-labels.npy": (*COMMANDS["evaluate"], "--ood-labels", "BAD"),
    "export scores.h5": ("export", "BAD", "-o", "out.csv"),
    "export --frames.xyz": ("export", "scores.h5", "-o", "out.xyz", "--frames", "BAD"),
    "select scores.h5": ("select", "BAD", "-n", "3", "-o", "out.txt"),
    "select --descriptors.npy": (*COMMANDS["select"], "--descriptors", "BAD"),
    "select --frames.xyz": (*COMMANDS["select"], "--frames", "BAD"),
    "weights model.h5": ("weights", "BAD", "-o", "out.npy"),
    "weights --natoms.txt": (*COMMANDS["weights"], "--per", "structure", "--natoms", "BAD"),
    "plot artifact.h5": ("plot", "BAD", "-o", "out.png"),
    "plot --true.npy": ("plot", "parity", "calibrated.h5", "--true", "BAD", "-o", "out.png"),
    "plot --ood-labels.npy": (
        *("plot", "ood", "model.h5", "scores.h5", "--ood-labels", "BAD", "-o", "out.png"),
    ),
    "plot --style.mplstyle": (*COMMANDS["plot"], "--style", "BAD"),
    "info artifact.h5": ("info", "BAD"),
}
ARTIFACTS = ("errors", "model", "calibration", "part", "scores", "artifact")


def _name_cases() -> Iterator[Case]:
    for wanted, words in WANTED.items():
        what, _, ending = wanted.partition(".")
        role = what.rpartition(" ")[2].lstrip("-")
        for kind, (make, name) in NAMES.items():
            code = INPUT
            if role in ARTIFACTS and ending == "h5" and kind not in NOT_THERE:
                code = ARTIFACT
            if role == "config":
                code = USAGE
            if kind == "an empty file" and role in ("config", "style"):
                continue  # which is a good one
            yield Case(f"{wanted}: {kind}", words, code, make, name.format("." + ending))


# Files of other tools


def _save(values: object) -> Make:
    return lambda path: np.save(path, values)  # type: ignore[arg-type]


def _text(text: str | bytes) -> Make:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return lambda path: path.write_bytes(data) and None


def npy(header: str, data: bytes = b"", version: int = 1) -> bytes:
    """Return a .npy file with this header."""
    text = header.encode("latin1") + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + data


def _header(shape: str, descr: str = "'<f4'") -> bytes:
    return npy(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}", b"\0" * 64)


def _npz(compression: int = zipfile.ZIP_STORED, **members: bytes) -> Make:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, data in members.items():
                archive.writestr(f"{name}.npy", data)

    return make


def _saved(values: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)  # type: ignore[arg-type]
    return buffer.getvalue()


def _overlapping(path: Path) -> None:
    """Write 50 members that are all the bytes of the first."""
    _npz(a=_saved(np.ones((100, 100))))(path)
    data = path.read_bytes()
    start = data.index(b"PK\x01\x02")
    central = data[start : data.index(b"PK\x05\x06")]
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 50, 50, 50 * len(central), start, 0)
    path.write_bytes(data[:start] + 50 * central + end)


def _promising(factor: int) -> Make:
    """Write a compressed member that says it unpacks to ``factor`` times what it can."""

    def make(path: Path) -> None:
        shape = f"({factor}, 1000)"
        _npz(zipfile.ZIP_DEFLATED, a=_header(shape))(path)
        data = bytearray(path.read_bytes())
        for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
            at = data.index(mark) + offset
            data[at : at + 4] = struct.pack("<L", factor * 4_000 + 128)
        path.write_bytes(data)

    return make


def _hdf5(edit: Callable[[h5py.File], Any]) -> Make:
    def make(path: Path) -> None:
        with h5py.File(path, "w") as file:
            edit(file)

    return make


LOGS: dict[str, dict[str, Make]] = {
    "npy": {
        "a shape of 0 and 2**62": _text(_header("(0, 4611686018427387904)")),
        "a shape of 2**62 and 0": _text(_header("(4611686018427387904, 0)")),
        "a shape of truth values": _text(_header("(True, True)")),
        "a negative shape": _text(_header("(-1, 4)")),
        "two negative lengths": _text(_header("(-2, -2)")),
        "a shape of fractions": _text(_header("(2.0, 2)")),
        "a shape that is no tuple": _text(_header("7")),
        "a shape of 70 ones": _text(_header("(" + "1, " * 70 + ")")),
        "a shape of 2**40 by 2**40": _text(_header("(1099511627776, 1099511627776)")),
        "a header of brackets": _text(npy("(" * 9_000)),
        "a header of 60,000 bytes": _text(npy(" " * 60_000)),
        "a header of 2 GB": _text(b"\x93NUMPY\x02\0" + b"\xff\xff\xff\x7f"),
        "values of no bytes": _text(_header("(4611686018427387904,)", "'|S0'")),
        "values of many bytes": _text(_header("(1,)", "'|S2147483647'")),
        "subarrays": _text(_header("(1,)", "('<f4', (1099511627776,))")),
        "fields": _text(_header("(2, 2)", "[('a', '<f4')]")),
        "complex numbers": _save(np.ones((3, 3), complex)),
        "times": _save(np.ones((3, 3), "M8[s]")),
        "objects": _save(np.array([[None, 1]], dtype=object)),
        "text": _save(np.array([["a", "b"]])),
        "one number": _save(np.float32(1)),
        "negative errors": _save(-np.ones((3, 3))),
        "nothing but NaN": _save(np.full((3, 3), np.nan)),
        "four components": _save(np.ones((3, 3, 4))),
        "version 9": _text(npy("{}", version=9)),
        "only its magic": _text(b"\x93NUMPY"),
        "a future dtype": _text(_header("(2, 2)", "'<f128000'")),
    },
    "npz": {
        "no zip": _text(b"PK\x03\x04 and more"),
        "no arrays": _npz(),
        "a pickle": _npz(a=_saved(np.array([{}], dtype=object))),
        "a member that is no array": _npz(a=b"hello"),
        "arrays that overlap": _overlapping,
        "bzip2": _npz(zipfile.ZIP_BZIP2, a=_saved(np.zeros((300, 300)))),
        "lzma": _npz(zipfile.ZIP_LZMA, a=_saved(np.zeros((300, 300)))),
        "a promise of 4 GB": _promising(1_000_000),
        "runs of other lengths": _npz(a=_saved(np.ones((2, 3))), b=_saved(np.ones((2, 4)))),
        "an impossible shape": _npz(a=_header("(0, 4611686018427387904)")),
    },
    "h5": {
        "no HDF5": _text("errors"),
        "only its magic": _text(b"\x89HDF\r\n\x1a\n" + b"\0" * 100),
        "no arrays": _hdf5(lambda file: file.create_group("a")),
        "2**61 samples": _hdf5(lambda f: f.create_dataset("errors", (2, 2**61), "u1")),
        "2**61 samples in chunks": _hdf5(
            lambda f: f.create_dataset("errors", (2, 2**61), "f4", chunks=(1, 1024))
        ),
        "2**61 packed samples": _hdf5(
            lambda f: f.create_dataset(
                "errors", (2, 2**61), "u1", chunks=(1, 1024), compression="gzip"
            )
        ),
        "objects": _hdf5(lambda f: f.create_dataset("errors", (2,), h5py.special_dtype(vlen=int))),
        "one number": _hdf5(lambda f: f.create_dataset("errors", data=1.0)),
        "null": _hdf5(lambda f: f.create_dataset("errors", data=h5py.Empty("f4"))),
        "a link out": _hdf5(lambda f: f.update({"errors": h5py.ExternalLink("/etc/passwd", "x")})),
        "a soft link in a ring": _hdf5(
            lambda f: f.update({"errors": h5py.SoftLink("/b"), "b": h5py.SoftLink("/errors")})
        ),
        "values elsewhere": _hdf5(
            lambda f: f.create_dataset("errors", (2, 4), "f4", external=[("/etc/passwd", 0, 32)])
        ),
        "compound values": _hdf5(
            lambda f: f.create_dataset("errors", data=np.zeros((2, 2), "i4,f4"))
        ),
    },
    "csv": {
        "binary": _text(bytes(range(256))),
        "NUL bytes": _text("epoch,sample,error\n0,0,\0\n"),
        "a header alone": _text("epoch,sample,error\n"),
        "a word for an error": _text("epoch,sample,error\n0,0,high\n"),
        "a word for an epoch": _text("epoch,sample,error\nlast,0,1\n"),
        "a fraction for an epoch": _text("epoch,sample,error\n0.5,0,1\n"),
        "an endless epoch": _text("epoch,sample,error\ninf,0,1\n"),
        "an epoch of 2**31": _text("epoch,sample,error\n2147483648,0,1\n"),
        "an epoch of 5,000 digits": _text("epoch,sample,error\n" + "9" * 5_000 + ",0,1\n"),
        "a row that is too long": _text("epoch,sample,error\n0,0,1,2\n"),
        "a row that is too short": _text("epoch,sample,error\n0,0\n"),
        "no id": _text("epoch,sample,error\n0,,1\n"),
        "a field of 200,000 bytes": _text('epoch,sample,error\n0,0,"' + "1" * 200_000 + '"\n'),
        "an open quote": _text('epoch,sample,error\n0,0,"1\n' * 3),
        "no known column": _text("a,b,c\n0,0,one\n"),
        "negative errors": _text("epoch,sample,error\n0,0,-1\n"),
        "another width": _text("0.1,0.2,0.3,0.4,0.5\n0.1,0.2\n"),
        "words in a wide table": _text("a,b,c,d,e,f\nx,x,x,x,x,x\n"),
        "UTF-16": _text("epoch,sample,error\n0,0,1\n".encode("utf-16")),
    },
    "csv.gz": {
        "no gzip": _text("epoch,sample,error\n0,0,1\n"),
        "cut short": _text(gzip.compress(b"epoch,sample,error\n0,0,1\n" * 99)[:-9]),
        "binary": _text(gzip.compress(bytes(range(256)))),
    },
    "jsonl": {
        "no JSON": _text("{"),
        "a list": _text("[1]\n"),
        "a number": _text("1\n"),
        "null": _text("null\n"),
        "nested 100,000 deep": _text('{"epoch": ' + "[" * 100_000 + "\n"),
        "an empty error": _text('{"epoch": 0, "sample": 0, "error": []}\n'),
        "an empty error later": _text(
            '{"epoch": 0, "sample": 0, "error": [1, 2, 2]}\n'
            '{"epoch": 0, "sample": 1, "error": []}\n'
        ),
        "an error that is true": _text('{"epoch": 0, "sample": 0, "error": true}\n'),
        "an error that is an object": _text('{"epoch": 0, "sample": 0, "error": {}}\n'),
        "an error in lists": _text('{"epoch": 0, "sample": 0, "error": [[1]]}\n'),
        "an error of words": _text('{"epoch": 0, "sample": 0, "error": ["a"]}\n'),
        "an epoch that is true": _text('{"epoch": true, "sample": 0, "error": 1}\n'),
        "an epoch of 5,000 digits": _text(
            '{"epoch": ' + "9" * 5_000 + ', "sample": 0, "error": 1}\n'
        ),
        "half a character": _text('{"epoch": 0, "sample": "\\ud800", "error": 1}\n'),
        "half a character in a name": _text('{"\\ud800": 0}\n'),
        "no errors": _text('{"epoch": 0, "errors": []}\n'),
        "errors that are no list": _text('{"epoch": 0, "errors": 3}\n'),
        "errors that are true": _text('{"epoch": 0, "errors": [true, true]}\n'),
        "errors in lists": _text('{"epoch": 0, "errors": [[1], [2]]}\n'),
        "epochs of other lengths": _text(
            '{"epoch": 0, "errors": [1]}\n{"epoch": 1, "errors": []}\n'
        ),
        "no sample": _text('{"epoch": 0, "error": 1}\n'),
        "empty lines": _text("\n\n\n"),
    },
    "xyz": {
        "10**12 atoms": _text("1000000000000\nProperties=species:S:1:pos:R:3\nH 0 0 0\n"),
        "10**12 atoms in the second frame": _text(
            "1\nProperties=species:S:1:pos:R:3:a:R:3\nH 0 0 0 1 1 1\n1000000000000\n\nH 0 0 0\n"
        ),
        "more atoms than lines": _text("9\nProperties=species:S:1:pos:R:3\nH 0 0 0\n"),
        "no atoms": _text("0\nProperties=species:S:1:pos:R:3\n"),
        "a negative number of atoms": _text("-3\nProperties=species:S:1:pos:R:3\nH 0 0 0\n"),
        "a number of 5,000 digits": _text("9" * 5_000 + "\n\nH 0 0 0\n"),
        "a word for the number": _text("many\n\nH 0 0 0\n"),
        "no such element": _text("1\nProperties=species:S:1:pos:R:3\nQq 0 0 0\n"),
        "no forces": _text("1\nProperties=species:S:1:pos:R:3\nH 0 0 0\n"),
        "odd properties": _text("1\nProperties=species:S:1:pos:R:999999999999\nH 0 0 0\n"),
        "an odd cell": _text('1\nLattice="a b c" Properties=species:S:1:pos:R:3\nH 0 0 0\n'),
        "binary": _text(bytes(range(256))),
    },
}  # fmt: skip
DESCRIPTORS: dict[str, Make] = {
    "NaN": _save(np.full((N, 4), np.nan)),
    "infinity": _save(np.full((N, 4), np.inf)),
    "numbers too large": _save(np.full((N, 4), 1e300)),
    "another width": _save(np.ones((N, 5))),
    "three dimensions": _save(np.ones((N, 2, 2))),
    "one dimension": _save(np.ones(N)),
    "text": _save(np.full((N, 4), "a")),
    "complex numbers": _save(np.ones((N, 4), complex)),
    "no rows": _save(np.ones((0, 4))),
    "no columns": _save(np.ones((N, 0))),
}
NATOMS: dict[str, Make] = {
    "NaN": _save(np.full(12, np.nan)),
    "infinity": _save(np.full(12, np.inf)),
    "fractions": _save(np.full(12, 4.5)),
    "0": _save(np.r_[0, np.full(12, 5)]),
    "negative": _save(np.r_[-5, np.full(13, 5)]),
    "too few": _save(np.full(11, 5)),
    "2**62": _save(np.full(4, 2**62)),
    "2**63": _save(np.full(2, 2**63, dtype=np.uint64)),
    "1e300": _save(np.full(2, 1e300)),
    "text": _save(np.full(12, "5")),
    "two dimensions": _save(np.full((3, 4), "5")),
}
LABELS: dict[str, Make] = {
    "half a character": _save(np.full(N, "\ud800")),
    "too few": _save(np.full(N - 1, "a")),
    "two dimensions": _save(np.full((N, 2), "a")),
    "objects": _save(np.full(N, None)),
    "complex numbers": _save(np.ones(N, complex)),
}
TRUTHS: dict[str, Make] = {
    "NaN": _save(np.full(N, np.nan)),
    "infinity": _save(np.full(N, np.inf)),
    "negative": _save(np.full(N, -1.0)),
    "too few": _save(np.ones(N - 1)),
    "text": _save(np.full(N, "a")),
    "two columns": _save(np.ones((N, 2))),
}
CONFIGS: dict[str, str | bytes] = {
    "nested 5,000 deep": "fit: " + "[" * 5_000 + "]" * 5_000,
    "nested 5,000 deep in blocks": "".join(" " * i + "a:\n" for i in range(5_000)),
    "an impossible date": "fit:\n  k: 2023-13-45\n",
    "an impossible time": "fit:\n  k: 2023-01-01 99:99:99\n",
    "a date": "fit:\n  k: 2023-01-01\n",
    "a number of 5,000 digits": "fit:\n  k: " + "9" * 5_000 + "\n",
    "a hexadecimal number of 5,000 digits": "fit:\n  k: 0x" + "f" * 5_000 + "\n",
    "nan": "fit:\n  threshold: .nan\n",
    "infinity": "fit:\n  recall: .inf\n",
    "half a range": "fit:\n  range: [0.1]\n",
    "a range of nan": "fit:\n  range: [0.1, .nan]\n",
    "a laughing list": "a: &a [x, x]\n" + "".join(
        f"{name}: &{name} [" + ",".join([f"*{before}"] * 9) + "]\n"
        for before, name in itertools.pairwise("abcdefghij")
    ) + "fit: {k: *j}\n",
    "a laughing value": "fit:\n  k: " + "[" * 9 + "&a [1,2]" + "]" * 9 + "\n",
    "an alias of itself": "fit: &a\n  k: *a\n",
    "bytes": "fit:\n  k: !!binary aGVsbG8=\n",
    "a set": "fit:\n  k: !!set {a, b}\n",
    "a Python object": "fit: !!python/object/apply:os.system ['true']\n",
    "a list": "- fit\n",
    "a number": "1\n",
    "an unknown command": "train: {k: 1}\n",
    "an unknown key": "fit: {kk: 1}\n",
    "a key that is a list": "fit: {[1]: 1}\n",
    "a key that is null": "fit: {~: 1}\n",
    "a mapping for a value": "fit: {k: {a: 1}}\n",
    "null for a value": "fit: {k: ~}\n",
    "truth for a number": "fit: {k: yes}\n",
    "twice the same": "fit: {k: 3, K: 4, -k: 5}\n",
    "two documents": "fit: {k: 3}\n---\nfit: {k: 4}\n",
    "tabs": "fit:\n\tk: 3\n",
    "binary": bytes(range(256)),
    "half a character": 'fit: {metric: "\\ud800"}\n',
    "NUL": 'fit: {metric: "\\0"}\n',
}  # fmt: skip


def _file_cases() -> Iterator[Case]:
    for ending, makes in LOGS.items():
        for name, make in makes.items():
            words = ("ingest", "BAD", "-o", "out.h5")
            yield Case(f"log.{ending}: {name}", words, INPUT, make, f"bad.{ending}")
    weights = (*COMMANDS["weights"], "--per", "structure")
    parity = ("plot", "parity", "calibrated.h5", "-o", "out.png")
    uses: dict[str, tuple[dict[str, Make], tuple[str, ...]]] = {
        "score": (DESCRIPTORS, ("score", "BAD", "-m", "model.h5", "-o", "out.h5")),
        "fit": (
            {k: v for k, v in DESCRIPTORS.items() if k != "another width"},
            ("fit", "errors.h5", "BAD", "-o", "out.h5"),
        ),
        "select --descriptors": (
            {k: v for k, v in DESCRIPTORS.items() if k != "another width"},
            (*COMMANDS["select"], "--descriptors", "BAD"),
        ),
        "ingest --natoms": (NATOMS, (*COMMANDS["ingest"], "--natoms", "BAD")),
        "score --natoms": (NATOMS, (*COMMANDS["score"], "--natoms", "BAD")),
        "weights --natoms": (NATOMS, (*weights, "--natoms", "BAD")),
        "ingest --group": (LABELS, (*COMMANDS["ingest"], "--group", "BAD")),
        "ingest --sample-id": (LABELS, (*COMMANDS["ingest"], "--sample-id", "BAD")),
        "score --group": (LABELS, (*COMMANDS["score"], "--group", "BAD")),
        "calibrate --group": (LABELS, (*COMMANDS["calibrate"], "--group", "BAD")),
        "evaluate --ood-labels": (
            LABELS | {"twos": _save(np.full(N, 2)), "NaN": _save(np.full(N, np.nan))},
            (*COMMANDS["evaluate"], "--ood-labels", "BAD"),
        ),
        "ingest --magnitude": (
            {k: v for k, v in TRUTHS.items() if k != "negative"},
            (*COMMANDS["ingest"], "--magnitude", "BAD"),
        ),
        "calibrate": (TRUTHS, ("calibrate", "scores.h5", "BAD", "-o", "out.h5")),
        "evaluate": (TRUTHS, ("evaluate", "calibrated.h5", "BAD")),
        "plot --true": (TRUTHS, (*parity, "--true", "BAD")),
    }  # fmt: skip
    for use, (makes, words) in uses.items():
        for name, make in makes.items():
            yield Case(f"{use}: {name}", words, INPUT, make, "bad.npy")
    for name, text in CONFIGS.items():
        words = (*COMMANDS["fit"], "--config", "BAD")
        yield Case(f"config: {name}", words, USAGE, _text(text), "bad.yaml")


CASES: list[Case] = [*_option_cases(), *_name_cases(), *_file_cases()]
