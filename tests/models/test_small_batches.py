"""Batches of one sample and of none: one sentence before the training, or a training that works."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningDataModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ..conftest import BakedProject
from ..support.in_process import Project
from ..support.template_package import Part


class Own(LightningDataModule):
    """A user's datamodule, with plain loaders."""

    def __init__(self, samples: int, batch_size: int, drop_last: bool = False) -> None:
        super().__init__()
        self.x = torch.randn(samples, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        self.batch_size, self.drop_last = batch_size, drop_last

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """The samples in order."""
        dataset = TensorDataset(self.x, torch.arange(len(self.x)) % 2)
        return DataLoader(dataset, self.batch_size, drop_last=self.drop_last)

    val_dataloader = train_dataloader


TOLD: dict[str, Any] = {
    "optimizer": {"name": "SGD", "lr": 0.0},
    "scheduler": {"name": "constant"},
    "input_shape": [1, 8, 8],
    "num_classes": 2,
}


def make_trainer(folder: Path, **options: Any) -> Trainer:
    options = {"max_epochs": 1, "limit_val_batches": 0} | options
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )


def fails(model: Any, data: Own, trainer: Trainer) -> bool:
    """Whether the training itself ends in torch's error."""
    try:
        trainer.fit(model, datamodule=data)
    except ValueError as error:
        assert "more than 1 value per channel" in str(error)
        return True
    return False


@pytest.mark.parametrize(
    ("data", "options", "cause"),
    [
        (Own(4, 1), {}, "data.batch_size is 1"),
        (Own(1, 8), {}, "the training split has 1"),
        (Own(9, 4), {}, "the last batch of the training split has 1"),
        (Own(9, 4, drop_last=True), {}, ""),
        (Own(9, 4), {"limit_train_batches": 2}, ""),
        (Own(9, 4), {"limit_train_batches": 1.0}, "the last batch of the training split has 1"),
        (Own(9, 4), {"limit_train_batches": 0.5}, ""),
        (Own(9, 1), {"fast_dev_run": True}, "data.batch_size is 1"),
        (Own(9, 4), {"accumulate_grad_batches": 8}, "the last batch of the training split has 1"),
        (Own(8, 100), {}, ""),
    ],
)
def test_batch_of_one_is_refused_where_it_would_fail(
    package: Part, tmp_path: Path, data: Own, options: dict[str, Any], cause: str
) -> None:
    """The epoch, or the night, before torch's own error is not lost."""
    model = package("models").Classifier(net={"name": "mlp", "width": 4}, **TOLD)
    model.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check = package("models.batch_sizes").check_batches
    if cause:
        with pytest.raises(package("errors").UserError, match=cause) as error:
            check(model, data, make_trainer(tmp_path, **options))
        assert str(error.value).startswith("Batch normalization cannot train on a batch of one")
    else:
        check(model, data, make_trainer(tmp_path, **options))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert fails(model, data, make_trainer(tmp_path, **options)) == bool(cause)


def test_batch_of_one_image_trains_where_it_can(package: Part, tmp_path: Path) -> None:
    """A channel of an image has many values: that is enough for batch normalization."""
    model = package("models").Classifier(net={"name": "cnn", "width": 4}, **TOLD)
    package("models.batch_sizes").check_batches(model, Own(4, 1), make_trainer(tmp_path))
    assert not fails(model, Own(4, 1), make_trainer(tmp_path))


def test_networks_that_cannot_be_tried_are_left_to_the_training(
    package: Part, tmp_path: Path
) -> None:
    """A GAN has two networks, and a language model takes integers."""
    model = package("models").Classifier(net={"name": "mlp", "width": 4}, **TOLD)
    check = package("models.batch_sizes").check_batches
    for net in (nn.ModuleDict({"critic": nn.BatchNorm1d(4)}), nn.Embedding(3, 4)):
        model.net = nn.Sequential(net, nn.BatchNorm1d(4)) if isinstance(net, nn.Embedding) else net
        check(model, Own(4, 1), make_trainer(tmp_path))


def test_loader_without_batches_is_refused(package: Part, tmp_path: Path) -> None:
    """A training without a step would end as if all were well."""
    model = package("models").Classifier(net={"name": "mlp", "width": 4}, **TOLD)
    with pytest.raises(package("errors").UserError, match=r"has no batch.*32.*has 9") as error:
        check = package("models.batch_sizes").check_batches
        check(model, Own(9, 32, drop_last=True), make_trainer(tmp_path))
    assert "lower data.batch_size" in str(error.value)


def make_simclr(package: Part) -> Any:
    names = ("rotation", "zoom", "shift", "contrast", "noise")
    return package("models.simclr").SimCLR(
        net={"name": "cnn", "width": 4},
        views=dict.fromkeys(names, 0.1),
        features=8,
        projection=4,
        temperature=0.2,
        probe_samples=4,
        **TOLD,
    )


def test_single_image_does_not_improve_the_contrastive_loss(package: Part, tmp_path: Path) -> None:
    """One image has nothing to be told from: its loss of zero says nothing about the features."""
    model, losses = make_simclr(package), []
    original = model.loss

    def noted(*args: Any) -> Tensor:
        losses.append(original(*args))
        return losses[-1]

    model.loss = noted
    trainer = make_trainer(tmp_path, limit_val_batches=1.0, num_sanity_val_steps=0)
    trainer.fit(model, datamodule=Own(5, 4, drop_last=False))
    measured = float(trainer.callback_metrics["val/loss"])
    (first,) = [float(loss) for loss in losses if not loss.requires_grad]
    assert measured == pytest.approx(first, rel=1e-6)
    assert measured > 0.1


@pytest.mark.parametrize("data", [Own(8, 1), Own(1, 8), Own(9, 8)])
def test_contrast_of_one_image_is_refused(package: Part, tmp_path: Path, data: Own) -> None:
    """A training at "loss 0.0000" learns nothing."""
    with pytest.raises(package("errors").UserError, match=r"SimCLR compares .* at least 2"):
        package("models.batch_sizes").check_batches(
            make_simclr(package), data, make_trainer(tmp_path)
        )


def test_refused_batch_size_leaves_nothing_behind(
    demo: BakedProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command ends before it writes a run; `cli.py` removes an empty folder."""
    monkeypatch.syspath_prepend(demo.root)
    project = Project(demo.root, tmp_path)
    options = ("experiment=digits_simclr", "data.batch_size=1", "debug=fast", "trainer=cpu")
    cfg = project.configure("train", tmp_path / "run", *options)
    with pytest.raises(project.module("errors").UserError, match=r"data\.batch_size is 1"):
        project.module("training").train(cfg)
    assert list(tmp_path.rglob("*.*")) == []
