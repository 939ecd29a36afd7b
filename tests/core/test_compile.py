"""Where compiled code is kept, and what happens when it is damaged or not ours."""

import os
import subprocess
import sys
import tempfile

import pytest

from ltau_cli.core import compile as compiling
from ltau_cli.core.threads import available_threads


@pytest.fixture
def read_only_install(monkeypatch, tmp_path):
    """No write access beside the package, no home, and an own folder for temporary files."""
    real = os.access
    package = os.path.dirname(compiling.__file__)
    monkeypatch.setattr(os, "access", lambda p, mode: str(p) != package and real(p, mode))
    for name in ("NUMBA_CACHE_DIR", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # no passwd entry
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_DIR", "x")  # so that it is restored
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    return tmp_path


def taken():
    compiling.prepare_cache()
    return os.environ["NUMBA_CACHE_DIR"]


def test_without_a_home_a_private_folder_is_made(read_only_install):
    folder = read_only_install / f"ltau-numba-{os.getuid()}"
    assert taken() == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("trap", ["open to all", "link", "another user's", "file"])
def test_a_folder_that_others_could_fill_is_not_used(read_only_install, monkeypatch, trap):
    folder = read_only_install / f"ltau-numba-{os.getuid()}"
    if trap == "link":
        (read_only_install / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to("elsewhere")
    elif trap == "file":
        folder.write_text("")
    else:
        folder.mkdir(mode=0o700)
        if trap == "open to all":
            folder.chmod(0o777)
        else:
            folder.rename(folder.with_name("ltau-numba-4242"))
            monkeypatch.setattr(os, "getuid", lambda: 4242)
    own = taken()
    assert own.startswith(str(read_only_install / "ltau-numba-"))
    assert own not in (str(folder), str(folder.with_name("ltau-numba-4242")))
    assert os.stat(own).st_mode & 0o777 == 0o700


KERNEL = """
import sys
import numba
from ltau_cli.core.compile import forgive_cache
forgive_cache()
@numba.njit(cache=True)
def add(x):
    return x + 1
print(add(1), sum(add.stats.cache_hits.values()), "numba.np.npyimpl" in sys.modules)
"""


@pytest.mark.slow
def test_a_damaged_cache_is_compiled_again(tmp_path):
    script = tmp_path / "kernel.py"
    script.write_text(KERNEL)

    def call():
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        return subprocess.run(
            [sys.executable, script], env=environment, capture_output=True, text=True, check=True
        ).stdout.split()

    assert call() == ["2", "0", "True"]
    assert call() == ["2", "1", "False"]  # without setting up the compiler
    for ending in ("nbi", "nbc"):
        (file,) = (tmp_path / "cache").rglob(f"*.{ending}")
        file.write_bytes(file.read_bytes()[:-9])
        assert call() == ["2", "0", "True"]
        assert call() == ["2", "1", "False"]


@pytest.mark.parametrize("value", ["9999999", "0", "-3", "²", "x", ""])
def test_threads_are_no_more_than_the_cpus(monkeypatch, value):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", value)
    assert available_threads() == len(os.sched_getaffinity(0))
