"""Last and averaged weights of a run, measured beside the best."""

from collections.abc import Mapping
from pathlib import Path

from pytorch_lightning import LightningDataModule, LightningModule, Trainer

from .building import has_loader, has_step
from .floats import to_floats
from .runs.checkpoints import read_checkpoint

Metrics = dict[str, float]


def load_weights(model: LightningModule, checkpoint: str | Path) -> None:
    """Put the weights of a checkpoint into the model."""
    weights = read_checkpoint(checkpoint)["state_dict"]
    model.load_state_dict(weights, strict=model.strict_loading)


def compare_weights(
    trainer: Trainer,
    model: LightningModule,
    datamodule: LightningDataModule,
    checkpoints: Mapping[str, str],
    test: bool,
) -> dict[str, Metrics]:
    """Measure the last and the averaged weights.

    Args:
        trainer: one without loggers and callbacks, where these numbers would look like the best's.
        model: takes up one set of weights after the other.
        datamodule: the run's.
        checkpoints: files of the weights.
        test: whether the test part may be used.

    Returns:
        `last` and `averaged` on the validation part and, with `test`, `test last` and
        `test averaged`.
    """
    metrics: dict[str, Metrics] = {}
    validates = has_step(model, "validation_step") and has_loader(datamodule, "val_dataloader")
    for name in ("last", "averaged"):
        if name in checkpoints:
            load_weights(model, checkpoints[name])
            if validates:
                trainer.validate(model, datamodule, verbose=False)
                metrics[name] = measured(trainer)
            if test:
                trainer.test(model, datamodule, verbose=False)
                metrics[f"test {name}"] = measured(trainer)
    return metrics


def measured(trainer: Trainer) -> Metrics:
    """What was logged last, as floats."""
    return to_floats(trainer.callback_metrics)
