"""Score, fit and ingest on a Dask cluster: the same bytes, whatever becomes of the cluster."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from distributed import Client

from ltau_cli import __version__
from ltau_cli.pieces import workers as dask_workers
from tests.helpers import (
    COMPUTE,
    INPUT,
    USAGE,
    check,
    evaluated,
    finish,
    in_pieces,
    names,
    start,
    wait_until,
    write_long,
)

pytestmark = pytest.mark.slow

# Code for workers: each block of rows takes a while. (Dask runs what it preloads more than once.)
SLOW = """
import time
from ltau_cli.core.scoring import Scorer
if not hasattr(Scorer, "score_at_once"):
    Scorer.score_at_once = Scorer.score
    def wait_and_score(self, block):
        time.sleep(0.2)
        return self.score_at_once(block)
    Scorer.score = wait_and_score
"""


class Cluster:
    """A scheduler and workers, each a process; a worker runs some code before it begins."""

    def __init__(self, folder):
        self.folder = folder
        self.file = folder / "scheduler.json"
        self.workers = []
        self.file.unlink(missing_ok=True)
        self.scheduler = self._start("scheduler", "--port", 0)

    def start(self, workers=2, before=""):
        for _ in range(workers):
            self.add(before)
        give_up = time.monotonic() + 60
        while not self.file.exists():
            assert time.monotonic() < give_up
            time.sleep(0.02)
        with Client(scheduler_file=str(self.file), set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60) if workers else None
            self.address = client.scheduler.address

    def add(self, before=""):
        words = ("--nthreads", 1, "--no-nanny", "--memory-limit", 0, "--death-timeout", 60,
                 "--local-directory", self.folder)  # fmt: skip
        self.workers.append(self._start("worker", *words, before=before))

    def _start(self, what, *words, before=""):
        code = f"{before}\nfrom distributed.cli.dask_{what} import main; main()"
        command = [sys.executable, "-c", code, "--scheduler-file", self.file, "--no-dashboard"]
        quiet = subprocess.DEVNULL
        return subprocess.Popen([*map(str, (*command, *words))], stdout=quiet, stderr=quiet)

    def close(self):
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@contextlib.contextmanager
def running(folder, **options):
    cluster = Cluster(folder)
    try:
        cluster.start(**options)
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with running(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
def soon(monkeypatch):
    """Give up soon."""
    monkeypatch.setattr(dask_workers, "START_SECONDS", 0.5)


def score_words(pipeline, *more):
    return ("score", pipeline.descriptors, "-m", pipeline.model, "--natoms", pipeline.natoms,
            "--calibration", pipeline.calibration, "--cdf", "--block-rows", 50, *more)  # fmt: skip


def test_score(cluster, pipeline, ltau, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.address)
    result = ltau.ok(*score_words(pipeline, "-o", "s.h5"))
    line = f"using the Dask scheduler {cluster.address} of DASK_SCHEDULER_ADDRESS"
    assert result.err.splitlines() == [line]
    assert (tmp_path / "s.h5").read_bytes() == pipeline.calibrated.read_bytes()
    assert names(tmp_path) == ["s.h5"]


def test_score_of_shards_and_of_many_files(cluster, pipeline, ltau, tmp_path):
    words = ("score", pipeline.descriptors, "-m", pipeline.model, "--natoms", pipeline.natoms)
    for i in range(2):
        ltau.ok(*words, "--shard", f"{i}/2", "-o", tmp_path / "s.h5", "--block-rows", 100,
                "--workers", cluster.address)  # fmt: skip
    assert "1,375 of 1,375 rows" in ltau(*words, "-o", tmp_path / "s.h5").err
    assert (tmp_path / "s.h5").read_bytes() == pipeline.scores.read_bytes()
    both = (pipeline.descriptors, pipeline.hot_descriptors, "-m", pipeline.model)
    ltau.ok("score", *both, "-O", tmp_path / "one")
    ltau.ok("score", *both, "-O", tmp_path / "many", "--workers", cluster.file)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "many" / path.name).read_bytes()


@pytest.mark.parametrize("options", [
    (),
    ("--shards", 3, "--loo", "structure", "--scale", "none"),
    ("--metric", "cosine", "--epochs", "2:"),
])  # fmt: skip
def test_fit(options, cluster, pipeline, ltau, tmp_path):
    log = tmp_path / "errors.h5"
    natoms = pipeline.natoms.with_name("train_natoms.npy")
    ltau.ok("ingest", pipeline.logs, "--natoms", natoms, "-o", log)
    words = ("fit", log, pipeline.train, "-k", 20, *options)
    ltau.ok(*words, "-o", tmp_path / "one.h5")
    ltau.ok(*words, "-o", tmp_path / "two.h5", "--workers", cluster.address)
    assert (tmp_path / "two.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()
    assert names(tmp_path) == ["errors.h5", "one.h5", "two.h5"]


def write_tables(folder, ids):
    rng = np.random.default_rng(0)
    for epoch in range(4):
        rows = [(name, f"{rng.random():.5f}") for name in rng.permutation(ids)]
        write_long(folder / f"errors_epoch_{epoch}.csv", rows, header=("sample", "error"))


@pytest.mark.parametrize("kind", ["frames", "numbers", "words", "mixed", "runs"])
def test_ingest(kind, cluster, ltau, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    logs = [folder]
    if kind == "frames":
        evaluated(folder, ("MACE_forces", "REF_forces"))
    elif kind == "runs":
        logs = [tmp_path / f"run{i}.csv" for i in range(2)]
        for i, path in enumerate(logs):
            rows = [(t, name, 0.1 * t + 0.01 * i) for t in range(3) for name in range(5)]
            write_long(path, rows)
    else:
        write_tables(folder, [f"atom{i}" if kind == "words" else i for i in range(9)])
        if kind == "mixed":
            rows = [(7 - i if i else "last", 0.5) for i in range(8)]
            write_long(folder / "errors_epoch_7.csv", rows, header=("sample", "error"))
    words = ("ingest", *logs, "--allow-missing")
    ltau.ok(*words, "-o", tmp_path / "one.h5")
    result = ltau.ok(*words, "-o", tmp_path / "two.h5", "--workers", cluster.address)
    assert "read here" not in result.err
    assert (tmp_path / "two.h5").read_bytes() == (tmp_path / "one.h5").read_bytes()
    assert not (tmp_path / ".two.h5.ltau-pieces").exists()


def test_a_file_that_cannot_be_read_is_told_as_ever(cluster, ltau, tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    write_tables(folder, range(6))
    bad = folder / "errors_epoch_2.csv"
    bad.write_text(bad.read_text().replace(",0.", ",x0.", 1))
    words = ("ingest", folder, "-o", tmp_path / "e.h5")
    result = ltau(*words, "--workers", cluster.address)
    assert result.err == ltau(*words).err
    check(result, INPUT, bad, "line 2", hint=False)
    assert names(tmp_path) == ["logs"]


def test_a_log_of_arrays_is_read_here(pipeline, ltau, tmp_path):
    result = ltau.ok("ingest", pipeline.logs, "-o", tmp_path / "e.h5", "--workers", 2)
    assert "read here, at the speed of the disk" in result.err


def test_rows_that_are_no_numbers_are_told_and_nothing_is_kept(cluster, pipeline, ltau, tmp_path):
    rows = np.load(pipeline.descriptors)
    rows[700, 1] = np.nan
    np.save(tmp_path / "x.npy", rows)
    words = ("score", tmp_path / "x.npy", "-m", pipeline.model, "--block-rows", 50)
    result = ltau(*words, "-o", tmp_path / "s.h5", "--workers", cluster.address)
    check(result, INPUT, "x.npy: 1 of 1,375 rows", "the first is row 700")
    assert names(tmp_path) == ["x.npy"]


def children(process):
    return psutil.Process(process.pid).children(recursive=True)


def alive(processes):
    return [one for one in processes if one.is_running() and one.status() != "zombie"]


@pytest.fixture
def slow_children(tmp_path):
    """Code that makes the workers of a local cluster slow."""
    preload = tmp_path / "slow.py"
    preload.write_text(SLOW)
    return os.environ | {"DASK_DISTRIBUTED__WORKER__PRELOAD": f"['{preload}']"}


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_ending_the_command_ends_its_workers(sent, code, pipeline, slow_children, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    target = folder / "s.h5"
    words = score_words(pipeline, "-o", target)
    process = start(*words, "--workers", 2, env=slow_children, start_new_session=True)
    wait_until(lambda: in_pieces(target) >= 150, process)
    workers = children(process)
    assert len(workers) >= 2
    sent_at = time.monotonic()
    if sent == signal.SIGINT:  # a terminal sends it to all
        os.killpg(process.pid, sent)
    else:
        process.send_signal(sent)
    result = finish(process)
    assert time.monotonic() - sent_at < 10
    assert result.code == code, result.err
    wait_until(lambda: not alive(workers))
    assert not target.exists()
    if sent != signal.SIGKILL:
        lines = [line for line in result.err.splitlines() if line]
        assert lines[-1].startswith("error: "), result.err
        assert all("what is done is kept" in line for line in lines[:-1]), result.err
    done = in_pieces(target)
    again = finish(start(*words))
    assert again.code == 0, again.err
    assert f"{done:,} of 1,375 rows are there already" in again.err
    assert target.read_bytes() == pipeline.calibrated.read_bytes()
    assert names(folder) == ["s.h5"]


def test_a_worker_is_killed_and_the_other_finishes(pipeline, tmp_path):
    with running(tmp_path, before=SLOW) as own:
        process = start(*score_words(pipeline, "-o", tmp_path / "s.h5", "--workers", own.address))
        wait_until(lambda: in_pieces(tmp_path / "s.h5") >= 150, process)
        own.workers[0].kill()
        result = finish(process)
    assert (result.code, result.err) == (0, ""), result.err
    assert (tmp_path / "s.h5").read_bytes() == pipeline.calibrated.read_bytes()


def test_a_fit_goes_on_when_a_dead_scheduler_is_back(pipeline, ltau, tmp_path):
    before = """
