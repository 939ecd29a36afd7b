"""Inputs that change while they are read, and dates that are none."""

import os

import numpy as np
import pytest

from ltau_cli.artifacts.provenance import Hasher, created_now
from ltau_cli.errors import InputError, UsageError
from tests.helpers import SAMPLE, in_pieces


def test_a_file_that_grows_while_it_is_read_is_an_error(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("1\n")
    with Hasher() as hasher:
        hasher.add("log", path, "error log")
        hasher.records()
        with path.open("a") as file:
            file.write("2\n")
        with pytest.raises(InputError, match=r"log\.csv was changed while it was read"):
            hasher.records()


@pytest.mark.parametrize("watched", ["log.csv", "."])
def test_a_watched_file_counts_from_the_beginning(tmp_path, watched):
    path = tmp_path / "log.csv"
    path.write_text("1\n")
    with Hasher([tmp_path / watched]) as hasher:
        path.write_text("1\n2\n")
        hasher.add("log", path, "error log")
        with pytest.raises(InputError, match="was changed"):
            hasher.records()


def test_a_killed_job_is_not_continued_with_another_file_of_the_same_name(pipeline, ltau, tmp_path):
    """The same name, size and time of last change, in another folder."""
    rows = np.load(SAMPLE / "test_300K_descriptors.npy")
    for name, factor in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "d.npy", rows * np.float32(factor))
        os.utime(tmp_path / name / "d.npy", (1e9, 1e9))
    target = tmp_path / "out.h5"
    words = ["-m", pipeline.model, "--block-rows", 200]
    ltau.ok("score", tmp_path / "a" / "d.npy", *words, "-o", target)
    ltau.ok("score", tmp_path / "b" / "d.npy", *words, "-o", tmp_path / "whole.h5")
    target.unlink()
    kept = _leave_pieces(ltau, tmp_path / "a" / "d.npy", words, target)
    assert kept > 0
    result = ltau.ok("score", tmp_path / "b" / "d.npy", *words, "-o", target)
    assert "already" not in result.err
    assert target.read_bytes() == (tmp_path / "whole.h5").read_bytes()


def _leave_pieces(ltau, descriptors, words, target):
    """Score, but find the target's name taken in the end: the rows are kept."""
    from ltau_cli.artifacts import write

    real = write.replace_atomically

    def taken(path, *, force):
        path.write_text("of another")
        return real(path, force=force)

    write.replace_atomically = taken
    try:
        assert ltau("score", descriptors, *words, "-o", target).code == 5
    finally:
        write.replace_atomically = real
    target.unlink()
    return in_pieces(target)


@pytest.mark.parametrize("value", ["x", "-1", "²", "1e9", "9" * 30])
def test_a_date_that_is_none(monkeypatch, value):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", value)
    with pytest.raises(UsageError, match="is not a number of seconds"):
        created_now()
