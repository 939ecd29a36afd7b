"""Bad files of other tools, each as a function that makes it at a path."""

import gzip
import io
import itertools
import os
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

N = 60  # rows of the good files
Make = Callable[[Path], object]


def save(values: object) -> Make:
    return lambda path: np.save(path, values)  # type: ignore[arg-type]


def text_of(text: str | bytes) -> Make:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return lambda path: path.write_bytes(data)


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


def hdf5(edit: Callable[[h5py.File], Any]) -> Make:
    def make(path: Path) -> None:
        with h5py.File(path, "w") as file:
            edit(file)

    return make


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bind_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as place:
        folder = os.open(path.parent, os.O_RDONLY)  # a socket's name may have 107 bytes
        try:
            place.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)


def locked(path: Path) -> None:
    path.write_bytes(b"")
    path.chmod(0)


NAMES: dict[str, tuple[Make, str]] = {  # what stands where a file is wanted, and its name
    "nothing": (lambda path: None, "bad{}"),
    "a folder": (Path.mkdir, "bad{}"),
    "a pipe": (pipe, "bad{}"),
    "a socket": (bind_socket, "bad{}"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "bad{}"),
    "a dangling link": (lambda path: path.symlink_to("nowhere"), "bad{}"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "bad{}"),
    "a long name": (lambda path: None, "b" * 300 + "{}"),
    "a file as folder": (lambda path: None, "x.npy/bad{}"),
    "an empty file": (Path.touch, "bad{}"),
    "a locked file": (locked, "bad{}"),
    "a locked folder": (lambda path: path.parent.mkdir(mode=0), "locked/bad{}"),
}
NOT_THERE = {"nothing", "a dangling link", "a link to itself", "a long name", "a file as folder",
             "a locked file", "a locked folder"}  # fmt: skip