import time
from ltau_cli.core.search.loo import LeaveOneOutSearch
find = LeaveOneOutSearch.find
def wait_and_find(*words, **more):
    time.sleep(0.2)
    return find(*words, **more)
LeaveOneOutSearch.find = wait_and_find
"""
    words = ("fit", pipeline.errors, pipeline.train, "--shards", 6)
    ltau.ok(*words, "-o", tmp_path / "one.h5")
    target = tmp_path / "two.h5"
    with running(tmp_path, before=before) as own:
        process = start(*words, "-o", target, "--workers", own.address)
        wait_until(lambda: in_pieces(target, "pairs") > 0, process)
        own.scheduler.kill()
        check(
            (result := finish(process)) and result_without_kept(result),
            COMPUTE, "the scheduler is gone",
        )  # fmt: skip
    assert in_pieces(target, "shards") == 6
    with running(tmp_path) as own:
        process = start(*words, "-o", target, "--workers", own.address)
        result = finish(process)
    assert result.code == 0, result.err
    assert "6 of 6 shards are there already" in result.err
    assert target.read_bytes() == (tmp_path / "one.h5").read_bytes()
    assert not (tmp_path / ".two.h5.ltau-pieces").exists()


def result_without_kept(result):
    kept, _, rest = result.err.partition("\n")
    assert kept.endswith("what is done is kept; the same command goes on from there")
    result.err = rest
    return result


def test_a_missing_scheduler_file(pipeline, ltau, tmp_path, soon):
    began = time.monotonic()
    path = tmp_path / "scheduler.json"
    result = ltau(*score_words(pipeline, "-o", tmp_path / "s.h5", "--workers", path))
    check(result, INPUT, path, "no scheduler has written it within 0.5 s")
    assert f"hint: start one: dask scheduler --scheduler-file {path}" in result.err
    assert time.monotonic() - began < 10
    assert names(tmp_path) == []


def test_no_scheduler_and_no_address(pipeline, ltau, tmp_path, soon):
    words = score_words(pipeline, "-o", tmp_path / "s.h5", "--workers")
    check(ltau(*words, "tcp://127.0.0.1:1"), COMPUTE, "no scheduler answers at tcp://127.0.0.1:1")
    check(ltau(*words, "carrier-pigeon://7"), USAGE, "no address of a scheduler")
    for words_of in ("eight", "0", "5000", "-2"):
        check(ltau(*words, words_of), USAGE, f"--workers {words_of} is no number")
    assert names(tmp_path) == []


def test_a_scheduler_without_workers(pipeline, ltau, tmp_path, soon):
    with running(tmp_path, workers=0) as own:
        words = score_words(pipeline, "-o", tmp_path / "s.h5", "--workers", own.address)
        check(ltau(*words), COMPUTE, own.address, "has no worker after 0.5 s")


def test_workers_that_are_other(pipeline, ltau, tmp_path):
    """Another version of ltau, another model at the same path, none: told before any work."""
    words = score_words(pipeline, "-o", tmp_path / "s.h5", "--workers")
    cases = {
        "import ltau_cli; ltau_cli.__version__ = '0.0.9'": f"0.0.9, this is ltau {__version__}",
        "import sys; sys.modules['ltau_cli'] = None": "has no ltau",
        "import os; real = os.stat; os.stat = lambda p, **o: real('/' if p == MODEL else p, **o)": (
            f"sees another {pipeline.model}"
        ),
        "import builtins, os; real = open\n"
        "def open(path, *words, **more):\n"
        "    return real('/nowhere' if path == MODEL else path, *words, **more)\n"
        "builtins.open = open": f"cannot read {pipeline.model}: No such file",
        "import os; os.access = lambda *_: False": f"cannot write in {tmp_path}",
    }
    with running(tmp_path, workers=0) as own:
        for before, said in cases.items():
            own.add(f"MODEL = {str(pipeline.model)!r}\n{before}")
            result = ltau(*words, own.address)
            check(result, COMPUTE, "worker tcp://", said)
            worker = own.workers.pop()
            worker.kill()
            worker.wait()


def test_a_task_that_fails_three_times(pipeline, ltau, tmp_path):
    tries = tmp_path / "tries"
    before = f"""
