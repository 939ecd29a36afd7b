"""Fine-tuning of a MACE, along the commands of ``docs/finetuning.md``."""

import ase.io
import numpy as np
import pytest

from tests.helpers import SAMPLE, contents
from tests.packages.installed.conftest import only
from tests.packages.installed.recording import (
    BIN,
    assert_same_where_logged,
    errors_of,
    log_of,
    run,
)
from tests.system.test_docs import DOCS, read_blocks

pytestmark = [pytest.mark.mace, pytest.mark.filterwarnings("ignore")]


def bare(name, part):
    """Frames of the sample data, without what another network predicts of them."""
    frames = ase.io.read(SAMPLE / f"{name}.xyz", ":")[part]
    for frame in frames:
        frame.arrays.pop("pred_forces", None)
        frame.info.pop("pred_energy", None)
    return frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("finetune")
    ase.io.write(place / "pt.xyz", bare("train", slice(None, None, 3)))
    for name, part in (("ft", slice(12)), ("val", slice(12, 19)), ("pool", slice(19, None))):
        ase.io.write(place / f"{name}.xyz", bare("test_900K", part))
    return place


@only("mace")
def test_the_page_ends_in_bars_that_line_up(folder, run_shell):
    lines = [b.text for b in read_blocks(DOCS / "finetuning.md") if b.language == "bash"]
    told = run_shell(folder, "\n".join(lines))
    assert "36 frames of ft.xyz, pt.xyz" in told
    assert "checked: species and forces of what was drawn" in told
    assert "by the heads Default (12 frames), pt_head (24 frames)" in told
    with np.load(folder / "logs" / "samples.npz") as samples:
        known = ~samples["held_out"]
    errors, described = contents(folder / "errors.h5")["errors"][-1], contents(folder / "train.h5")
    own = np.linalg.norm(described["forces"] - described["reference_forces"], axis=1)
    both = known & np.isfinite(errors)
    assert np.corrcoef(errors[both], own[both])[0, 1] > 0.9
    assert len(list((folder / "logs" / "weights").iterdir())) == 8
    true = contents(folder / "pool.h5")
    error = np.linalg.norm(true["forces"] - true["reference_forces"], axis=1)
    bound = np.concatenate([f.arrays["ltau_error_bound_90"]
                            for f in ase.io.read(folder / "pool_with_bars.xyz", ":")])  # fmt: skip
    assert (error <= bound).mean() > 0.8


@only("mace")
def test_the_other_head_is_another_network(folder, run_shell):
    """What a wrong head would cost: errors as large as those of the network."""
    words = "ltau describe val.xyz --network mace:ft.model -q"
    run_shell(folder, f"{words} --head Default -o own.h5; {words} --head pt_head -o other.h5")
    own, other = contents(folder / "own.h5"), contents(folder / "other.h5")
    np.testing.assert_array_equal(own["descriptors"], other["descriptors"])
    assert np.abs(own["forces"] - other["forces"]).max() > 0.01
    assert "names none" in run(BIN / "ltau", *words.split()[1:], "-o", "none.h5", folder=folder,
                               record=False, check=False).stderr  # fmt: skip


@only("mace")
def test_adapters_are_logged(folder):
    """LoRA with a learning rate of 0: the errors are those of the foundation model."""
    if "--lora" not in run(BIN / "mace_run_train", "-h", folder=folder, record=False).stdout:
        pytest.skip("this version has no LoRA")
    run(BIN / "mace_run_train", "--name", "lora", "--foundation_model", "base.model",
        "--multiheads_finetuning", False, "--lora", True, "--train_file", "ft.xyz",
        "--valid_fraction", 0.1, "--E0s", "foundation", "--energy_key", "REF_energy",
        "--forces_key", "REF_forces", "--batch_size", 3, "--lr", 0, "--max_num_epochs", 2,
        "--device", "cpu", "--seed", 1, folder=folder, output="lora_logs")  # fmt: skip
    from mace.calculators import MACECalculator

    frames = ase.io.read(folder / "ft.xyz", ":")
    wanted = errors_of(MACECalculator(str(folder / "lora.model"), device="cpu"), frames)[0]
    assert_same_where_logged(log_of(folder / "lora_logs"), wanted, rtol=1e-3, atol=1e-5)
    checkpoint = next((folder / "checkpoints").glob("lora_*.pt"))
    done = run(BIN / "ltau", "describe", "val.xyz", "--network", f"mace:{checkpoint}", "-o",
               "lora.h5", folder=folder, record=False, check=False)  # fmt: skip
    assert done.returncode == 3
    assert "adapters (LoRA)" in done.stderr
