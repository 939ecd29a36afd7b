"""Share rows among threads."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def available_threads() -> int:
    """CPUs to use: SLURM_CPUS_PER_TASK, but no more than this process may run on."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    asked = int(slurm) if slurm.isascii() and slurm.isdecimal() else 0
    return min(asked, cpus) or cpus


def share_rows(work: Callable[[int, int], object], n_rows: int, threads: int) -> None:
    """Call ``work(start, stop)`` over ``n_rows`` rows cut into ``threads`` equal parts."""
    threads = max(1, min(threads, n_rows // 64))
    if threads == 1:
        work(0, n_rows)
        return
    cuts = [n_rows * part // threads for part in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, cuts[:-1], cuts[1:]))