from ltau_cli.core.scoring import Scorer
score = Scorer.score
def fail(self, block):
    if len(block) < 50:
        open({str(tries)!r}, "a").write("x")
        raise RuntimeError("no luck")
    return score(self, block)
Scorer.score = fail
"""
    words = score_words(pipeline, "-o", tmp_path / "s.h5")
    with running(tmp_path, workers=1, before=before) as own:
        result = finish(start(*words, "--workers", own.address))
    assert tries.read_text() == "xxx"
    last = [line for line in result.err.splitlines() if line][-2:]
    assert result.code == COMPUTE
    said = "error: rows 1,350 to 1,375 failed 3 times: RuntimeError: no luck"
    assert last == [said, "hint: look into the logs of the workers; the same command tries again"]
    assert "what is done is kept" in result.err
    again = ltau(*words)
    assert "1,350 of 1,375 rows are there already" in again.err
    assert (tmp_path / "s.h5").read_bytes() == pipeline.calibrated.read_bytes()


def test_without_dask(pipeline, ltau, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask", None)
    result = ltau(*score_words(pipeline, "-o", tmp_path / "s.h5", "--workers", 2))
    check(result, USAGE, "--workers needs Dask, which is not installed")
    assert "hint: pip install 'ltau[dask]'" in result.err


def test_what_cannot_be_meant(pipeline, ltau, tmp_path):
    words = score_words(pipeline)
    result = ltau(*words, "-o", "-", "--workers", 2)
    check(result, USAGE, "not of standard output")


def test_nothing_of_dask_is_imported_unless_asked_for(pipeline, tmp_path):
    code = "import sys; from ltau_cli.cli.main import run; run(sys.argv[1:]); " \
        "assert not {'dask', 'distributed'} & set(sys.modules)"  # fmt: skip
    words = ("score", pipeline.descriptors, "-m", pipeline.model, "-o", tmp_path / "s.h5", "-q")
    subprocess.run([sys.executable, "-c", code, *map(str, words)], check=True)
    shutil.rmtree(tmp_path)
