"""Fixtures: a disk that is full."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import Result, finish, start

DISK = 200_000  # bytes

FAILING_WRITES = f"""
import errno, io, os
pwrite, left = os.pwrite, {DISK}
def take(data):
    global left
    left -= len(data)
    if left < 0:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
def write_while_there_is_space(descriptor, data, position):
    take(data)
    return pwrite(descriptor, data, position)
class FileIO(io.FileIO):
    def write(self, data):
        take(data)
        return super().write(data)
os.pwrite, io.FileIO = write_while_there_is_space, FileIO
"""


@dataclass
class FullDisk:
    """A folder with little space: real, or made by writes that fail."""

    folder: Path
    before: str

    def run(self, *words: object, before: str = "", **options: Any) -> Result:
        """Run ``ltau WORDS`` in a new process."""
        return finish(start(*words, before=self.before + before, **options))


@pytest.fixture(params=["mounted", "failing writes"])
def full_disk(request, tmp_path):
    """Where a mount is not allowed, one skip says so, and the failing writes remain."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "failing writes":
        yield FullDisk(folder, FAILING_WRITES)
        return
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no right to mount a small disk: {done.stderr.strip()}")
    yield FullDisk(folder, "")
    subprocess.run(["umount", str(folder)], check=True)
