"""Gradual unfreezing: which parts are trained in which epoch, and what it cannot do."""

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ..support.small_models import trainer
from ..support.template_package import Part
from ..support.training_runs import is_same


@pytest.fixture
def model(package: Part) -> Any:
    """Three layers below a head, whose learning rates halve from the top down."""
    parts = package("models.parts")

    class Small(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
            self.head = nn.Linear(4, 1)
            self.parts = parts.divide(self.body, [], 3)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            loss: Tensor = self.head(self.body(batch[0])).square().mean()
            return loss

        def configure_optimizers(self) -> Any:
            groups = parts.rates_by_part(self, self.parts, 0.1, 0.5)
            return torch.optim.AdamW(groups, lr=0.1)

    torch.manual_seed(0)
    return Small()


def batches(count: int) -> DataLoader[Any]:
    torch.manual_seed(1)
    return DataLoader(TensorDataset(torch.rand(2 * count, 4)), batch_size=2)


class Watch(Callback):
    """Records which layers have a gradient in each epoch, and the rates of each step."""

    def __init__(self) -> None:
        self.trained: list[list[int]] = []
        self.rates: list[list[float]] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Look before the gradients are deleted."""
        layers = [*pl_module.body, pl_module.head]
        self.trained.append([i for i, layer in enumerate(layers) if layer.weight.grad is not None])
        self.rates.append([group["lr"] for group in optimizer.param_groups])


def test_parts_are_unfrozen_from_the_top(
    package: Part, model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A gradient in a frozen layer costs time, and the optimizer would change the layer."""
    unfreezing = package("callbacks").GradualUnfreezing(freeze_epochs=2, every=2)
    watch = Watch()
    with caplog.at_level(logging.INFO):
        trainer(tmp_path, max_epochs=7, callbacks=[unfreezing, watch]).fit(model, batches(1))
    head, two, three, four = [3], [2, 3], [1, 2, 3], [0, 1, 2, 3]
    assert watch.trained == [head, head, two, two, three, three, four]
    assert watch.rates[0] == pytest.approx([0.1, 0.05, 0.025, 0.0125])
    plan = "the head is trained from the first epoch, unfrozen are 2 in epoch 3, 1 in epoch 5, "
    assert f"{plan}0 in epoch 7" in caplog.text
    assert [r.message for r in caplog.records if "trains" in r.message] == [
        "epoch 1 trains the head",
        "epoch 3 trains the head, 2",
        "epoch 5 trains the head, 2, 1",
        "epoch 7 trains the head, 2, 1, 0",
    ]


def test_every_epoch_resumes_identically(package: Part, model: Any, tmp_path: Path) -> None:
    """A callback that froze everything again would train the head only, or end with an error."""
    initial, unfreezing = copy.deepcopy(model), package("callbacks").GradualUnfreezing
    keep = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    options = {"max_epochs": 5, "enable_checkpointing": True}
    callbacks = [unfreezing(freeze_epochs=2), keep]
    whole = trainer(tmp_path, callbacks=callbacks, **options)
    whole.fit(model, batches(2))
    for epoch in range(4):
        again, callbacks = copy.deepcopy(initial), [unfreezing(freeze_epochs=2)]
        resumed = trainer(tmp_path, callbacks=callbacks, max_epochs=5)
        resumed.fit(again, batches(2), ckpt_path=tmp_path / f"epoch={epoch}.ckpt")
        assert is_same(dict(again.state_dict()), dict(model.state_dict()))
        assert is_same(*(each.optimizers[0].state_dict() for each in (resumed, whole)))


def test_learning_rate_finder_keeps_the_ratios(package: Part, model: Any, tmp_path: Path) -> None:
    """It would find a rate for a training whose lowest layers learn as fast as the head."""
    test = package("finders.learning_rate").RangeTest(1e-4, 1e-2, 40)
    watch = Watch()
    trainer(tmp_path, max_epochs=1, callbacks=[test, watch]).fit(model, batches(40))
    assert len(watch.rates) == 40
    for rate, rates in zip(test.rates, watch.rates, strict=True):
        assert rates == pytest.approx([rate, rate / 2, rate / 4, rate / 8])


def test_what_it_cannot_do_is_one_sentence(package: Part, model: Any, tmp_path: Path) -> None:
    """Frozen layers of several processes would never be synchronised, without a word."""
    error, unfreezing = package("errors").UserError, package("callbacks").GradualUnfreezing
    one = trainer(tmp_path)
    with pytest.raises(error, match=r"needs a model with parts, and LightningModule has none: "):
        unfreezing().setup(one, LightningModule(), "fit")
    several = trainer(tmp_path, strategy="ddp", devices=2)
    with pytest.raises(error, match=r"needs trainer\.strategy=ddp_find_unused_parameters_true"):
        unfreezing().setup(several, model, "fit")
    model.body.compile()
    with pytest.raises(error, match=r"set compile=false, or callbacks\.unfreezing=null"):
        unfreezing().setup(one, model, "fit")
    for options in ({"freeze_epochs": -1}, {"every": 0}, {"every": 1.5}):
        with pytest.raises(error, match=r"callbacks\.unfreezing\.\w+ must be an integer of at"):
            unfreezing(**options)
