"""The ground of bad inputs and kills: a folder of small good files, and every command over them."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.system import machine

FRAME = 5  # rows of a frame
ENVIRONMENT = {"SOURCE_DATE_EPOCH": "1700000000", "LANG": "C.UTF-8", "SLURM_CPUS_PER_TASK": None,
               "OMP_NUM_THREADS": "1"}  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A command in the folder."""

    text: str  # its words, without the targets
    targets: Mapping[str, str] = field(default_factory=lambda: {"-o": "out.h5"})  # of options

    @property
    def inputs(self) -> list[str]:
        """Names of the files it reads."""
        return [
            word for word in self.text.split() if word.endswith((".npy", ".h5", ".csv", ".xyz"))
        ]

    def line(self, *more: str) -> tuple[str, ...]:
        """All words."""
        targets = [word for option in self.targets.items() for word in option]
        return (*self.text.split(), *targets, *more)


SCORE = "score many.npy -m model.h5 --block-rows 1000"
COMMANDS = {  # for each of the command line, one of its name alone
    "ingest": Command("ingest log.npy"),
    "ingest a table": Command("ingest log.csv"),
    "describe": Command("describe frames.xyz --network python:own.py:describe"),
    "fit": Command("fit errors.h5 x.npy"),
    "fit --shards": Command("fit errors.h5 x.npy --shards 3"),
    "score": Command(SCORE),
    "score --cdf": Command(
        f"{SCORE} --cdf --natoms many_natoms.npy --group many_group.npy"
        " --calibration calibration.h5"
    ),
    "calibrate": Command("calibrate scores.h5 truth.npy"),
    "evaluate": Command("evaluate calibrated.h5 truth.npy", {}),
    "export": Command("export calibrated.h5", {"-o": "out.csv"}),
    "export jsonl.gz": Command("export calibrated.h5", {"-o": "out.jsonl.gz"}),
    "export npz": Command("export calibrated.h5", {"-o": "out.npz"}),
    "export extxyz": Command("export calibrated.h5 --frames frames.xyz", {"-o": "out.xyz"}),
    "select": Command("select calibrated.h5 -n 3", {"-o": "out.txt"}),
    "select --write": Command(
        "select calibrated.h5 -n 3 --frames frames.xyz", {"-o": "out.txt", "--write": "out.xyz"}
    ),
    "weights": Command("weights model.h5", {"-o": "out.npy"}),
    "weights txt": Command("weights model.h5 --suspects 5", {"-o": "out.txt"}),
    "plot": Command("plot calibration.h5", {"-o": "out.png"}),
    "plot pdf": Command("plot cdf model.h5", {"-o": "out.pdf"}),
    "plot --data": Command("plot map errors.h5", {"-o": "out.svg", "--data": "out.csv"}),
    "info": Command("info model.h5", {}),
}


def make_files(folder: Path, n_frames: int = 12) -> None:
    """Write the files of other tools."""
    rng, n = np.random.default_rng(0), n_frames * FRAME
    log = rng.gamma(2, 0.1, (12, n)).astype(np.float32)
    np.save(folder / "log.npy", log)
    lines = [f"{epoch},{i},{error}" for epoch in range(3) for i, error in enumerate(log[epoch])]
    (folder / "log.csv").write_text("\n".join(["epoch,sample,error", *lines]) + "\n")
    x, natoms = rng.normal(size=(n, 4)), np.full(n_frames, FRAME)
    group = np.where(np.arange(n) % 2, "Cu", "O")
    for name, values in {
        "x": x, "many": np.tile(x, (6, 1)), "natoms": natoms, "many_natoms": np.tile(natoms, 6),
        "truth": rng.gamma(2, 0.1, n), "group": group, "many_group": np.tile(group, 6),
        "ood": np.arange(n) % 2,
    }.items():  # fmt: skip
        np.save(folder / f"{name}.npy", values)
    lines = []
    for _ in range(n_frames):
        lines += [str(FRAME), "Properties=species:S:1:pos:R:3:REF_forces:R:3:pred_forces:R:3"]
        lines += ["Cu " + " ".join(f"{v:.4f}" for v in row) for row in rng.normal(size=(FRAME, 9))]
    (folder / "frames.xyz").write_text("\n".join(lines) + "\n")
    (folder / "own.py").write_text(
        "import numpy as np\n\n"
        "def describe(frames):\n"
        "    return {'descriptors': np.concatenate([frame.positions for frame in frames])}\n"
    )


def make_artifacts(run: Callable[[Sequence[str]], int]) -> None:
    """Make an artifact of every kind of them; ``run`` runs a command in their folder."""
    labels = "--natoms natoms.npy --group group.npy"
    for text in (
        f"ingest log.npy {labels} -o errors.h5",
        "fit errors.h5 x.npy -k 5 -o model.h5",
        f"score x.npy {labels} -o scores.h5",
        "calibrate scores.h5 truth.npy --level 0.5 --level 0.8 --group group -o calibration.h5",
        f"score x.npy {labels} --calibration calibration.h5 --cdf -o calibrated.h5",
    ):
        assert run(text.split()) == 0, text


class Ground:
    """Good files (``n_frames`` of 5 rows) and artifacts in a new folder, and folders of links."""

    def __init__(self, folder: Path, n_frames: int = 12) -> None:
        self.folder = folder
        self._whole: dict[str, tuple[dict[str, bytes], float]] = {}
        folder.mkdir(parents=True)
        make_files(folder, n_frames)
        make_artifacts(lambda words: self.run(words, folder).code or 0)
        self._made = state(folder)

    def link(self, folder: Path) -> None:
        """Make a folder of links to the good files."""
        folder.mkdir(parents=True)
        for name in self._made:
            (folder / name).symlink_to(self.folder / name)

    def whole(self, name: str) -> tuple[dict[str, bytes], float]:
        """Results of a command that nobody disturbs, and its time in seconds."""
        if name not in self._whole:
            folder = self.folder.with_name(f"{self.folder.name} {name}")
            self.link(folder)
            done = self.run(COMMANDS[name].line(), folder)
            assert done.code == 0, (name, done)
            found = state(folder)
            results = {target: found[target] for target in COMMANDS[name].targets.values()}
            self._whole[name] = results, done.seconds
        return self._whole[name]

    def options(self, folder: Path) -> dict[str, object]:
        """How a process runs in a folder, see :func:`tests.system.machine.start`."""
        return {"folder": folder, "log": self.folder.with_name("log")}

    def run(self, words: Sequence[str], folder: Path, **options: object) -> machine.Outcome:
        """Run a command in a folder and wait."""
        environment = ENVIRONMENT | options.pop("environment", {})  # type: ignore[operator]
        return machine.run(words, environment=environment, **self.options(folder), **options)

    def harmed(self) -> list[str]:
        """Tell which good files are not as they were made."""
        now = state(self.folder)
        return sorted(n for n in {*now, *self._made} if now.get(n) != self._made.get(n))


def state(folder: Path) -> dict[str, bytes]:
    """What stands under each name below a folder: content, target of a link, or the kind."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path).encode()
        elif path.is_file():
            found[name] = path.read_bytes() if os.access(path, os.R_OK) else b"locked"
        elif not path.is_dir():
            found[name] = str(path.stat().st_mode).encode()
    return found
