"""Every network learns, and every checkpoint can be read back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from model_checks import ModelChecks

from workbench.errors import UserError
from workbench.loading import load_model

Package = Callable[[str], Any]
DATA = {
    "classification": {"num_classes": 3, "class_names": ["a", "b", "c"]},
    "multilabel": {"num_classes": 3, "class_names": ["a", "b", "c"], "task": "multilabel"},
    "regression": {"target_name": "y", "target_mean": 0.0, "target_std": 1.0},
}
TARGETS = {
    "classification": torch.tensor([0, 1, 2, 1]),
    "multilabel": torch.tensor([[0.0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]]),
    "regression": torch.tensor([0.3, -1.2, 0.8, 2.0]),
}


class TestMLP(ModelChecks):
    """Images as rows of numbers."""

    config = ("model=mlp", "data=digits")


class TestCNN(ModelChecks):
    """The network of the first run."""

    config = ("model=cnn", "data=digits")


class TestRegressor(ModelChecks):
    """Rows of a table."""

    config = ("model=mlp_regressor", "data=diabetes")


def build(package: Package, task: str, net: str, shape: list[int]) -> Any:
    """A model of a task with default options."""
    models = package("models")
    model_class = models.Regressor if task == "regression" else models.Classifier
    return model_class(
        net={"name": net},
        optimizer={"name": "AdamW", "lr": 1e-3},
        scheduler={"name": "constant"},
        input_shape=shape,
        preprocessing={},
        **DATA[task],
    )


@pytest.mark.parametrize(
    ("task", "net", "shape"),
    [("regression", "mlp", [7]), ("classification", "resnet18", [3, 32, 32])],
)
def test_loss_falls_on_one_batch(package: Package, task: str, net: str, shape: list[int]) -> None:
    """A network whose loss does not fall on four samples is wrong."""
    torch.manual_seed(0)
    model = build(package, task, net, shape)
    x = torch.randn(4, *shape)
    y = TARGETS[task]
    optimizer = torch.optim.Adam(model.net.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        loss = model.loss(model.net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is not None for p in model.net.parameters())


@pytest.mark.parametrize("task", DATA)
def test_predictions_have_the_documented_form(package: Package, task: str) -> None:
    """predict.py writes probabilities of classes or labels, or one value per row."""
    predictions = build(package, task, "mlp", [7])(torch.randn(5, 7))
    if task == "regression":
        assert predictions.shape == (5,)
        return
    assert predictions.shape == (5, 3)
    assert ((predictions > 0) & (predictions < 1)).all()
    if task == "classification":
        assert torch.allclose(predictions.sum(dim=1), torch.ones(5))


def test_unknown_net_is_rejected(package: Package) -> None:
    """The error message names the nearest one."""
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        build(package, "classification", "resnet81", [3, 32, 32])


def test_foreign_file_is_not_a_checkpoint(package: Package, tmp_path: Path) -> None:
    """It is rejected by name, without a traceback."""
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(UserError, match=str(path)):
        load_model(path)
