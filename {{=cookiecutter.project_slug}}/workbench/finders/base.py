"""The interface of a finder, and the loop over the finders of a run."""

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.utilities.seed import isolate_rng

from ..models.base import BaseModule

log = logging.getLogger(__name__)

# Builds a trainer like the run's that writes no files: `trial(callbacks=[...], max_steps=3)`.
Trial = Callable[..., Trainer]


class Finder:
    """Finds the value of one option by training a copy of the model for a few steps.

    The copy is discarded, and nothing is written except a plot. The value is used as if it had
    been given on the command line, so a run with that option and without the finder is identical.
    """

    option: ClassVar[str]  # for example "optimizer.lr"

    def find(
        self,
        trainer: Trainer,
        model: LightningModule,
        datamodule: LightningDataModule,
        trial: Trial,
    ) -> Any:
        """Find the value.

        Args:
            trainer: the run's, for its loggers and limits; it trains nothing.
            model: a copy of the run's, with initial weights and a constant learning rate.
            datamodule: the run's.
            trial: builds trainers for the copy.

        Raises:
            UserError: there is no suitable value.
        """
        raise NotImplementedError

    def saved(self, checkpoint: dict[str, Any]) -> Any:
        """The value that the run of a checkpoint used."""
        raise NotImplementedError

    def use(self, value: Any, model: LightningModule, datamodule: LightningDataModule) -> None:
        """Make the run use the value."""
        raise NotImplementedError


def find_values(
    finders: Sequence[Finder],
    trainer: Trainer,
    model: LightningModule,
    datamodule: LightningDataModule,
    trial: Trial,
    checkpoint: dict[str, Any] | None,
) -> dict[str, Any]:
    """Find the values one after the other and use them, without drawing global random numbers.

    Args:
        finders: in this order, each using the values found before.
        trainer: the run's.
        model: the run's.
        datamodule: the run's.
        trial: builds trainers for the finders.
        checkpoint: that of a resumed run, whose values are used instead of searching.

    Returns:
        The values by option.
    """
    found: dict[str, Any] = {}
    for finder in finders:
        name = type(finder).__name__
        if trainer.fast_dev_run:
            log.info("%s is skipped: one batch (fast_dev_run) is not enough", name)
            continue
        if checkpoint is not None:
            value = finder.saved(checkpoint)
            log.info("%s is skipped: the resumed run uses %s=%s", name, finder.option, value)
        else:
            with isolate_rng():
                value = finder.find(trainer, _copy(model), datamodule, trial)
            log.info("%s found %s=%s", name, finder.option, value)
        finder.use(value, model, datamodule)
        found[finder.option] = value
    return found


def _copy(model: LightningModule) -> LightningModule:
    copied = copy.deepcopy(model)
    if isinstance(model, BaseModule):
        # Schedules scale the rate; the search is for the rate itself.
        copied.hparams["scheduler"] = {"name": "constant"}
    return copied
