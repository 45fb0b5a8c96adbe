"""What users add to the built-in models: callbacks, parameter groups, networks, losses, metrics."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from ..support.small_models import SAMPLES, loader, make, trainer
from ..support.template_package import Part


class Reader(Callback):
    """Notes the metrics that a user's callback finds at the end of epochs."""

    def __init__(self) -> None:
        self.validated: list[dict[str, float]] = []
        self.trained: list[dict[str, float]] = []

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note those of the validation."""
        if not trainer.sanity_checking:
            self.validated.append(self._read(trainer, "val/"))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note those of the training."""
        self.trained.append(self._read(trainer, "train/"))

    def _read(self, trainer: Trainer, stage: str) -> dict[str, float]:
        values = trainer.callback_metrics.items()
        return {name: float(value) for name, value in values if name.startswith(stage)}


class Watched(Reader):
    """Also notes the loss that each batch had."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[tuple[float, int]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the loss and the number of samples."""
        self.losses.append((outputs["loss"].item(), len(batch[0])))


def test_callbacks_see_the_metrics_of_the_epoch_that_ends(package: Part, tmp_path: Path) -> None:
    """Lightning calls them before the model's own hook: what is logged there comes too late."""
    model = make(package, "Classifier", num_classes=2)
    x = torch.randn(SAMPLES, 3, generator=torch.Generator().manual_seed(0))
    data = loader(x, (x[:, 0] > 0).long())
    seen = Watched()
    trainer(tmp_path, max_epochs=3, callbacks=[seen]).fit(model, data, data)
    batches = len(data)
    for epoch, found in enumerate(seen.trained):
        losses = seen.losses[epoch * batches : (epoch + 1) * batches]
        mean = sum(loss * count for loss, count in losses) / SAMPLES
        assert found["train/loss"] == pytest.approx(mean, rel=1e-6)
    assert len(seen.trained) == len(seen.validated) == 3
    assert len({found["val/loss"] for found in seen.validated}) == 3
    assert set(seen.validated[0]) == {"val/loss", "val/acc", "val/f1"}


class OwnGroups:
    """How a user trains the head faster, and the biases without decay."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weights and biases."""
        net: Any = self.net  # type: ignore[attr-defined]
        biases = [p for name, p in net.named_parameters() if name.endswith("bias")]
        weights = [p for name, p in net.named_parameters() if not name.endswith("bias")]
        return [{"params": weights}, {"params": biases, "weight_decay": 0.0, "lr": 0.5}]


def test_parameter_groups_reach_the_optimizer(package: Part, tmp_path: Path) -> None:
    """A lower rate for a backbone needed a private method, or an optimizer of one's own."""
    base = package("models").Classifier
    model = type("Own", (OwnGroups, base), {})(
        net={"name": "mlp", "width": 4, "depth": 1},
        optimizer={"name": "SGD", "lr": 0.1, "weight_decay": 0.01},
        scheduler={"name": "cosine", "warmup": 0.0},
        input_shape=[3],
        num_classes=2,
    )
    x = torch.randn(60, 3)
    run = trainer(tmp_path, max_epochs=2, limit_train_batches=1)
    run.fit(model, loader(x, (x[:, 0] > 0).long()))
    weights, biases = run.optimizers[0].param_groups
    assert (weights["weight_decay"], biases["weight_decay"]) == (0.01, 0.0)
    # Both follow the schedule, each from its own rate.
    assert (weights["initial_lr"], biases["initial_lr"]) == (0.1, 0.5)
    assert biases["lr"] == pytest.approx(5 * weights["lr"])


class OwnNet(nn.Module):
    """A network that a config names with `_target_`."""

    def __init__(self, input_shape: list[int], num_outputs: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(input_shape[0], width), nn.ReLU(), nn.Linear(width, num_outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        outputs: Tensor = self.layers(x)
        return outputs


def test_network_can_be_given_instead_of_its_name(package: Part) -> None:
    """A class of one's own needed a line in `NETS`; hyperparameters stay plain values."""
    config = OmegaConf.create(
        {
            "_target_": f"{package('models').__name__}.Classifier",
            "net": {"_target_": f"{__name__}.OwnNet", "width": 5},
        }
    )
    facts = {"input_shape": [3], "num_classes": 4}
    build = package("building").build_model
    model = build(config, facts, {"name": "SGD", "lr": 0.1}, {"name": "constant"})
    assert model(torch.zeros(2, 3)).shape == (2, 4)
    assert "net" not in model.hparams
    assert isinstance(make(package, "Classifier", net=model.net, num_classes=4).net, OwnNet)


def test_loss_and_metric_can_be_given_instead_of_their_names(package: Part, tmp_path: Path) -> None:
    """What torch and torchmetrics have needs no line in a table."""
    config = OmegaConf.create(
        {
            "_target_": f"{package('models').__name__}.Regressor",
            "net": {"name": "mlp", "width": 4, "depth": 1},
            "loss": {"_target_": "torch.nn.SmoothL1Loss", "beta": 0.5},
            "metrics": [
                "mae",
                {"name": "total", "metric": {"_target_": "torchmetrics.MeanSquaredError"}},
            ],
        }
    )
    build = package("building").build_model
    model = build(config, {"input_shape": [3]}, {"name": "SGD", "lr": 0.1}, {"name": "constant"})
    x = torch.randn(SAMPLES, 3, generator=torch.Generator().manual_seed(0))
    y = 2 * x[:, 0]
    (found,) = trainer(tmp_path).validate(model, loader(x, y), verbose=False)
    error = (model(x) - y).abs().detach().double().numpy()
    expected = np.where(error < 0.5, error**2, error - 0.25).mean()
    assert found["val/loss"] == pytest.approx(expected, rel=1e-5)
    assert found["val/total"] == pytest.approx((error**2).mean(), rel=1e-5)
    assert set(found) == {"val/loss", "val/mae", "val/total"}
