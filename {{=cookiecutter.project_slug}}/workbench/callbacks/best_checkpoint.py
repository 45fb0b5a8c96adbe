"""The best checkpoint, also over a resume into another folder."""

import logging
import shutil
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn

from .ema import validated_weights
from .fresh_metrics import FreshMetrics
from .steady_key import SteadyKey

log = logging.getLogger(__name__)


class BestCheckpoint(FreshMetrics, SteadyKey, ModelCheckpoint):
    """Lightning's ModelCheckpoint, which takes the best along when a run goes on elsewhere.

    Lightning forgets the best score when the folder is another one, so that the first epoch after
    the resume would count as the best, however bad it is. It saves the weights that were validated,
    which with EMA are not the ones in training, and those of a validation within an epoch too.
    """

    _resumed_from: Path | None = None
    _validated_step: int | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the weights if they are the best; those of an epoch's end with the epoch."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        if self.monitor not in self.measured_in_validation(trainer):
            return
        self._validated_step = trainer.global_step
        is_saved_later = trainer.is_last_batch and self._should_save_on_train_epoch_end(trainer)
        if not (is_saved_later or trainer.fast_dev_run):
            with validated_weights(trainer, pl_module):
                self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the weights if their epoch is the best."""
        is_old = self._validated_step not in (None, trainer.global_step)
        if is_old or self.monitor not in self.measured_in_epoch(trainer):
            return
        with validated_weights(trainer, pl_module):
            super().on_train_epoch_end(trainer, pl_module)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note where the run comes from."""
        self._resumed_from = Path(trainer.ckpt_path).parent if trainer.ckpt_path else None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best of the checkpoint's run."""
        super().load_state_dict(self._brought_along(state_dict))

    def _brought_along(self, state: dict[str, Any]) -> dict[str, Any]:
        nothing = {name: getattr(self, name) for name in state}
        if not (state["best_model_path"] and self.dirpath and self._resumed_from):
            return nothing
        source = self._resumed_from / Path(state["best_model_path"]).name
        target = Path(self.dirpath) / source.name
        if not source.is_file():
            log.warning(
                "%s is not there: the best checkpoint of this run is the best since the resume",
                source,
            )
            return nothing
        if source.resolve() != target.resolve():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        return state | {
            "dirpath": self.dirpath,
            "best_model_path": str(target),
            "kth_best_model_path": str(target),
            "best_k_models": {str(target): state["best_model_score"]},
        }
