"""What should not be done to a command, and a short form of ``make faults``."""

import os
import subprocess
import sys
from collections import Counter

import click
import numpy as np
import pytest

from ltau_cli.cli.main import ltau as group
from tests.helpers import INPUT, OUTPUT, USAGE, save
from tests.helpers import check as check_error
from tests.system import machine
from tests.system.faults import campaign
from tests.system.ground import COMMANDS, Ground
from tests.system.misuses import (
    check,
    files,
    inputs_as_targets,
    misuses,
    names,
    number_options,
    odd_targets,
    options,
)  # fmt: skip
from tests.system.privileges import bound_by_modes

SECONDS = 30  # it ends in far less
SHORT, PARTS = 4, 10  # of so many bad inputs, one is run here, in so many tests
CASES = list(misuses(np.random.default_rng(0)))
INPUTS = [*options(), *names(), *files()]


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    machine.warm_up()
    return Ground(tmp_path_factory.mktemp("ground") / "good")


def test_every_case_has_a_name_of_its_own():
    assert len({case.name for case in CASES}) == len(CASES)


def test_every_command_is_among_the_cases():
    # Two read nothing, and one calls the others: its result is a folder, see test_bars.
    assert set(group.commands) - {"compile", "record", "bars"} <= set(COMMANDS)


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


@pytest.mark.slow  # it makes the good files
def test_numbers_of_the_configuration_and_the_environment(ground, tmp_path, ltau, monkeypatch):
    monkeypatch.chdir(ground.folder)
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
@pytest.mark.parametrize("part", range(PARTS))
def test_bad_inputs(part, ground, tmp_path):
    wrong, counts = [], Counter()
    for number, case in enumerate(INPUTS[part * SHORT :: PARTS * SHORT]):
        wrong += check(case, ground, tmp_path / str(number), counts)
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.targets])
def test_only_an_old_result_is_replaced_and_only_by_force(name, ground, tmp_path):
    wrong, counts, command = [], Counter(), COMMANDS[name]
    there, *cases = [*odd_targets(name, command), *inputs_as_targets(name, command)]
    start = list(COMMANDS).index(name) % SHORT
    for number, case in enumerate([there, *cases[start::SHORT]]):
        wrong += check(case, ground, tmp_path / str(number), counts)
    assert wrong == []
    ground.link(tmp_path / "old")
    for target in command.targets.values():
        (tmp_path / "old" / target).write_text("an older result")
    assert ground.run(command.line("--force"), tmp_path / "old").code == 0
    for target, content in ground.whole(name)[0].items():
        assert (tmp_path / "old" / target).read_bytes() == content


def test_unwritable_folder(tmp_path, ltau):
    log, path = save(tmp_path / "log.npy", np.ones((2, 3))), tmp_path / "o.h5"
    tmp_path.chmod(0o555)
    with bound_by_modes():
        check_error(
            ltau("ingest", log, "-o", path), OUTPUT, f"cannot write {path}: Permission denied"
        )
    tmp_path.chmod(0o755)


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


@pytest.mark.slow
def test_a_short_campaign(tmp_path):
    assert list(campaign(tmp_path, kills=12, inputs=120, seed=2026)) == []
