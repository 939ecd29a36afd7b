"""A recorder in a Lightning loop of one's own, where NequIP brings Lightning."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.packages.installed.recording import log_of, run

pytestmark = [pytest.mark.nequip, pytest.mark.filterwarnings("ignore")]

LOOP = """
import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

import ltau_cli as ltau

x = torch.randn(100, 3)
y = x.sum(1, keepdim=True)


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def training_step(self, batch, batch_idx):
        inputs, targets, ids = batch
        difference = self.layer(inputs) - targets
        return {"loss": (difference**2).mean(), "ids": ids, "errors": difference}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


model = Model()
np.save("wanted.npy", (model.layer(x) - y).detach().abs()[:, 0].numpy())
loader = DataLoader(TensorDataset(x, y, torch.arange(100)), batch_size=7, shuffle=True)
callback = ltau.Recorder(100, "logs").lightning()
pl.Trainer(max_epochs=2, callbacks=[callback], logger=False, accelerator="cpu",
           enable_checkpointing=False, enable_progress_bar=False).fit(model, loader)
"""


def test_a_lightning_loop_of_ones_own(tmp_path):
    (tmp_path / "train.py").write_text(LOOP)
    run(sys.executable, "train.py", folder=tmp_path, record=False)
    log = log_of(tmp_path / "logs")
    np.testing.assert_allclose(log, [np.load(tmp_path / "wanted.npy")] * 2, atol=1e-6)
