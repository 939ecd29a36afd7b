"""Help texts, start-up time and streams."""

import os
import subprocess
import sys

import click
import h5py
import pytest

from ltau_cli import __version__
from ltau_cli.cli.main import ltau as group
from tests.helpers import finish, start

HEAVY = ("pynndescent", "numba", "sklearn", "matplotlib", "scipy", "h5py")


def test_help_is_fast_and_imports_nothing_heavy():
    code = (
        "import sys, ltau_cli.cli.main as m; m.run(['--help']);"
        f"print(sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"
    times = []
    for _ in range(5):
        began = os.times()
        assert finish(start("--help")).code == 0
        ended = os.times()  # of the processor, so that a busy machine can measure it too
        times.append(sum(ended[2:4]) - sum(began[2:4]))
    assert min(times) < 0.3


@pytest.mark.parametrize("name", sorted(group.commands))
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_has_help_with_an_example(name, flag, ltau):
    assert f"ltau {name}" in ltau.ok(name, flag).out.split("Example")[1]
    for parameter in group.commands[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_helps_are_short_and_in_the_order_of_the_pipeline(ltau):
    main = ltau("-h").out
    assert list(group.commands)[:5] == ["record", "describe", "ingest", "fit", "score"]
    places = [main.index(f"\n  {name} ") for name in group.commands]
    assert places == sorted(places)
    assert "..." not in main.partition("Commands:")[2]
    helps = [main, *(ltau(name, "-h").out for name in group.commands)]
    assert not any(mark in text for text in helps for mark in ("x<", "x>", "RANGE"))
    listed = [line for text in helps for line in text.splitlines() if line.startswith("  -")]
    assert len(listed) <= 150


def test_version(ltau):
    assert ltau("--version").out == f"ltau, version {__version__}\n"


def test_quiet_prints_nothing_and_json_only_json(pipeline, tmp_path, ltau):
    words = ("score", pipeline.descriptors, "-m", pipeline.model, "-o", tmp_path / "s.h5", "-f")
    quiet = ltau(*words, "-q")
    assert (quiet.out, quiet.err) == ("", "")
    as_json = ltau(*words, "--json")
    assert as_json.out.startswith("{")
    assert as_json.err == ""
    verbose = ltau(*words, "-v")
    assert "scoring: " in verbose.err
    assert "riskiest" in verbose.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_there(shell):
    environment = os.environ | {"_LTAU_COMPLETE": f"{shell}_source"}
    done = subprocess.run(
        [sys.executable, "-c", "from ltau_cli.cli.main import main; main()"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "ltau" in done.stdout
    assert done.returncode == 0, done.stderr


def test_a_terminal_that_knows_only_ascii(pipeline, tmp_path):
    environment = os.environ | {
        "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii",
    }  # fmt: skip
    words = ("ingest", pipeline.logs, "-o", tmp_path / "e.h5", "--units", "eV/Å")
    result = finish(start(*words, env=environment))
    assert result.code == 0, result.err
    assert "0.0306 eV/" in result.out
    with h5py.File(tmp_path / "e.h5") as file:
        assert file.attrs["units"] == "eV/Å"
