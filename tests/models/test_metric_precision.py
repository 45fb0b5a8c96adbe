"""Metrics of models in half precision, beside NumPy's in float64."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import Metric, SumMetric
from torchmetrics.classification import MulticlassAUROC

from ..support.template_package import Part

# More than bfloat16 (256) and float16 (2048) can count.
SAMPLES = 2200
CLASSES = 3
Batch = tuple[Tensor, Tensor]


class Seen(Metric):
    """Counts samples, as a user's metric may."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Tensor
        self.add_state("seen", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch."""
        self.seen += len(target)

    def compute(self) -> Tensor:
        """The number."""
        return self.seen


def make_classifier(package: Part) -> Any:
    """A classifier that remembers the loss of every batch, with a user's own metrics."""
    base = package("models.classifier").Classifier

    class Watched(base):  # type: ignore[misc, valid-type]
        def __init__(self, **told: Any) -> None:
            super().__init__(**told)
            edges = [0.0, 1 / 3, 0.999]
            auroc = MulticlassAUROC(CLASSES, thresholds=edges, validate_args=False)
            self.add_metrics({"seen": Seen(), "auroc": auroc})
            self.own = torch.nn.ModuleDict({"parts": torch.nn.ModuleList([SumMetric()])})
            self.batches: dict[str, list[tuple[float, int]]] = defaultdict(list)
            self.shown: dict[str, list[Tensor]] = defaultdict(list)

        def shared_step(self, batch: Batch, stage: str) -> Tensor:
            loss: Tensor = super().shared_step(batch, stage)
            if not self.trainer.sanity_checking:
                self.batches[stage].append((loss.item(), len(batch[1])))
                self.own["parts"][0].update(float(len(batch[1])))  # type: ignore[index]
            return loss

    return Watched(
        net={"name": "mlp", "width": 4, "depth": 1},
        optimizer={"name": "SGD", "lr": 0.01},
        scheduler={"name": "constant"},
        input_shape=[5],
        num_classes=CLASSES,
        class_names=["a", "b", "c"],
        preprocessing={"kind": "table"},
    )


def loader(samples: int, batch_size: int) -> DataLoader[Any]:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(samples, 5, generator=random)
    return DataLoader(TensorDataset(x, x[:, :CLASSES].argmax(dim=1)), batch_size=batch_size)


def make_trainer(folder: Path, precision: str, epochs: int) -> Trainer:
    return Trainer(
        accelerator="cpu",
        precision=precision,  # type: ignore[arg-type]
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def mean_of(batches: list[tuple[float, int]]) -> float:
    losses, counts = np.array(batches, dtype=np.float64).T
    return float(np.average(losses, weights=counts))


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_half_precision_counts_every_sample(package: Part, tmp_path: Path, precision: str) -> None:
    """A sample count that stops at 256 makes the mean of every later batch a sum."""
    model = make_classifier(package)
    trainer = make_trainer(tmp_path, precision, epochs=1)
    trainer.fit(model, loader(60, 2), loader(SAMPLES, 3))
    measured = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert next(model.net.parameters()).dtype == {"bf16-true": torch.bfloat16}.get(
        precision, torch.float16
    )
    for stage in ("train", "val"):
        assert measured[f"{stage}/loss"] == pytest.approx(mean_of(model.batches[stage]), rel=1e-6)
    assert measured["val/seen"] == SAMPLES
    assert measured["train/seen"] == 60
    assert float(model.own["parts"][0].compute()) == SAMPLES + 60
    # The user's edges stay where they were put: 0.999 in bfloat16 is 1.
    edges = model.metrics["val_metrics"]["auroc"].thresholds
    assert edges.tolist() == pytest.approx([0.0, 1 / 3, 0.999], rel=1e-7)

    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = make_classifier(package)
    resumed = make_trainer(tmp_path, precision, epochs=2)
    resumed.fit(again, loader(60, 2), loader(SAMPLES, 3), ckpt_path=tmp_path / "last.ckpt")
    loss = float(resumed.callback_metrics["val/loss"])
    assert loss == pytest.approx(mean_of(again.batches["val"]), rel=1e-6)
    assert float(resumed.callback_metrics["val/seen"]) == SAMPLES

    (tested,) = resumed.test(again, loader(SAMPLES, 1), verbose=False)
    assert tested["test/loss"] == pytest.approx(mean_of(again.batches["test"]), rel=1e-6)
    predicted = torch.cat(resumed.predict(again, loader(SAMPLES, 100)))  # type: ignore[arg-type]
    assert predicted.sum(dim=1).numpy() == pytest.approx(1, abs=1e-6)


class PlainModule(LightningModule):
    """A module that knows nothing of this project, with a metric."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.seen = torch.nn.Linear(5, 1), Seen()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Some loss."""
        loss: Tensor = self.net(batch[0]).mean()
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count and log."""
        self.seen.update(batch[0], batch[1])
        self.log("val_seen", self.seen)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Any."""
        return torch.optim.SGD(self.parameters(), 0.1)


def test_half_precision_counts_every_sample_of_a_plain_module(
    package: Part, tmp_path: Path
) -> None:
    """Lightning moves the model after converting it, and torchmetrics then says it is float32."""
    trainer = make_trainer(tmp_path, "bf16-true", epochs=1)
    trainer.callbacks.append(package("callbacks").MetricPrecision())  # type: ignore[attr-defined]
    trainer.fit(PlainModule(), loader(60, 20), loader(600, 2))
    assert float(trainer.callback_metrics["val_seen"]) == 600


def test_mean_does_not_stop_at_the_last_integer_of_float32(package: Part) -> None:
    """Sample 16,777,217 counts as much as the first."""
    mean = package("models.precision").EpochMean()
    mean.update(torch.tensor(1.0), 2**24)
    for _ in range(2000):
        mean.update(torch.tensor(0.0), 1)
    assert float(mean.compute()) == pytest.approx(2**24 / (2**24 + 2000), rel=1e-12)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_half_precision_fits_the_probe_in_full(
    package: Part, tmp_path: Path, precision: str
) -> None:
    """SimCLR's accuracy is that of a linear classifier whose weights were not rounded."""
    torch.manual_seed(0)
    data = package("data.digits").DigitsDataModule(batch_size=128)
    data.setup()
    spec = {"rotation": 15, "zoom": 0.2, "shift": 0.15, "contrast": 0.4, "noise": 0.3}
    model = package("models.simclr.simclr").SimCLR(
        net={"name": "cnn", "width": 4},
        optimizer={"name": "SGD", "lr": 0.0},
        scheduler={"name": "constant"},
        views=spec,
        features=16,
        projection=8,
        temperature=0.2,
        probe_samples=1000,
        input_shape=data.input_shape,
        num_classes=10,
    )
    trainer = make_trainer(tmp_path, precision, epochs=1)
    trainer.fit(model, datamodule=data)
    assert model.probe.weight.dtype == torch.float32
    right, count = 0, 0
    weight, bias = (t.double().numpy() for t in (model.probe.weight, model.probe.bias))
    half = next(model.net.parameters()).dtype
    with torch.inference_mode():
        for x, y in data.val_dataloader():
            features = model.net.eval()(x.to(half)).double().numpy()
            right += int(((features @ weight + bias).argmax(axis=1) == y.numpy()).sum())
            count += len(y)
    assert count == len(data.datasets["val"])
    # Two scores of one image may be equal in float32 and not in float64.
    measured = float(trainer.callback_metrics["val/probe_acc"])
    assert measured == pytest.approx(right / count, abs=1.01 / count)
    # The features are those of an untrained network: better than guessing one of ten.
    assert right / count > 0.2
