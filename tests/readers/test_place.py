"""What stands where a file is wanted."""

import os
import zipfile

import numpy as np
import pytest

from ltau_cli.errors import InputError
from ltau_cli.readers.logs.open import open_log
from ltau_cli.readers.place import Place, check_file
from ltau_cli.settings import LogOptions


def test_a_place_is_a_file_with_or_without_a_key(tmp_path):
    path = tmp_path / "a:b.npz"
    path.touch()
    assert Place.parse(path) == Place(path)
    assert Place.parse(f"{path}:xy") == Place(path, "xy")
    assert Place.parse(f"{path}:{'k' * 300}") == Place(path, "k" * 300)
    with pytest.raises(InputError, match="no such file"):
        Place.parse(tmp_path / ("n" * 300))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "log.npy")
    with pytest.raises(InputError, match="is a pipe") as refused:
        check_file(tmp_path / "log.npy")
    assert "save it" in refused.value.hint


def test_many_arrays_are_opened_with_one_look_at_their_file(tmp_path, monkeypatch):
    path = tmp_path / "runs.npz"
    np.savez(path, **{f"run{i}": np.full((2, 3), i) for i in range(200)})
    opened = []

    class Counted(zipfile.ZipFile):
        def __init__(self, *words, **options):
            opened.append(words)
            super().__init__(*words, **options)

    monkeypatch.setattr(zipfile, "ZipFile", Counted)
    with open_log([Place(path)], LogOptions()) as log:
        np.testing.assert_array_equal(log.read(0, 3)[::2, 0], np.arange(200))
    assert len(opened) == 1
