"""Fine-tuning; delete this file together with `models/fine_tuned.py`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from workbench import assembly

Package = Callable[[str], Any]
Configure = Callable[..., Any]


@pytest.fixture
def model(tmp_path: Path, configure: Configure) -> Any:
    """A small network for two classes of images, one of them black."""
    for name, value in (("black", 0), ("white", 255)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(8):
            grey = value + number * (1 if value == 0 else -1)
            Image.new("RGB", (32, 32), (grey,) * 3).save(
                tmp_path / "images" / name / f"{number}.png"
            )
    cfg = configure(
        "train",
        "experiment=finetune",
        f"data.path={tmp_path / 'images'}",
        "data.height=32",
        "data.width=32",
        "data.num_workers=0",
        "model.backbone=torchvision/squeezenet1_1",
        "model.weights=null",
        "optimizer.lr=0.1",
    )
    torch.manual_seed(0)
    return assembly.build_model(cfg, assembly.build_datamodule(cfg))


def test_lower_parts_learn_more_slowly(model: Any) -> None:
    """Every weight is in one group, and the rates of the groups fall from the head down."""
    groups = model.parameter_groups()
    rates = [0.1 * 0.4**depth for depth in range(5)]
    assert [group["lr"] for group in groups] == pytest.approx(rates)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(map(id, model.parameters()))


def test_a_frozen_backbone_leaves_only_the_head_to_train(model: Any) -> None:
    """As in the first epochs of `callbacks=unfreezing`."""
    for part in model.parts:
        part.set_trained(False)
    x, y = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 0, 1])
    model.training_step((x, y), 0).backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {"net.classifier.1.weight", "net.classifier.1.bias"}


def test_images_are_normalised_as_for_the_backbone(model: Any) -> None:
    """Predictions on new images use the values that the checkpoint stores."""
    assert model.hparams["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
