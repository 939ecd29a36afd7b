"""Finished pieces of a stopped job."""

import contextlib
import itertools
import multiprocessing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltau_cli.errors import InputError, OutputError
from ltau_cli.pieces.store import open_store
from ltau_cli.stop import Ended
from tests.helpers import names

ROW = np.dtype([("x", "<f4"), ("y", "<f8", (2,))])
FOLDER = ".scores.h5.ltau-pieces"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "scores.h5"


def rows_of(start, end):
    rows = np.zeros(end - start, ROW)
    rows["x"] = np.arange(start, end)
    rows["y"] = rows["x"][:, None] * [2, 3]
    return rows


@contextlib.contextmanager
def stopped(target, job=None, **options):
    """Open a store in a block that is then stopped."""
    with contextlib.suppress(Ended), open_store(target, job or {"a": 1}, **options) as store:
        yield store
        raise Ended(15)


@settings(max_examples=40)
@given(
    cuts=st.lists(st.integers(1, 199), max_size=6),
    made=st.integers(0, 127),
    broken=st.integers(0, 127),
    cut=st.integers(1, 300),
    size=st.integers(1, 70),
)
def test_a_store_gives_back_what_was_finished_or_nothing(
    cuts, made, broken, cut, size, tmp_path_factory
):
    """Whatever pieces there are, and whatever a crash does to their ends: no row is ever wrong."""
    target = tmp_path_factory.mktemp("store") / "scores.h5"
    bounds = sorted({0, *cuts, 200})
    kept = set()
    with stopped(target) as store:
        for i, (start, end) in enumerate(itertools.pairwise(bounds)):
            if made >> i & 1:
                store.save("rows", start, end, {"rows": rows_of(start, end), "told": {"k": 3}})
                path = store.folder / f"rows-{start}-{end}"
                if broken >> i & 1:
                    path.write_bytes(path.read_bytes()[:-cut])
                else:
                    kept |= set(range(start, end))
                    assert store.load("rows", start, end)["told"] == {"k": 3}
    with open_store(target, {"a": 1}) as store:
        todo = store.missing("rows", 0, 200, size)
        assert set(range(200)) - kept == {i for start, end in todo for i in range(start, end)}
        assert sum(end - start for start, end in todo) == 200 - len(kept)
        assert all(end - start <= size for start, end in todo)
        for start, end in todo:
            store.save("rows", start, end, {"rows": rows_of(start, end)})
        assert store.missing("rows", 0, 200, size) == []
        blocks = list(store.blocks("rows", 7))
        assert all(len(block) == 7 for block in blocks[:-1])
        np.testing.assert_array_equal(np.concatenate(blocks), rows_of(0, 200))
    assert names(target.parent) == []


def test_parts_of_arrays(target):
    values = np.arange(60.0).reshape(20, 3)
    with open_store(target, {}) as store:
        store.save("shards", 0, 1, {"b": values, "a": np.zeros((0, 4), "f2"), "n": None})
        piece = store.load("shards", 0, 1)
        assert piece.names == ["b", "a"]
        assert piece["n"] is None
        np.testing.assert_array_equal(piece.read("b", 5, 9), values[5:9])
        np.testing.assert_array_equal(piece.read("b", 15), values[15:])
        assert piece["a"].shape == (0, 4)


def test_what_becomes_of_pieces(target, caplog):
    with stopped(target):
        pass
    assert names(target.parent) == []
    with stopped(target) as store:
        store.save("rows", 0, 1, {"rows": rows_of(0, 1)})
    assert "scores.h5: what is done is kept; the same command goes on from there" in caplog.text
    assert names(target.parent) == [FOLDER]
    with stopped(target, {"a": 2}) as store:  # another job
        store.save("rows", 0, 1, {"rows": rows_of(0, 1)})
    with stopped(target) as store:
        assert store.ranges("rows") == []
        store.save("rows", 0, 1, {"rows": rows_of(0, 1)})
    with pytest.raises(InputError), open_store(target, {"a": 1}):
        raise InputError("no number")
    assert names(target.parent) == []


def test_a_process_that_comes_too_late_cannot_write(target):
    with open_store(target, {}) as late:
        late.save("rows", 0, 1, {"rows": rows_of(0, 1)})
    with pytest.raises(OutputError, match=r"cannot write .*scores\.h5"):
        late.save("rows", 1, 2, {"rows": rows_of(1, 2)})
    assert names(target.parent) == []


def enter(target, shared, said):
    """Try to open the store in another process."""
    try:
        with stopped(target, shared=shared):
            said.put("open")
    except OutputError as error:
        said.put(str(error))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_processes_share_only_if_both_do(first, second, target):
    fork = multiprocessing.get_context("fork")
    said = fork.SimpleQueue()
    with open_store(target, {"a": 1}, shared=first):
        process = fork.Process(target=enter, args=(target, second, said))
        process.start()
        process.join()
    assert ("open" if first and second else "another ltau") in said.get()
    assert names(target.parent) == []


def test_shards_of_other_jobs_stand_beside_one_another_until_one_does_not_share(target):
    for job in ({"a": 1}, {"a": 2}):
        with open_store(target, job, shared=True) as store:
            store.save("rows", 0, 1, {"rows": rows_of(0, 1)})
    with open_store(target, {"a": 1}) as store:
        assert store.ranges("rows") == [(0, 1)]
        assert len(list(store.folder.parent.iterdir())) == 2  # its own, and the lock
    assert names(target.parent) == []


def test_only_what_is_ours_is_removed_and_no_link_is_followed(target, tmp_path):
    theirs = tmp_path / "theirs"
    (theirs / "0123456789abcdef").mkdir(parents=True)
    (theirs / "0123456789abcdef" / "rows-0-1").write_text("precious")
    folder = tmp_path / FOLDER
    folder.symlink_to(theirs)
    with pytest.raises(OutputError, match="in the way"), open_store(target, {}):
        pass
    folder.unlink()
    folder.mkdir()
    (folder / "fedcba9876543210").symlink_to(theirs / "0123456789abcdef")
    (folder / "notes.txt").write_text("mine")
    (folder / "notes").mkdir()
    with open_store(target, {}):
        pass
    assert names(folder) == ["fedcba9876543210", "lock", "notes", "notes.txt"]
    assert (theirs / "0123456789abcdef" / "rows-0-1").read_text() == "precious"
    (folder / "lock").unlink()
    (folder / "lock").symlink_to(theirs / "lock")
    with pytest.raises(OutputError), open_store(target, {}):
        pass
    assert names(theirs) == ["0123456789abcdef"]


def test_a_link_to_a_result_has_the_store_of_the_result(target, tmp_path):
    (tmp_path / "deep").mkdir()
    link = tmp_path / "deep" / "link.h5"
    link.symlink_to(target)
    with stopped(link) as store:
        store.save("rows", 0, 1, {"rows": rows_of(0, 1)})
    with open_store(target, {"a": 1}) as store:
        assert store.ranges("rows") == [(0, 1)]
    assert names(tmp_path / "deep") == ["link.h5"]
