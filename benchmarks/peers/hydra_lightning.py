"""Peer: Hydra's own launcher, one job after another, with Lightning and MLflow's own logger.

python hydra_lightning.py -m l2=0,1e-5,1e-4,1e-3 dropout=0,0.1,0.3 seed=0,1
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass

import hydra
import pytorch_lightning as pl
import torch
from hydra.core.config_store import ConfigStore
from pytorch_lightning.loggers import MLFlowLogger
from shared import loader, network, read
from torch import Tensor, nn


@dataclass
class Config:
    """One job."""

    l2: float = 0.0
    dropout: float = 0.0
    seed: int = 0
    epochs: int = 20


ConfigStore.instance().store(name="config", node=Config)


class Regressor(pl.LightningModule):
    """The peers' network with the L2 penalty in the loss."""

    def __init__(self, features: int, l2: float, dropout: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.l2 = l2
        self.network = network(features, dropout)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Return the objective of a batch."""
        features, target = batch
        loss = nn.functional.mse_loss(self.network(features), target)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss + self.l2 * sum(p.pow(2).sum() for p in self.parameters())

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        """Log the loss of validation rows."""
        features, target = batch
        self.log("val_loss", nn.functional.mse_loss(self.network(features), target))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


@hydra.main(version_base="1.3", config_path=None, config_name="config")
def main(config: Config) -> float:
    """Train one job."""
    pl.seed_everything(config.seed, verbose=False)
    train, validation = read()
    module = Regressor(train.features.shape[1], config.l2, config.dropout)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=config.epochs,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=MLFlowLogger("full", tracking_uri="sqlite:///mlflow.db"),
    )
    trainer.fit(module, loader(train, 256, True), loader(validation, 1024, False))
    return float(trainer.callback_metrics["val_loss"])


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    main()
