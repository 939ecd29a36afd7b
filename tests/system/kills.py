"""End a command at a random moment; its result is then the old one or the whole new one."""

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.system import machine
from tests.system.ground import COMMANDS, ENVIRONMENT, Ground, state

SIGNALS = {  # exit code, share of the kills
    signal.SIGKILL: (-signal.SIGKILL, 0.4),
    signal.SIGTERM: (143, 0.2),
    signal.SIGINT: (130, 0.2),
    signal.SIGHUP: (129, 0.1),
    signal.SIGXCPU: (152, 0.05),
    signal.SIGQUIT: (131, 0.05),
}
PROMPT = 10.0  # seconds in which a signal has to end the work
FRESH = 0.15  # share of kills of a new interpreter, whose imports may be hit


def kill(
    ground: Ground, number: int, folder: Path, random: np.random.Generator, counts: Counter[str]
) -> Iterator[str]:
    """Kill one of the commands in a new folder and repeat it; yield what went wrong."""
    name = list(COMMANDS)[number % len(COMMANDS)]
    sent = random.choice(list(SIGNALS), p=[share for _, share in SIGNALS.values()])
    sent, code = signal.Signals(sent), SIGNALS[sent][0]
    for wrong in _kill(ground, name, folder, sent, code, random, counts):
        yield f"kill {number} of {name} by {sent.name}: {wrong}"
    shutil.rmtree(folder)


def _kill(
    ground: Ground, name: str, folder: Path, sent: signal.Signals, code: int,
    random: np.random.Generator, counts: Counter[str],
) -> Iterator[str]:  # fmt: skip
    whole, seconds = ground.whole(name)
    ground.link(folder)
    links = state(folder)
    old = dict.fromkeys(whole, b"an older result") if random.random() < 0.5 else {}
    for target, content in old.items():
        (folder / target).write_bytes(content)
    line = COMMANDS[name].line(*(["--force"] if old else []))
    fresh = random.random() < FRESH
    if fresh:
        environment = os.environ | {k: v for k, v in ENVIRONMENT.items() if v is not None}
        process = machine.start_fresh(line, env=environment, **ground.options(folder))
        seconds += 1.0
    else:
        process = machine.start(line, environment=ENVIRONMENT, **ground.options(folder))
    time.sleep(max(0.1 if fresh else 0.005, seconds * random.uniform(0.0, 1.05)))
    there = process.send(sent)
    if there and random.random() < 0.2:  # an impatient user
        time.sleep(random.uniform(0, 0.05))
        process.send(sent)
    sent_at = time.perf_counter()
    ended = process.wait()
    if time.perf_counter() - sent_at > PROMPT:
        yield "the signal was not heard"
    counts.update(["kills", sent.name])
    counts["targets"] += len(whole)

    found = {name: content for name, content in state(folder).items() if name not in links}
    if fresh and ended.code in (-sent, 1) and "ltau_cli" not in ended.err:
        counts["before the first line"] += 1  # the interpreter itself was hit
    elif ended.crashed():
        yield str(ended.crashed())
    elif ended.code not in (0, code):
        yield f"exit code {ended.code}: {ended.err.strip()[-300:]}"
    complete = all(found.get(target) == whole[target] for target in whole)
    if ended.code == 0:
        counts["came too late"] += 1
        if not complete:
            yield "exit code 0 without a result"
    for target in whole:
        if found.get(target) not in (old.get(target), whole[target]):
            yield f"BROKEN {target}"
        elif found.get(target) == whole[target]:
            counts["finished all the same"] += 1
    rest = found.keys() - whole.keys()
    if sent != signal.SIGKILL and any(name.endswith(".tmp") for name in rest):
        yield f"left {rest}"
    counts["left by SIGKILL"] += len(rest)

    again = ground.run(line, folder)
    refused = complete and bool(whole) and not old
    if again.crashed() or again.code != (5 if refused else 0):
        yield f"the repeat ends with {again.code}: {again.err.strip()[-300:]}"
    after = state(folder)
    if any(after.get(target) != whole[target] for target in whole):
        yield "the repeat gives other bytes"
    if after.keys() != links.keys() | whole.keys() and not refused:
        yield f"the repeat leaves {sorted(after.keys() - links.keys() - whole.keys())}"