LOGS: dict[str, dict[str, Make]] = {
    "npy": {
        "a shape of 0 and 2**62": text_of(_header("(0, 4611686018427387904)")),
        "a shape of 2**62 and 0": text_of(_header("(4611686018427387904, 0)")),
        "a shape of truth values": text_of(_header("(True, True)")),
        "a negative shape": text_of(_header("(-1, 4)")),
        "two negative lengths": text_of(_header("(-2, -2)")),
        "a shape of fractions": text_of(_header("(2.0, 2)")),
        "a shape that is no tuple": text_of(_header("7")),
        "a shape of 70 ones": text_of(_header("(" + "1, " * 70 + ")")),
        "a shape of 2**40 by 2**40": text_of(_header("(1099511627776, 1099511627776)")),
        "a header of brackets": text_of(npy("(" * 9_000)),
        "a header of 60,000 bytes": text_of(npy(" " * 60_000)),
        "a header of 2 GB": text_of(b"\x93NUMPY\x02\0" + b"\xff\xff\xff\x7f"),
        "values of no bytes": text_of(_header("(4611686018427387904,)", "'|S0'")),
        "values of many bytes": text_of(_header("(1,)", "'|S2147483647'")),
        "subarrays": text_of(_header("(1,)", "('<f4', (1099511627776,))")),
        "fields": text_of(_header("(2, 2)", "[('a', '<f4')]")),
        "complex numbers": save(np.ones((3, 3), complex)),
        "times": save(np.ones((3, 3), "M8[s]")),
        "objects": save(np.array([[None, 1]], dtype=object)),
        "text": save(np.array([["a", "b"]])),
        "one number": save(np.float32(1)),
        "negative errors": save(-np.ones((3, 3))),
        "nothing but NaN": save(np.full((3, 3), np.nan)),
        "four components": save(np.ones((3, 3, 4))),
        "version 9": text_of(npy("{}", version=9)),
        "only its magic": text_of(b"\x93NUMPY"),
        "a future dtype": text_of(_header("(2, 2)", "'<f128000'")),
    },
    "npz": {
        "no zip": text_of(b"PK\x03\x04 and more"),
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
        "no HDF5": text_of("errors"),
        "only its magic": text_of(b"\x89HDF\r\n\x1a\n" + b"\0" * 100),
        "no arrays": hdf5(lambda file: file.create_group("a")),
        "2**61 samples": hdf5(lambda f: f.create_dataset("errors", (2, 2**61), "u1")),
        "2**61 samples in chunks": hdf5(
            lambda f: f.create_dataset("errors", (2, 2**61), "f4", chunks=(1, 1024))
        ),
        "2**61 packed samples": hdf5(
            lambda f: f.create_dataset(
                "errors", (2, 2**61), "u1", chunks=(1, 1024), compression="gzip"
            )
        ),
        "objects": hdf5(lambda f: f.create_dataset("errors", (2,), h5py.special_dtype(vlen=int))),
        "one number": hdf5(lambda f: f.create_dataset("errors", data=1.0)),
        "null": hdf5(lambda f: f.create_dataset("errors", data=h5py.Empty("f4"))),
        "a link out": hdf5(lambda f: f.update({"errors": h5py.ExternalLink("/etc/passwd", "x")})),
        "a soft link in a ring": hdf5(
            lambda f: f.update({"errors": h5py.SoftLink("/b"), "b": h5py.SoftLink("/errors")})
        ),
        "values elsewhere": hdf5(
            lambda f: f.create_dataset("errors", (2, 4), "f4", external=[("/etc/passwd", 0, 32)])
        ),
        "compound values": hdf5(
            lambda f: f.create_dataset("errors", data=np.zeros((2, 2), "i4,f4"))
        ),
    },
    "csv": {
        "binary": text_of(bytes(range(256))),
        "NUL bytes": text_of("epoch,sample,error\n0,0,\0\n"),
        "a header alone": text_of("epoch,sample,error\n"),
        "a word for an error": text_of("epoch,sample,error\n0,0,high\n"),
        "a word for an epoch": text_of("epoch,sample,error\nlast,0,1\n"),
        "a fraction for an epoch": text_of("epoch,sample,error\n0.5,0,1\n"),
        "an endless epoch": text_of("epoch,sample,error\ninf,0,1\n"),
        "an epoch of 2**31": text_of("epoch,sample,error\n2147483648,0,1\n"),
        "an epoch of 5,000 digits": text_of("epoch,sample,error\n" + "9" * 5_000 + ",0,1\n"),
        "a row that is too long": text_of("epoch,sample,error\n0,0,1,2\n"),
        "a row that is too short": text_of("epoch,sample,error\n0,0\n"),
        "no id": text_of("epoch,sample,error\n0,,1\n"),
        "a field of 200,000 bytes": text_of('epoch,sample,error\n0,0,"' + "1" * 200_000 + '"\n'),
        "an open quote": text_of('epoch,sample,error\n0,0,"1\n' * 3),
        "no known column": text_of("a,b,c\n0,0,one\n"),
        "negative errors": text_of("epoch,sample,error\n0,0,-1\n"),
        "another width": text_of("0.1,0.2,0.3,0.4,0.5\n0.1,0.2\n"),
        "words in a wide table": text_of("a,b,c,d,e,f\nx,x,x,x,x,x\n"),
        "UTF-16": text_of("epoch,sample,error\n0,0,1\n".encode("utf-16")),
    },
    "csv.gz": {
        "no gzip": text_of("epoch,sample,error\n0,0,1\n"),
        "cut short": text_of(gzip.compress(b"epoch,sample,error\n0,0,1\n" * 99)[:-9]),
        "binary": text_of(gzip.compress(bytes(range(256)))),
    },
    "jsonl": {
        "no JSON": text_of("{"),
        "a list": text_of("[1]\n"),
        "a number": text_of("1\n"),
        "null": text_of("null\n"),
        "nested 100,000 deep": text_of('{"epoch": ' + "[" * 100_000 + "\n"),
        "an empty error": text_of('{"epoch": 0, "sample": 0, "error": []}\n'),
        "an empty error later": text_of(
            '{"epoch": 0, "sample": 0, "error": [1, 2, 2]}\n'
            '{"epoch": 0, "sample": 1, "error": []}\n'
        ),
        "an error that is true": text_of('{"epoch": 0, "sample": 0, "error": true}\n'),
        "an error that is an object": text_of('{"epoch": 0, "sample": 0, "error": {}}\n'),
        "an error in lists": text_of('{"epoch": 0, "sample": 0, "error": [[1]]}\n'),
        "an error of words": text_of('{"epoch": 0, "sample": 0, "error": ["a"]}\n'),
        "an epoch that is true": text_of('{"epoch": true, "sample": 0, "error": 1}\n'),
        "an epoch of 5,000 digits": text_of(
            '{"epoch": ' + "9" * 5_000 + ', "sample": 0, "error": 1}\n'
        ),
        "half a character": text_of('{"epoch": 0, "sample": "\\ud800", "error": 1}\n'),
        "half a character in a name": text_of('{"\\ud800": 0}\n'),
        "no errors": text_of('{"epoch": 0, "errors": []}\n'),
        "errors that are no list": text_of('{"epoch": 0, "errors": 3}\n'),
        "errors that are true": text_of('{"epoch": 0, "errors": [true, true]}\n'),
        "errors in lists": text_of('{"epoch": 0, "errors": [[1], [2]]}\n'),
        "epochs of other lengths": text_of(
            '{"epoch": 0, "errors": [1]}\n{"epoch": 1, "errors": []}\n'
        ),
        "no sample": text_of('{"epoch": 0, "error": 1}\n'),
        "empty lines": text_of("\n\n\n"),
    },
    "xyz": {
        "10**12 atoms": text_of("1000000000000\nProperties=species:S:1:pos:R:3\nH 0 0 0\n"),
        "10**12 atoms in the second frame": text_of(
            "1\nProperties=species:S:1:pos:R:3:a:R:3\nH 0 0 0 1 1 1\n1000000000000\n\nH 0 0 0\n"
        ),
        "more atoms than lines": text_of("9\nProperties=species:S:1:pos:R:3\nH 0 0 0\n"),
        "no atoms": text_of("0\nProperties=species:S:1:pos:R:3\n"),
        "a negative number of atoms": text_of("-3\nProperties=species:S:1:pos:R:3\nH 0 0 0\n"),
        "a number of 5,000 digits": text_of("9" * 5_000 + "\n\nH 0 0 0\n"),
        "a word for the number": text_of("many\n\nH 0 0 0\n"),
        "no such element": text_of("1\nProperties=species:S:1:pos:R:3\nQq 0 0 0\n"),
        "no forces": text_of("1\nProperties=species:S:1:pos:R:3\nH 0 0 0\n"),
        "odd properties": text_of("1\nProperties=species:S:1:pos:R:999999999999\nH 0 0 0\n"),
        "an odd cell": text_of('1\nLattice="a b c" Properties=species:S:1:pos:R:3\nH 0 0 0\n'),
        "binary": text_of(bytes(range(256))),
    },
}  # fmt: skip
DESCRIPTORS: dict[str, Make] = {
    "NaN": save(np.full((N, 4), np.nan)),
    "infinity": save(np.full((N, 4), np.inf)),
    "numbers too large": save(np.full((N, 4), 1e300)),
    "another width": save(np.ones((N, 5))),
    "three dimensions": save(np.ones((N, 2, 2))),
    "one dimension": save(np.ones(N)),
    "text": save(np.full((N, 4), "a")),
    "complex numbers": save(np.ones((N, 4), complex)),
    "no rows": save(np.ones((0, 4))),
    "no columns": save(np.ones((N, 0))),
}
NATOMS: dict[str, Make] = {
    "NaN": save(np.full(12, np.nan)),
    "infinity": save(np.full(12, np.inf)),
    "fractions": save(np.full(12, 4.5)),
    "0": save(np.r_[0, np.full(12, 5)]),
    "negative": save(np.r_[-5, np.full(13, 5)]),
    "too few": save(np.full(11, 5)),
    "2**62": save(np.full(4, 2**62)),
    "2**63": save(np.full(2, 2**63, dtype=np.uint64)),
    "1e300": save(np.full(2, 1e300)),
    "text": save(np.full(12, "5")),
    "two dimensions": save(np.full((3, 4), "5")),
}
LABELS: dict[str, Make] = {
    "half a character": save(np.full(N, "\ud800")),
    "too few": save(np.full(N - 1, "a")),
    "two dimensions": save(np.full((N, 2), "a")),
    "objects": save(np.full(N, None)),
    "complex numbers": save(np.ones(N, complex)),
}
TRUTHS: dict[str, Make] = {
    "NaN": save(np.full(N, np.nan)),
    "infinity": save(np.full(N, np.inf)),
    "negative": save(np.full(N, -1.0)),
    "too few": save(np.ones(N - 1)),
    "text": save(np.full(N, "a")),
    "two columns": save(np.ones((N, 2))),
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
