"""Checks that any model should pass, inherited in one line.

    from model_checks import ModelChecks

    class TestMine(ModelChecks):
        config = ("model=mine", "data=mine")

To disable a check that does not apply to a model:
`test_overfits_one_batch = None`.
"""

import copy
import math
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from omegaconf import DictConfig
from pytorch_lightning import (
    Callback,
    LightningDataModule,
    LightningModule,
    Trainer,
    seed_everything,
)
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader

from workbench import assembly, building
from workbench.config_checks import check_complete
from workbench.runs.checkpoint_file import CheckpointFile

Package = Callable[[str], Any]
Configure = Callable[..., DictConfig]

# More epochs than are trained, because some schedules cannot be built for a single step.
EPOCHS = 10
# Their mean determines whether the loss has fallen: with dropout, single losses vary.
LAST_LOSSES = 5


class ModelChecks:
    """Checks that fail for a model with a wrong implementation.

    Attributes:
        config: options of `train.py` that select model and data.
        batches: the number after which every trainable weight must have changed. A warm-up that
            starts with a learning rate of zero, or a layer that starts with zeros, needs 2.
        overfit_to: the fraction of its first value to which the loss of one batch must fall.
        overfit_steps: the number of steps for that.
        overfit_metric: a logged value that falls instead of the loss that `training_step` returns;
            manual optimization may return none.
    """

    config: tuple[str, ...] = ()
    batches: int = 1
    overfit_to: float = 0.5
    overfit_steps: int = 200
    overfit_metric: str | None = None

    @pytest.fixture(autouse=True)
    def _find_project(self, tmp_path: Path, package: Package, configure: Configure) -> None:
        self.folder, self.package, self.configure = tmp_path, package, configure

    # Override these two for a model without a config, or a trainer with other options.

    def build(self) -> tuple[LightningModule, LightningDataModule | None]:
        """A new model and its data; None if the model has its own loaders."""
        cfg = self.configure("train", *self.config, "compile=false")
        check_complete(cfg)
        datamodule = assembly.build_datamodule(cfg)
        return assembly.build_model(cfg, datamodule), datamodule

    def trainer(self, **options: Any) -> Trainer:
        """A trainer that is fast on any machine."""
        defaults: dict[str, Any] = {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": EPOCHS,
            "limit_train_batches": 1,
            "limit_val_batches": 1,
            "limit_test_batches": 1,
            "limit_predict_batches": 1,
            "num_sanity_val_steps": 0,
            # For modules that use self.logger.experiment.
            "logger": TensorBoardLogger(self.folder),
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": self.folder,
            "plugins": [CheckpointFile()],
        }
        return Trainer(**defaults | options)

    # The checks.

    def test_builds(self) -> None:
        """Config, data and model fit together."""
        model, _ = self._start()
        assert isinstance(model, LightningModule)

    def test_one_step_changes_weights(self) -> None:
        """Every trainable weight gets a gradient and belongs to an optimizer."""
        model, datamodule = self._start()
        first = FirstWeights()
        self._fit(model, datamodule, self.batches, first)
        assert first.weights, "the model has no trainable weights"
        now = dict(model.named_parameters())
        unchanged = [name for name, w in first.weights.items() if torch.equal(w, now[name])]
        assert not unchanged, (
            f"training did not change {', '.join(unchanged)}: pass them to the optimizer and use "
            "them in the loss, or freeze them with requires_grad_(False)"
        )

    def test_checkpoint_reloads_to_identical_outputs(self) -> None:
        """Everything that the outputs depend on is in the checkpoint."""
        model, datamodule = self._start()
        trainer = self._fit(model, datamodule)
        path = self.folder / "model.ckpt"
        trainer.save_checkpoint(path)
        expected = self._measure(model, datamodule)
        # Other initial values, which the checkpoint has to replace.
        found = self._measure(*self._start(seed=1), path)
        assert_equal(found, expected, "the reloaded model gives other outputs")

    def test_overfits_one_batch(self) -> None:
        """A model that cannot memorize one batch does not learn anything."""
        losses = Losses(self.overfit_metric, self.overfit_to)
        model, datamodule = self._start()
        # Within one epoch, because a schedule may lower the learning rate after each.
        repeat = partial(Repeated, times=self.overfit_steps)
        self._change_loaders(model, datamodule, ["train_dataloader"], repeat)
        self._fit(model, datamodule, self.overfit_steps, losses)
        if not losses.values and not model.automatic_optimization:
            pytest.skip("training_step returns no loss: set overfit_metric to a logged value")
        assert losses.values, "training_step returned no loss"
        assert losses.have_fallen(), (
            f"the loss of one batch went from {losses.values[0]:.4g} to {losses.values[-1]:.4g} "
            f"in {len(losses.values)} steps and not to {self.overfit_to:g} of the first value"
        )

    def test_repeats_under_a_seed(self) -> None:
        """All random numbers are drawn from the seeded generators."""
        results = []
        for _ in range(2):
            model, datamodule = self._start()
            trainer = self._fit(model, datamodule, batches=3)
            results.append({**model.state_dict(), **trainer.callback_metrics})
        first, second = results
        assert_equal(second, first, "a second training with the same seed differs")

    def test_accepts_a_batch_of_one(self) -> None:
        """The last batch of an epoch may contain a single sample."""
        model, datamodule = self._start()
        loaders = [loader for _, loader in STAGES.values()]
        smallest = getattr(model, "smallest_batch", 1)
        if smallest == 1:
            loaders.append("train_dataloader")
        self._change_loaders(model, datamodule, loaders, one_by_one)
        if smallest == 1:
            self._fit(model, datamodule)
        self._measure(model, datamodule)
        if smallest > 1:
            pytest.skip(f"trains on {smallest} samples or more; evaluates a single one")

    def test_runs_in_bf16(self) -> None:
        """Mixed precision halves the memory of most models."""
        model, datamodule = self._start()
        losses = Losses(self.overfit_metric)
        self._fit(model, datamodule, 1, losses, precision="bf16-mixed")
        self._measure(model, datamodule, precision="bf16-mixed")
        assert all(map(math.isfinite, losses.values)), f"the loss is {losses.values}"

    @pytest.mark.slow
    def test_runs_compiled(self) -> None:
        """Compiled code computes the same, up to rounding."""
        if not has_compiler():
            pytest.skip("torch.compile needs a C++ compiler and the headers of Python")
        # Inference tensors cannot be trained on afterwards.
        expected = self._measure(*self._start(), inference_mode=False)
        model, datamodule = self._start()
        building.compile_model(model)
        found = self._measure(model, datamodule, inference_mode=False)
        assert_equal(found, expected, "the compiled model gives other outputs", rtol=1e-3)
        self._fit(model, datamodule)

    # Helpers.

    def _start(self, seed: int = 0) -> tuple[LightningModule, LightningDataModule | None]:
        seed_everything(seed, workers=True, verbose=False)
        return self.build()

    def _fit(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None,
        batches: int = 1,
        *callbacks: Callback,
        **options: Any,
    ) -> Trainer:
        """Train one short epoch."""
        trainer = self.trainer(
            callbacks=[*callbacks, OneEpoch()], limit_train_batches=batches, **options
        )
        trainer.fit(model, datamodule=datamodule)
        return trainer

    def _change_loaders(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None,
        names: list[str],
        change: Callable[[Any], Any],
    ) -> None:
        """Replace the methods `names` by ones that return changed loaders."""
        owner = model if datamodule is None else datamodule
        for name in names:
            if building.has_loader(owner, name):
                setattr(owner, name, partial(changed, getattr(owner, name), change))

    def _measure(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None,
        checkpoint: Path | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """What the steps return and log on one batch; of a training step if there are no others."""
        owner = model if datamodule is None else datamodule
        results = {}
        for stage, (step, loader) in STAGES.items():
            if building.has_step(model, step) and building.has_loader(owner, loader):
                returned = Returned()
                trainer = self.trainer(callbacks=[returned], **options)
                seed_everything(0, workers=True, verbose=False)
                run: Any = getattr(trainer, stage)
                run(model, datamodule=datamodule, ckpt_path=checkpoint)
                results[stage] = [returned.values, dict(trainer.callback_metrics)]
        if not results:
            if checkpoint is not None:
                model.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
            seed_everything(0, workers=True, verbose=False)
            results["fit"] = [self._fit(model, datamodule, **options).callback_metrics]
        return results


# Of the trainer: the step of the model and the loader of the data.
STAGES = {
    "validate": ("validation_step", "val_dataloader"),
    "test": ("test_step", "test_dataloader"),
    "predict": ("predict_step", "predict_dataloader"),
}


class OneEpoch(Callback):
    """Ends the training after the first epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin no other epoch."""
        trainer.should_stop = True


class FirstWeights(Callback):
    """The trainable weights before the first step."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy them: all layers are there now."""
        named = pl_module.named_parameters()
        self.weights = {name: w.detach().clone() for name, w in named if w.requires_grad}


class Returned(Callback):
    """The outputs of the steps of an evaluation."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def on_validation_batch_end(self, *arguments: Any, **named: Any) -> None:
        """Keep the third argument: trainer, module, outputs, batch and its number."""
        outputs = arguments[2]
        self.values.append(apply_to_collection(outputs, Tensor, lambda t: t.detach().clone()))

    on_test_batch_end = on_validation_batch_end
    on_predict_batch_end = on_validation_batch_end


class Losses(Callback):
    """The losses of a training, which ends when they have fallen far enough.

    Args:
        metric: a logged value to take for the loss.
        fraction: of the first value; None for no end.
    """

    def __init__(self, metric: str | None = None, fraction: float | None = None) -> None:
        self.metric, self.fraction = metric, fraction
        self.values: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss of the batch."""
        values = trainer.callback_metrics if self.metric else outputs
        name = self.metric or "loss"
        if isinstance(values, Mapping) and name in values:
            self.values.append(float(values[name]))
        if self.fraction is not None and self.have_fallen():
            trainer.should_stop = True

    def have_fallen(self) -> bool:
        """Whether the last losses are below the fraction of the first; also of a negative one."""
        if self.fraction is None or len(self.values) <= LAST_LOSSES:
            return False
        first, last = self.values[0], sum(self.values[-LAST_LOSSES:]) / LAST_LOSSES
        return last <= first - (1 - self.fraction) * abs(first)


class Repeated:
    """The first batch of a loader, several times."""

    def __init__(self, loader: Any, times: int) -> None:
        self.batch, self.times = next(iter(loader)), times

    def __len__(self) -> int:
        return self.times

    def __iter__(self) -> Iterator[Any]:
        # Copies, because a step may change its batch.
        return (copy.deepcopy(self.batch) for _ in range(self.times))


def one_by_one(loader: Any) -> DataLoader[Any]:
    """The samples of a loader, one in each batch."""
    if not isinstance(loader, DataLoader) or loader.batch_sampler is None:
        pytest.skip(f"the batches of this {type(loader).__name__} cannot be made smaller")
    return DataLoader(loader.dataset, batch_size=1, collate_fn=loader.collate_fn)


def changed(make_loaders: Callable[[], Any], change: Callable[[Any], Any]) -> Any:
    """The loaders that a function returns, one or several, each of them changed."""
    loaders = make_loaders()
    if isinstance(loaders, CombinedLoader):
        return CombinedLoader(changed(lambda: loaders.iterables, change), loaders._mode)
    if isinstance(loaders, dict):
        return {name: change(loader) for name, loader in loaders.items()}
    if isinstance(loaders, list | tuple):
        return [change(loader) for loader in loaders]
    return change(loaders)


def assert_equal(found: Any, expected: Any, message: str, rtol: float = 0.0) -> None:
    """All tensors and numbers of two structures are equal."""
    found, expected = _numbers(found), _numbers(expected)
    assert len(found) == len(expected), f"{message}: {len(found)} values, not {len(expected)}"
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(
            one, other, rtol=rtol, atol=rtol / 10, equal_nan=True, msg=lambda m: f"{message}: {m}"
        )


def _numbers(structure: Any) -> list[Any]:
    numbers: list[Any] = []
    apply_to_collection(structure, (Tensor, int, float), numbers.append)
    return numbers


def has_compiler() -> bool:
    """Whether torch.compile can compile for the CPU."""
    compiler = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(
        sys.platform, "g++"
    )
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    return shutil.which(compiler) is not None and headers.is_file()
