"""The loaders of a model that brings its own data."""

from functools import partial

from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.utilities.model_helpers import is_overridden

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader")


class ModelData(LightningDataModule):
    """The datamodule of a run with `data=null`: the model defines `train_dataloader` itself."""

    def take_from(self, model: LightningModule) -> None:
        """Offer the loaders that the model defines."""
        for name in LOADERS:
            if is_overridden(name, model):
                setattr(self, name, partial(getattr(model, name)))
