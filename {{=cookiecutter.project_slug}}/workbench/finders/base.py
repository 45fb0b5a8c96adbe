"""How values are found, and where they go."""

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.utilities.seed import isolate_rng

from ..models.base import BaseModule

log = logging.getLogger(__name__)

# A trainer as the run's, that leaves no files: `trial(callbacks=[...], max_steps=3)`.
Trial = Callable[..., Trainer]


class Finder:
    """Finds the value of one option by training a copy of the model for a few steps.

    The copy is thrown away, and nothing is written but a picture. The value is used as if it had
    been given on the command line, so such a run repeats exactly without the finder.
    """

    option: ClassVar[str]  # the option that is found, for example "optimizer.lr"

    def find(
        self,
        trainer: Trainer,
        model: LightningModule,
        datamodule: LightningDataModule,
        trial: Trial,
    ) -> Any:
        """Find the value.

        Args:
            trainer: the run's, for its loggers and limits; nothing is trained with it.
            model: a copy of the run's, at its first weights and with a constant rate.
            datamodule: the run's.
            trial: makes trainers to train the copy with.

        Raises:
            UserError: there is no good value.
        """
        raise NotImplementedError

    def saved(self, checkpoint: dict[str, Any]) -> Any:
        """The value that the run of a checkpoint had."""
        raise NotImplementedError

    def use(self, value: Any, model: LightningModule, datamodule: LightningDataModule) -> None:
        """Let the run have the value."""
        raise NotImplementedError


def find_values(
    finders: Sequence[Finder],
    trainer: Trainer,
    model: LightningModule,
    datamodule: LightningDataModule,
    trial: Trial,
    checkpoint: dict[str, Any] | None,
) -> dict[str, Any]:
    """Find the values one after the other and use them; the random numbers stay as they are.

    Args:
        finders: in this order, each with the values found before.
        trainer: the run's.
        model: the run's.
        datamodule: the run's.
        trial: makes trainers for trials.
        checkpoint: of the run that goes on. Then nothing is searched: it had its values.

    Returns:
        The values by the names of their options.
    """
    found: dict[str, Any] = {}
    for finder in finders:
        name = type(finder).__name__
        if trainer.fast_dev_run:
            log.info("%s is left out: one batch (fast_dev_run) says nothing", name)
            continue
        if checkpoint is not None:
            value = finder.saved(checkpoint)
            log.info("%s is left out: the run goes on with %s=%s", name, finder.option, value)
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
        # All schedules are fractions of the rate; the search is for the rate itself.
        copied.hparams["scheduler"] = {"name": "constant"}
    return copied
