"""Memory follows the block, not the file."""

import h5py
import numpy as np
import pytest

from tests.helpers import peak_memory

pytestmark = pytest.mark.slow


def test_memory_follows_the_block_and_not_the_file(tmp_path, ltau):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "log.npy", rng.random((6, 50)))
    np.save(tmp_path / "train.npy", rng.normal(size=(50, 128)))
    errors, model = tmp_path / "errors.h5", tmp_path / "model.h5"
    ltau.ok("ingest", tmp_path / "log.npy", "-o", errors)
    ltau.ok("fit", errors, tmp_path / "train.npy", "-o", model)
    peaks = []
    for n in (20_000, 400_000):
        rows, out = tmp_path / f"{n}.npy", tmp_path / f"{n}.h5"
        file = np.lib.format.open_memmap(rows, "w+", np.float32, (n, 128))
        for begin in range(0, n, 20_000):
            file[begin : begin + 20_000] = rng.random((20_000, 128), dtype=np.float32)
        del file
        words = ("-m", model, "--threads", 1, "--block-rows", 4096, "--cdf")
        shard = peak_memory("score", rows, *words, "--shard", "0/1", "-o", out)
        peaks.append((shard, peak_memory("score", rows, *words, "-o", out)))
        size = rows.stat().st_size + out.stat().st_size
        rows.unlink()
    growth = np.subtract(*reversed(peaks))
    assert size > 300e6
    assert (growth < 24e6).all(), (peaks, growth)


def test_memory_follows_the_shard(tmp_path, ltau):
    """Twice the training set in twice the shards takes no more; in one piece it does."""
    width, peaks = 4096, []
    rng = np.random.default_rng(0)
    for n, shards in ((1_000, 8), (2_000, 16), (1_000, 1)):
        np.save(tmp_path / "log.npy", rng.random((3, n), dtype=np.float32))
        np.save(tmp_path / "x.npy", rng.random((n, width), dtype=np.float32))
        np.save(tmp_path / "q.npy", rng.random((100, width), dtype=np.float32))
        errors, model = tmp_path / "e.h5", tmp_path / "m.h5"
        ltau.ok("ingest", tmp_path / "log.npy", "-o", errors, "-f")
        words = ("-f", "--threads", 1)
        fitting = peak_memory("fit", errors, tmp_path / "x.npy", "-o", model, "--shards", shards,
                              "--scale", "none", "-k", 2, *words)  # fmt: skip
        scoring = peak_memory("score", tmp_path / "q.npy", "-m", model, "-o", tmp_path / "s.h5",
                              *words)  # fmt: skip
        peaks.append((fitting, scoring))
    small, large, whole = np.array(peaks)  # of fit and of score
    size = 1_000 * width * 4  # of the descriptors; what holds them all takes twice as much or more
    assert (large - small < 0.6 * size).all(), peaks  # runs of the same command differ by 8 MB
    assert (whole - small > size).all(), peaks


LONG, WIDE, COMPRESSED, CHUNKED = "log.csv", "wide.csv", "log.npz", "log.h5"


def write_large(path, n):
    """Write a log of 20 epochs (wide: 100) and ``n`` samples."""
    errors = [f"{v:.4f}" for v in np.random.default_rng(0).random(n)]
    if path.name == LONG:
        rest = [f",{i},{error}\n" for i, error in enumerate(errors)]
        with path.open("w") as file:
            file.write("epoch,sample,error\n")
            for epoch in range(20):
                file.write(f"{epoch}" + str(epoch).join(rest))
    elif path.name == WIDE:
        with path.open("w") as file:
            file.write("epoch," + ",".join(f"s{i}" for i in range(n)) + "\n")
            file.writelines(f"{epoch}," + ",".join(errors) + "\n" for epoch in range(100))
    else:
        log = np.tile(np.array(errors[:1000], np.float32), (20, n // 1000))
        if path.name == COMPRESSED:
            np.savez_compressed(path, a=log)
        else:
            with h5py.File(path, "w") as file:
                file.create_dataset(
                    "log", data=log, chunks=(1, n), compression="gzip", compression_opts=1
                )


# Before, 150, 120 and 220 MB more for the large one; the last took minutes.


@pytest.mark.parametrize(("name", "small", "large", "limit"), [
    (LONG, 5_000, 60_000, 90e6),
    (WIDE, 17_000, 150_000, 60e6),
    (COMPRESSED, 10_000, 2_000_000, 130e6),
    (CHUNKED, 10_000, 2_000_000, 150e6),
])  # fmt: skip
def test_memory_does_not_follow_the_log(name, small, large, limit, tmp_path):
    peaks = []
    for n in (small, large):
        write_large(tmp_path / name, n)
        peaks.append(peak_memory("ingest", tmp_path / name, "-fo", tmp_path / "errors.h5"))
    assert peaks[1] - peaks[0] < limit, peaks
