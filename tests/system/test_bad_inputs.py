"""Bad inputs, through the command line in this process: one line, the wanted exit code, no file."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import click
import numpy as np
import pytest

from ltau_cli.cli.main import ltau as group
from tests.helpers import INPUT, USAGE
from tests.system.bad_inputs import CASES, COMMANDS, judge, number_options
from tests.system.privileges import bound_by_modes

SECONDS = 30  # any case ends in far less
SHORT = 4  # of so many cases, one is run here; make faults runs all


def test_every_case_has_a_name_of_its_own():
    assert len({case.name for case in CASES}) == len(CASES)


def test_every_command_is_among_the_cases():
    assert set(group.commands) - {"compile", "record"} == set(COMMANDS)  # which read nothing


def test_every_option_that_takes_fractions_is_found():
    """By hand, what the introspection must find at least."""
    found = {(name, max(option.opts, key=len)) for name, option in number_options()}
    assert {
        ("fit", "--range"), ("fit", "--threshold"), ("fit", "--merge-within"), ("fit", "--recall"),
        ("score", "--quantile"), ("calibrate", "--level"), ("ingest", "--missing"),
        ("select", "--by"), ("weights", "--floor"), ("weights", "--keep"),
    } <= found  # fmt: skip


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999"])
def test_no_option_takes_what_is_no_number(text):
    for _, option in number_options():
        kinds = getattr(option.type, "types", [option.type])
        for kind in kinds:
            with pytest.raises(click.UsageError):
                kind.convert(text, option, None)


@pytest.mark.slow  # it makes the good files, with an NN-descent index among them
def test_numbers_of_the_configuration_and_the_environment(good_files, tmp_path, ltau, monkeypatch):
    monkeypatch.chdir(good_files)
    config = tmp_path / "ltau.yaml"
    config.write_text("weights: {floor: .nan}\n")
    for words in (["--config", config], []):
        if not words:
            monkeypatch.setenv("LTAU_WEIGHTS_FLOOR", "nan")
        result = ltau("weights", "model.h5", "-o", tmp_path / "w.npy", *words)
        assert result.code == USAGE
        assert "nan" in result.err
        assert not (tmp_path / "w.npy").exists()


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_bad_inputs(part, good_files, tmp_path, ltau, monkeypatch):
    def too_slow(number, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, too_slow)
    wrong = []
    for number, case in enumerate(CASES[part * SHORT :: 20 * SHORT]):
        folder = tmp_path / str(number)
        folder.mkdir()
        words = case.prepare(good_files, folder)
        monkeypatch.chdir(folder)
        signal.alarm(SECONDS)
        try:
            with bound_by_modes():
                result = ltau(*words)
        except BaseException as error:
            wrong.append(f"{case.name}: {error!r}")
            continue
        finally:
            signal.alarm(0)
        problem = judge(case, result.code, result.out, result.err)
        left = [path.name for path in folder.glob("out.*")]
        if problem or left:
            wrong.append(f"{case.name}: {problem or left}")
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(folder)
    signal.signal(signal.SIGALRM, before)
    assert wrong == []


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    """In a process of its own, which also has to end."""
    np.save(tmp_path / "log.npy", np.ones((2, 3), np.float32))
    os.mkfifo(tmp_path / "pipe.xyz")
    words = ["ingest", "log.npy", "--frames", "pipe.xyz", "-o", "out.h5"]
    done = subprocess.run(
        [sys.executable, "-m", "ltau_cli", *words], cwd=tmp_path, timeout=SECONDS,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == INPUT
    assert "error: pipe.xyz is a pipe" in done.stderr
