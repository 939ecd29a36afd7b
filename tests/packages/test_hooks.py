"""What runs inside a trainer: it never ends the training, and says in one line what it lacks."""

import sys
import types

import pytest

from ltau_cli import packages
from ltau_cli.errors import ComputeError, InputError
from ltau_cli.packages import hooks, versions


class Trainer:
    """Counts its epochs."""

    def __init__(self):
        self.calls = 0

    def train(self, data, fail=False):
        self.calls += 1
        if fail:
            raise KeyError("of the trainer")
        return data * 2

    @classmethod
    def make(cls, data):
        return cls, data


@pytest.fixture
def trainer():
    return type("Fresh", (Trainer,), {"train": Trainer.train, "make": Trainer.__dict__["make"]})


def test_a_function_is_replaced(trainer):
    seen = []

    @hooks.around(trainer, "train", "data")
    def train(original, self, data, **more):
        seen.append(data)
        return original(self, data, **more)

    assert trainer().train(3) == 6
    assert seen == [3]


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_error_ends_the_recording_and_not_the_training(when, trainer, capsys):
    @hooks.around(trainer, "train")
    def train(original, self, data):
        if when == "before":
            raise RuntimeError("broken")
        result = original(self, data)
        raise RuntimeError("broken")
        return result

    one = trainer()
    assert [one.train(3), one.train(4)] == [6, 8]
    assert one.calls == 2
    said = "recording stops, the training goes on: RuntimeError('broken') in test_hooks.py"
    assert capsys.readouterr().err.count(said) == 1


def test_errors_of_the_trainer_are_its_own(trainer, capsys):
    @hooks.around(trainer, "train")
    def train(original, self, data, **more):
        return original(self, data, **more)

    with pytest.raises(KeyError, match="of the trainer"):
        trainer().train(1, fail=True)
    assert not hooks.stopped
    assert capsys.readouterr().err == ""


def test_class_methods_stay_such(trainer):
    @hooks.around(trainer, "make", "data")
    def make(original, cls, data):
        return (*original(cls, data), "seen")

    assert trainer.make(1) == (trainer, 1, "seen")


def test_what_a_trainer_calls_is_guarded(capsys):
    calls = []

    @hooks.guard
    def note(value):
        calls.append(value)
        raise ValueError(value)

    assert note(1) is None
    assert note(2) is None
    assert calls == [1]
    assert "recording stops, the training goes on: ValueError(1)" in capsys.readouterr().err


def test_a_parameter_that_is_not_there_is_refused_before_the_training(trainer, monkeypatch, capsys):
    module = types.ModuleType("mace.train")

    def hook(_module):
        hooks.around(trainer, "train", "batch")

    mace = types.SimpleNamespace(
        TITLE="MACE", DISTRIBUTION="mace-torch", RECORDED=("0.3.6", "0.3.16"), hook=hook
    )
    monkeypatch.setattr(packages, "load", lambda package, part="": mace)
    monkeypatch.setattr("importlib.metadata.version", lambda _: "0.9.0")
    loader = types.SimpleNamespace(exec_module=lambda module: None)
    hooks._call_after(loader, "mace", "hook")
    with pytest.raises(SystemExit) as stop:
        loader.exec_module(module)
    assert stop.value.code == ComputeError("").exit_code
    told = capsys.readouterr().err
    assert "MACE 0.9.0 cannot be used by ltau record: mace.train: train takes no batch" in told
    assert "tested: 0.3.6 to 0.3.16" in told


@pytest.mark.parametrize(("version", "tested"), [
    ("0.3.6", True), ("0.3.9", True), ("0.3.16", True), ("0.3.16+cpu", True),
    ("0.3.5", False), ("0.3.17", False), ("0.4.0rc1", False),
])  # fmt: skip
def test_versions_between_those_that_were_tested_are(version, tested, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda _: version)
    assert (versions.untested("mace", "record") is None) == tested


def test_record_and_describe_are_judged_apart(monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda _: "0.7.1")
    assert versions.untested("nequip", "record") is None
    assert versions.untested("nequip", "describe") == "0.12.1 to 0.19.1 were"
    refused = versions.refuse("nequip", "describe", "", ImportError("no NequIPCalculator"))
    assert isinstance(refused, InputError)
    assert str(refused) == "NequIP 0.7.1 cannot be used by ltau describe: no NequIPCalculator"


@pytest.mark.parametrize(("hooked", "said"), [
    (["mace", "lightning"], "MACE ran, but no training began"),
    ([], "no training began of a trainer that it knows (CHGNet, MACE"),
])  # fmt: skip
def test_a_command_that_trains_nothing(hooked, said, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(hooks, "folder", str(tmp_path))
    (tmp_path / "my_run-3.log").write_text("of MACE, whose folder has this name too")
    for name in packages.names("record"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in hooked:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(versions, "found", lambda package: None)
    hooks._complain_if_nothing_came(0)
    assert said in capsys.readouterr().err
