"""What stands under a target's name, whatever happens to the process or to the file system."""

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ltau_cli import output
from ltau_cli.errors import OutputError
from ltau_cli.output import check_target, hidden, open_results, open_text


def write(target, text="new", **options):
    with open_text(target, **options) as stream:
        stream.write(text)


def test_an_existing_file_keeps_its_mode_and_is_written_through_a_link(tmp_path):
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    with pytest.raises(OutputError, match="exists already"):
        write(link)
    write(link, force=True)
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_a_new_file_has_the_mode_that_the_umask_says(tmp_path):
    old = os.umask(0o027)
    try:
        write(tmp_path / "a.txt")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_a_link_to_nothing_is_not_absent_but_force_writes_through_it(tmp_path):
    (tmp_path / "link").symlink_to("there")
    with pytest.raises(OutputError, match="which is not there"):
        write(tmp_path / "link")
    write(tmp_path / "link", force=True)
    assert (tmp_path / "there").read_text() == "new"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("given", ["x.npy", "x.npy:/group/data", "./link.npy", "hard.npy"])
def test_an_input_is_never_a_target(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.npy"
    path.write_text("mine")
    Path("link.npy").symlink_to(path)
    Path("hard.npy").hardlink_to(path)
    with pytest.raises(OutputError, match="is an input of this command"):
        check_target(path, force=True, inputs=[None, "species", given])


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    target = tmp_path / "a.txt"

    def text():
        yield "new"
        target.write_text("of another")

    with pytest.raises(OutputError, match="appeared while"), open_text(target) as stream:
        stream.writelines(text())
    assert target.read_text() == "of another"
    assert list(tmp_path.iterdir()) == [target]


def test_without_hard_links_it_works_too(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", fail(errno.EPERM))
    test_a_file_that_appears_meanwhile_is_kept(tmp_path)
    write(tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_text() == "new"


def test_two_writers_of_one_target(tmp_path):
    target = tmp_path / "a.txt"
    with open_text(target) as stream:
        stream.write("first")
        with pytest.raises(OutputError, match="is being written by another ltau"):
            write(target, "second", force=True)
    assert target.read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_dead_process_left_is_removed_by_the_next(tmp_path):
    target = tmp_path / "a.txt"
    hidden(target, "tmp").write_text("half")
    write(target)
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_where_nobody_can_lock_a_leftover_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(output, "lock", lambda _: None)
    hidden(tmp_path / "a.txt", "tmp").write_text("half")
    with pytest.raises(OutputError, match="or one was killed") as caught:
        write(tmp_path / "a.txt")
    assert f"rm {hidden(tmp_path / 'a.txt', 'tmp')}" in caught.value.hint
    hidden(tmp_path / "a.txt", "tmp").unlink()
    write(tmp_path / "a.txt")


def write_both(one, two, then=lambda: None):
    with open_results(force=False) as results:
        results.text(one).write("1")
        results.text(two).write("2")
        then()


def test_two_results_appear_together_or_not_at_all(tmp_path):
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    with pytest.raises(OutputError, match="appeared"):
        write_both(one, two, lambda: two.write_text("of another"))
    assert not one.exists()
    assert two.read_text() == "of another"


def test_a_kill_between_two_results_does_not_refuse_the_repeat(tmp_path):
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    child = os.fork()
    if child == 0:
        link = os.link

        def link_and_die(source, target):
            link(source, target)
            os.kill(os.getpid(), signal.SIGKILL)

        os.link = link_and_die
        write_both(one, two)
        os._exit(0)
    os.waitpid(child, 0)
    assert one.exists()
    assert not two.exists()
    for target in (one, two):
        check_target(target, force=False)
    write_both(one, two)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.txt", "two.txt"]


def fail(number):
    def call(*_):
        raise OSError(number, os.strerror(number))

    return call


def test_data_that_cannot_be_synced_is_no_result(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", fail(errno.EIO))
    with pytest.raises(OutputError, match="Input/output error"):
        write(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


def test_an_array_on_a_full_disk_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", fail(errno.ENOSPC))
    for save in (np.save, np.savez):  # a zip archive is also moved about in when it is closed
        with (
            pytest.raises(OutputError, match="No space left"),
            output.open_binary(tmp_path / "a.npy") as file,
        ):
            save(file, np.zeros(100_000))
    assert list(tmp_path.iterdir()) == []


WAITS = """
import sys, time
from pathlib import Path
from ltau_cli import stop
from ltau_cli.output import open_text
stop.listen()
stop.GRACE = float(sys.argv[2])
with open_text(Path(sys.argv[1])) as stream:
    print("ready", flush=True)
    for _ in range(1000):
        {look}
        time.sleep(0.02)
"""


@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGXCPU"])
@pytest.mark.parametrize("look", ["stop.look()", "pass"])
def test_signals(tmp_path, sent, look):
    """Work that looks ends at once; other work when it is told twice, or after the grace."""
    number = getattr(signal, sent)
    for twice in (True, False):
        words = [sys.executable, "-c", WAITS.format(look=look), tmp_path / "a.txt", "1"]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        if twice and look == "pass":
            time.sleep(0.4)
            process.send_signal(number)
        _, err = process.communicate(timeout=30)
        if look == "pass":
            assert process.returncode == 128 + number
            assert err.endswith("nothing was left half-written\n")
        else:
            assert "Ended" in err  # nobody here turns it into an exit code
        assert list(tmp_path.iterdir()) == []


def test_a_signal_that_the_caller_ignores_stays_ignored(tmp_path):
    words = [sys.executable, "-c", "from ltau_cli import stop; import signal; stop.listen();"
             "print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"]  # fmt: skip
    done = subprocess.run(["nohup", *words], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
