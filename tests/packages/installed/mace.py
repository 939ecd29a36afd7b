"""Small trainings of MACE."""

import json
import re
from importlib.metadata import version

import ase.io

from tests.packages.installed.recording import BIN, errors_of, run, training_frames

TITLE = "MACE"  # of its section in docs/models.md
SMALL = [
    "--num_channels", 4, "--max_L", 0, "--r_max", 3.5, "--correlation", 2, "--num_interactions", 2,
    "--MLP_irreps", "4x0e", "--energy_key", "REF_energy", "--forces_key", "REF_forces",
    "--seed", 3, "--valid_fraction", 0.2, "--default_dtype", "float64", "--device", "cpu",
    "--valid_batch_size", 4, "--name", "m",
]  # fmt: skip
ON_CPUS = """
import torch
from mace.cli import run_train
from torch.nn.parallel import DistributedDataParallel
torch.distributed.init_process_group("gloo")
run_train.DDP = lambda model, device_ids: DistributedDataParallel(model)  # MACE's knows GPUs only
run_train.main()
"""

WAYS = [{"more": ("--batch_size", 5)}, {"more": ("--batch_size", 3, "--num_workers", 2, "--ema")}]
# MACE 0.3.6 ends with an error where such a short training has a second stage
STAGE_TWO = ("--swa", "--start_swa", 2) * (version("mace-torch") != "0.3.6")
UNCHANGED = [{"more": ("--batch_size", 5, "--ema", *STAGE_TWO)}]
EPOCHS = 3
CLOSE = ({}, {})
SEEN_BY_TWO = 10


def frames(processes=1, **_):
    """Isolated atoms are left out by MACE."""
    return [frame for frame in training_frames(14 if processes == 1 else 12) if len(frame) > 1]


def train(place, lr=0.01, epochs=3, more=("--batch_size", 4), given=None, restart=False,
          processes=1, **how):  # fmt: skip
    program = [BIN / "mace_run_train"]
    if processes == 2:
        (place / "on_cpus.py").write_text(ON_CPUS)
        program = [BIN / "torchrun", "--nproc_per_node", 2, "--standalone", place / "on_cpus.py"]
        more = ("--distributed", "--launcher", "torchrun", "--batch_size", 2)
    if given is None:
        given = training_frames(14 if processes == 1 else 12)
    ase.io.write(place / "train.xyz", given, format="extxyz")
    file = () if "--config" in more else ("--train_file", "train.xyz")
    again = ("--restart_latest",) * restart
    return run(*program, *SMALL, *file, "--lr", lr, "--max_num_epochs", epochs, *more, *again,
               folder=place, **how)  # fmt: skip


def calculator(file, **options):
    from mace.calculators import MACECalculator

    return MACECalculator(model_paths=str(file), device="cpu", **options)


def evaluate(folder, frames):
    return errors_of(calculator(folder / "m.model", default_dtype="float64"), frames)


def check(folder, n_seen, held_out, more):
    said = (folder / "logs" / "m_run-3.log").read_text()  # MACE's own, in a folder of that name
    told = re.search(r"following indices: \[(.*?)\]", said)
    if told is None:  # MACE 0.3.6 does not say
        from mace.data.utils import random_train_valid_split

        wanted = random_train_valid_split(range(14), 0.2, 3)[1]
    else:
        wanted = map(int, told[1].split(","))
    assert held_out == set(wanted)
    assert (n_seen == (14 - len(held_out)) // more[1] * more[1]).all()


def curve(folder):
    """Every number that MACE logs, without the times."""
    lines = (folder / "results" / "m_run-3_train.txt").read_text().splitlines()
    assert len(lines) > 8
    return [{k: v for k, v in json.loads(line).items() if k != "time"} for line in lines]


def weights(folder):
    import torch

    return torch.load(folder / "m.model", weights_only=False).state_dict()
