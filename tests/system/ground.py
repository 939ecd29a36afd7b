"""The ground of the campaigns: small inputs, artifacts of them, and every command over them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.system import machine

SAMPLE = Path(__file__).parents[2] / "sample_data"
EPOCHS = 12
ENVIRONMENT = {
    "SOURCE_DATE_EPOCH": "1700000000",
    "LANG": "C.UTF-8",
    "SLURM_CPUS_PER_TASK": None,
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Command:
    """A command whose results can be told from its words.

    Attributes
    ----------
    words : tuple
        Without the targets.
    targets : dict of str to str
        Option to the name of the file it makes.
    grows : str
        Name in the ground of the file that it changes; empty if it makes new ones.
    """

    words: tuple[object, ...]
    targets: Mapping[str, str]
    grows: str = ""

    def line(self, folder: Path, *more: object) -> list[object]:
        """All words, with the targets in ``folder``."""
        line = [*self.words]
        for option, name in self.targets.items():
            line += [option, folder / name]
        return [*line, *more]


class Ground:
    """Inputs and artifacts in a folder.

    Parameters
    ----------
    folder : Path
        New.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._whole: dict[str, tuple[dict[str, bytes], float]] = {}
        (folder / "logs").mkdir(parents=True)
        (folder / "more").mkdir()
        names = sorted((SAMPLE / "logs").iterdir(), key=lambda p: int(p.stem.rpartition("_")[2]))
        for name in names[:EPOCHS]:
            shutil.copy(name, folder / "logs")
        for name in names[: 2 * EPOCHS]:
            shutil.copy(name, folder / "more")
        for name in ("descriptors.npy", "force_errors.npy", "natoms.npy", "species.npy"):
            shutil.copy(SAMPLE / f"test_300K_{name}", folder / name)
        shutil.copy(SAMPLE / "test_300K.xyz", folder / "frames.xyz")
        shutil.copy(SAMPLE / "train_descriptors.npy", folder / "train.npy")
        np.save(folder / "many.npy", np.tile(np.load(folder / "descriptors.npy"), (6, 1)))
        np.save(folder / "many_natoms.npy", np.tile(np.load(folder / "natoms.npy"), 6))
        table = np.load(folder / "logs" / "force_errors_epoch_0.npy")[:400]
        lines = [
            f"{epoch},{i},{error * (1 - epoch / 9)}"
            for epoch in range(3)
            for i, error in enumerate(table.reshape(len(table), -1)[:, 0])
        ]
        (folder / "log.csv").write_text("\n".join(["epoch,sample,error", *lines]) + "\n")
        for words in (
            ["ingest", "logs", "-o", "errors.h5"],
            ["fit", "errors.h5", "train.npy", "-k", 10, "-o", "model.h5"],
            ["score", "descriptors.npy", "--natoms", "natoms.npy", "-o", "scores.h5"],
            ["calibrate", "scores.h5", "force_errors.npy", "-o", "calibration.h5"],
            ["score", "descriptors.npy", "--natoms", "natoms.npy", "--calibration",
             "calibration.h5", "-o", "calibrated.h5"],
        ):  # fmt: skip
            done = self.run(words)
            assert done.code == 0, (words, done)

    def whole(self, name: str) -> tuple[dict[str, bytes], float]:
        """Results of a command that nobody disturbs, and its time in seconds."""
        if name not in self._whole:
            command, folder = self.commands()[name], self.folder / ".log" / name
            folder.mkdir(parents=True)
            if command.grows:
                shutil.copy(self.folder / command.grows, folder / command.grows)
            done = self.run(command.line(folder))
            assert done.code == 0, (name, done)
            found = {target: (folder / target).read_bytes() for target in command.targets.values()}
            self._whole[name] = found, done.seconds
        return self._whole[name]

    def run(self, words: list[object], **options: object) -> machine.Outcome:
        """Run a command in the folder and wait."""
        environment = ENVIRONMENT | options.pop("environment", {})  # type: ignore[operator]
        return machine.run(
            words, folder=self.folder, log=self.folder / ".log", environment=environment, **options
        )

    def commands(self) -> dict[str, Command]:
        """Every command, as it is used."""
        g = self.folder
        score = ("score", g / "many.npy", "-m", g / "model.h5", "--block-rows", 1000)
        out = "-o"
        return {
            "ingest": Command(("ingest", g / "logs"), {out: "errors.h5"}),
            "ingest a table": Command(("ingest", g / "log.csv"), {out: "errors.h5"}),
            "ingest --append": Command(
                ("ingest", g / "more", "--append"), {out: "errors.h5"}, grows="errors.h5"
            ),
            "fit": Command(("fit", g / "errors.h5", g / "train.npy"), {out: "model.h5"}),
            "fit --shards": Command(
                ("fit", g / "errors.h5", g / "train.npy", "--shards", 3), {out: "model.h5"}
            ),
            "score": Command(score, {out: "scores.h5"}),
            "score --cdf": Command(
                (
                    *score,
                    "--cdf",
                    "--natoms",
                    g / "many_natoms.npy",
                    "--calibration",
                    g / "calibration.h5",
                ),
                {out: "scores.h5"},
            ),
            "calibrate": Command(
                ("calibrate", g / "scores.h5", g / "force_errors.npy"), {out: "calibration.h5"}
            ),
            "export csv": Command(("export", g / "calibrated.h5"), {out: "rows.csv"}),
            "export jsonl.gz": Command(("export", g / "calibrated.h5"), {out: "rows.jsonl.gz"}),
            "export npz": Command(("export", g / "calibrated.h5"), {out: "rows.npz"}),
            "export extxyz": Command(
                ("export", g / "calibrated.h5", "--frames", g / "frames.xyz"), {out: "new.xyz"}
            ),
            "select": Command(("select", g / "calibrated.h5", "-n", 5), {out: "chosen.txt"}),
            "select --write": Command(
                ("select", g / "calibrated.h5", "-n", 5, "--frames", g / "frames.xyz"),
                {out: "chosen.txt", "--write": "chosen.xyz"},
            ),
            "weights npy": Command(("weights", g / "model.h5"), {out: "weights.npy"}),
            "weights txt": Command(
                ("weights", g / "model.h5", "--suspects", 5), {out: "weights.txt"}
            ),
            "plot png": Command(("plot", g / "calibration.h5"), {out: "figure.png"}),
            "plot pdf": Command(("plot", "cdf", g / "model.h5"), {out: "figure.pdf"}),
            "plot --data": Command(
                ("plot", "map", g / "errors.h5"), {out: "figure.svg", "--data": "figure.csv"}
            ),
            "evaluate": Command(("evaluate", g / "scores.h5", g / "force_errors.npy"), {}),
            "info": Command(("info", g / "model.h5"), {}),
        }


def files_in(folder: Path) -> dict[str, bytes]:
    """What every regular file under a folder holds, logs of the campaign left out."""
    found = {}
    for where, _folders, names in os.walk(folder):
        for name in names:
            path = Path(where) / name
            if ".log" not in path.parts and path.is_file() and not path.is_symlink():
                found[str(path.relative_to(folder))] = path.read_bytes()
    return found
