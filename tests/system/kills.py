"""End commands at random moments; a result is then the old one or the whole new one."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.system import machine
from tests.system.ground import ENVIRONMENT, Command, Ground, files_in

SIGNALS = {
    signal.SIGKILL: -signal.SIGKILL,
    signal.SIGTERM: 143,
    signal.SIGINT: 130,
    signal.SIGHUP: 129,
    signal.SIGXCPU: 152,
    signal.SIGQUIT: 131,
}
SHARES = (0.4, 0.2, 0.2, 0.1, 0.05, 0.05)
PROMPT = 10.0  # seconds in which a signal has to end the work
FRESH = 0.15  # share of kills of a new interpreter, whose imports may be hit


class Killer:
    """Kills commands over a ground.

    Parameters
    ----------
    ground : Ground
    folder : Path
        New; for the targets.
    seed : int
    """

    def __init__(self, ground: Ground, folder: Path, seed: int) -> None:
        self.ground = ground
        self.folder = folder
        self.counts: Counter[str] = Counter()
        self._random = np.random.default_rng(seed)
        self._inputs = files_in(ground.folder)

    def run(self, n: int) -> Iterator[str]:
        """Kill ``n`` commands one after the other; yield what went wrong."""
        commands = list(self.ground.commands().items())
        for number in range(n):
            name, command = commands[number % len(commands)]
            sent = self._random.choice(list(SIGNALS), p=SHARES)
            fresh = self._random.random() < FRESH
            with_old = bool(self._random.random() < 0.5) or bool(command.grows)
            for wrong in self._kill(name, command, signal.Signals(sent), with_old, fresh):
                yield f"kill {number} of {name} by {signal.Signals(sent).name}: {wrong}"
        if files_in(self.ground.folder) != self._inputs:
            yield "an input was changed"

    def _kill(
        self, name: str, command: Command, sent: signal.Signals, with_old: bool, fresh: bool
    ) -> Iterator[str]:
        whole, seconds = self.ground.whole(name)
        folder = self._empty_folder()
        old = {target: b"an older result" for target in whole} if with_old else {}
        if command.grows:
            old = {command.grows: (self.ground.folder / command.grows).read_bytes()}
        for target, content in old.items():
            (folder / target).write_bytes(content)
        more = ["--force"] if old and not command.grows else []
        options = {"folder": self.ground.folder, "log": self.folder / ".log"}
        line = command.line(folder, *more)
        if fresh:
            environment = os.environ | {k: v for k, v in ENVIRONMENT.items() if v is not None}
            process = machine.start_fresh(line, env=environment, **options)  # type: ignore[arg-type]
            seconds += 1.0
        else:
            process = machine.start(line, environment=ENVIRONMENT, **options)  # type: ignore[arg-type]
        moment = max(0.1 if fresh else 0.005, seconds * self._random.uniform(0.0, 1.05))
        time.sleep(moment)
        there = process.send(sent)
        if there and self._random.random() < 0.2:  # an impatient user
            time.sleep(self._random.uniform(0, 0.05))
            process.send(sent)
        sent_at = time.perf_counter()
        ended = process.wait()
        self.counts["kills"] += 1
        self.counts[sent.name] += 1
        self.counts["targets"] += len(whole)
        found = files_in(folder)
        crash = ended.crashed()
        if fresh and ended.code in (-sent, 1) and "ltau_cli" not in ended.err:
            self.counts["before the first line"] += 1  # the interpreter itself was hit
        elif crash:
            yield crash
        elif ended.code not in (0, SIGNALS[sent]):
            yield f"exit code {ended.code}: {ended.err.strip()[-300:]}"
        if time.perf_counter() - sent_at > PROMPT:
            yield "the signal was not heard"
        if ended.code == 0:
            self.counts["came too late"] += 1
        for target in whole:
            if found.get(target) not in (old.get(target), whole[target]):
                yield f"BROKEN {target}"
            elif found.get(target) == whole[target]:
                self.counts["finished all the same"] += 1
        if ended.code == 0 and any(found.get(t) != whole[t] for t in whole):
            yield "exit code 0 without a result"
        rest = {n for n in found if n not in whole}
        if sent != signal.SIGKILL and any(n.endswith(".tmp") for n in rest):
            yield f"left {rest}"
        self.counts["left by SIGKILL"] += len(rest)
        again = machine.run(line, environment=ENVIRONMENT, **options)  # type: ignore[arg-type]
        complete = not more and bool(whole) and all(found.get(t) == whole[t] for t in whole)
        if again.crashed() or again.code != (5 if complete and not command.grows else 0):
            yield f"the repeat ends with {again.code}: {again.err.strip()[-300:]}"
        after = files_in(folder)
        if any(after.get(t) != whole[t] for t in whole):
            yield "the repeat gives other bytes"
        if set(after) != set(whole) and not complete:
            yield f"the repeat leaves {sorted(set(after) - set(whole))}"

    def _empty_folder(self) -> Path:
        folder = self.folder / "targets"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder
