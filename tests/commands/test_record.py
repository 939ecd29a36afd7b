"""``ltau record``: the command becomes the trainer, and what is wrong is told.

The trainers themselves are run in tests/packages/installed.
"""

import os
import signal
import subprocess
import sys

import pytest

from ltau_cli import packages
from tests.helpers import USAGE, check, finish, names, start


def record(tmp_path, *command, before="", **options):
    return start("record", "-o", tmp_path / "logs", "--", *command, before=before, **options)


def python(tmp_path, code, **options):
    return finish(record(tmp_path, sys.executable, "-c", code, **options))


def test_streams_and_exit_code_are_the_trainers(tmp_path):
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(9)"
    result = python(tmp_path, code)
    assert result.code == 9
    assert result.out == "out\n"
    lines = result.err.splitlines()
    assert lines[0] == "err"
    assert lines[1].startswith("ltau record: nothing was recorded: no training began")
    assert len(lines) == 2
    assert not (tmp_path / "logs").exists()


def test_quiet(tmp_path):
    result = finish(start("record", "-q", sys.executable, "-c", "print(1)", cwd=tmp_path))
    assert (result.code, result.out, result.err) == (0, "1\n", "")


def test_it_becomes_the_trainer(tmp_path):
    """So that a signal, a limit or a debugger meets the trainer itself."""
    process = record(tmp_path, sys.executable, "-c", "import os; print(os.getpid())")
    assert finish(process).out == f"{process.pid}\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_reach_the_trainer(number, tmp_path):
    code = (
        "import signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(5))\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    process = record(tmp_path, sys.executable, "-c", code)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert finish(process).code == 5


def test_signals_are_at_their_defaults(tmp_path):
    """A trainer that is a shell script dies of a closed pipe, as ever."""
    read = "grep -E 'SigIgn' /proc/self/status"
    with_record = finish(record(tmp_path, "sh", "-c", read)).out
    assert with_record == subprocess.run(["sh", "-c", read], capture_output=True, text=True).stdout


def test_python_below_a_shell_script_is_reached(tmp_path):
    code = (
        "import sys; print(any(type(f).__module__.startswith('ltau_cli') for f in sys.meta_path))"
    )
    result = finish(record(tmp_path, "sh", "-c", f'"{sys.executable}" -c "{code}"'))
    assert result.out == "True\n"


def test_another_sitecustomize_still_runs(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("print('theirs')\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    result = python(tmp_path, "import sys; print(sys.path.count(''))", env=environment)
    assert result.out.splitlines()[-2:] == ["theirs", "1"]


def test_nothing_is_added_to_the_path_of_the_trainer(tmp_path):
    code = "import sys; print(sys.path)"
    bare = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert python(tmp_path, code).out == bare.stdout


def test_no_command(tmp_path):
    check(finish(start("record", "-o", tmp_path / "logs")), USAGE, "Missing argument")
    check(finish(record(tmp_path, "no_such_trainer")), USAGE, "no program 'no_such_trainer'")
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o755)
    check(finish(record(tmp_path, tmp_path / "text")), USAGE, "cannot run", hint=False)


def test_the_output_is_a_file(tmp_path):
    (tmp_path / "logs").write_text("")
    check(finish(record(tmp_path, "true")), 5, "logs is a file")


@pytest.fixture
def other_mace(tmp_path):
    """An environment whose MACE has another training loop."""
    site = tmp_path / "site"
    (site / "mace" / "tools").mkdir(parents=True)
    (site / "mace" / "__init__.py").write_text("")
    (site / "mace" / "tools" / "__init__.py").write_text("from .train import train_one_epoch\n")
    (site / "mace" / "tools" / "train.py").write_text("def train_one_epoch(batch): ...\n")
    (site / "mace_torch-99.0.dist-info").mkdir()
    (site / "mace_torch-99.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: mace-torch\nVersion: 99.0\n"
    )
    return os.environ | {"PYTHONPATH": str(site)}


def test_a_version_that_lacks_what_is_hooked_is_refused(tmp_path, other_mace):
    """Before the training: a log that is missing after a night is worse."""
    result = python(tmp_path, "import mace.tools; print('trained')", env=other_mace)
    check(result, 6, "MACE 99.0 cannot be used by ltau record", "takes no data_loader, loss_fn")
    assert not (tmp_path / "logs").exists()


def test_untouched_where_no_trainer_is_imported(tmp_path, other_mace):
    assert python(tmp_path, "import mace; print('fine')", env=other_mace).out == "fine\n"


def test_every_hook_is_there():
    hooks = {name: packages.load(name).HOOKS for name in packages.names("record")}
    assert hooks.keys() > {"mace", "nequip", "sevenn", "chgnet", "matgl", "metatrain"}
    for name, own in hooks.items():
        for module, function in own.items():
            assert module.startswith(f"{name}.")
            assert callable(getattr(packages.load(name, "record"), function))


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "notes.txt").write_text("mine")
    python(tmp_path, "")
    assert names(tmp_path / "logs") == ["notes.txt"]
