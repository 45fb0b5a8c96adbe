"""A script as the usual templates have: it imports at the top and builds what Hydra composed."""

from pathlib import Path

import hydra
import pytorch_lightning
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.loggers import Logger

from benchmarks.contenders.usual_template import usual_callbacks


@hydra.main(version_base="1.3", config_path="usual_configs", config_name="train")
def main(cfg: DictConfig) -> None:
    """Train, then test the best checkpoint."""
    torch.set_num_threads(1)
    pytorch_lightning.seed_everything(cfg.seed, workers=True)
    datamodule: LightningDataModule = instantiate(cfg.data)
    model: LightningModule = instantiate(cfg.model)
    more: list[Callback] = [instantiate(callback) for callback in cfg.callbacks.values()]
    logger: Logger = instantiate(cfg.logger)
    callbacks = [*more, *usual_callbacks(Path(cfg.paths.output_dir))]
    trainer: Trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=logger)
    trainer.fit(model, datamodule)
    trainer.test(model, datamodule, ckpt_path="best", weights_only=False)


if __name__ == "__main__":
    main()
