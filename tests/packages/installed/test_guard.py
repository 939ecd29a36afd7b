"""An error in any function of the recording leaves the training as it is, to the last bit.

A training for each: ``LTAU_TEST_GUARD=1 make test-models MODELS=mace``.
"""

import ast
import shutil
from pathlib import Path

import pytest

import ltau_cli
from ltau_cli import packages
from ltau_cli.errors import ComputeError
from tests.packages.installed.conftest import PACKAGE, TRAINER

pytestmark = [getattr(pytest.mark, PACKAGE), pytest.mark.filterwarnings("ignore")]
ROOT = Path(ltau_cli.__file__).parent
FILES = [f"packages/{PACKAGE}/record.py"]
FILES += ["packages/lightning/record.py"] * (PACKAGE in ("nequip", "matgl"))
FILES += ["packages/frame_log.py", "packages/weights.py"] * (PACKAGE == "mace")
# What stands in the place of something of the trainer's, and calls nothing that is not guarded.
STANDS_IN = {"loss", "__iter__", "__len__", "__getattr__"}


def functions():
    for file in FILES:
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            if isinstance(node, ast.FunctionDef) and node.name not in STANDS_IN:
                first = node.body[ast.get_docstring(node) is not None]
                yield pytest.param(file, node.name, first, id=f"{file}:{node.name}")


@pytest.fixture(scope="module")
def unrecorded(tmp_path_factory):
    place = tmp_path_factory.mktemp("without")
    TRAINER.train(place, record=False)
    return TRAINER.curve(place)


@pytest.mark.parametrize(("file", "name", "first"), [*functions()])
def test_an_error_ends_the_recording_alone(
    file, name, first, train, unrecorded, tmp_path, monkeypatch
):
    shutil.copytree(ROOT, tmp_path / "broken" / "ltau_cli", ignore=shutil.ignore_patterns("*.pyc"))
    path = tmp_path / "broken" / "ltau_cli" / file
    lines = path.read_text().splitlines()
    lines.insert(first.lineno - 1, " " * first.col_offset + "raise RuntimeError('injected')")
    path.write_text("\n".join(lines))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    done = train(told=True, check=False, keep=2)
    if name in packages.load(file.split("/")[1]).HOOKS.values():
        assert done.returncode == ComputeError("").exit_code
        assert "cannot be used by ltau record" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert TRAINER.curve(tmp_path / "run") == unrecorded
    assert done.stderr.count("recording stops, the training goes on") <= 1
    told = sum(done.stderr.count(words) for words in ("cannot be compared", "are not kept"))
    assert done.stderr.count("injected") <= 1 + told
