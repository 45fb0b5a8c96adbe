"""A loss that is maximised crowns the worst epoch and the worst trial, without a word."""

import logging
from pathlib import Path

import pytest
import yaml

from ..support.template_package import PACKAGE, Part


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("val/loss", "min"),
        ("val_loss/dataloader_idx_1", "min"),
        ("train_loss_epoch", "min"),
        ("val/acc", "max"),
        ("test_F1", "max"),
        ("val/r2", "max"),
        ("val/recall_triangle", "max"),
        ("fid", None),
        ("val/lossless_ratio", None),
        ("accuracy_loss", None),  # both, so it is left to the owner
    ],
)
def test_name_tells_the_direction(package: Part, metric: str, direction: str | None) -> None:
    """A name that says nothing must not be judged."""
    assert package("objective").direction_of(metric) == direction


def test_command_cannot_inherit_the_wrong_direction(
    package: Part, caplog: pytest.LogCaptureFixture
) -> None:
    """The default experiment maximises; `objective.metric=val_loss` alone would keep that."""
    check, error = package("objective").check_direction, package("errors").UserError
    with pytest.raises(error, match=r"maximise val_loss: add objective\.mode=min"):
        check("val_loss", "max", ["model=mine", "objective.metric=val_loss"])
    with pytest.raises(error, match=r"minimise val_acc: add objective\.mode=max"):
        check("val_acc", "min", ["objective.metric=val_acc"])
    check("val_loss", "max", ["objective.metric=val_loss", "objective.mode=max"])
    check("val_loss", "min", ["objective.metric=val_loss"])
    check(None, "min", ["objective=null"])
    with caplog.at_level(logging.WARNING):
        check("train/d_loss", "max", ["experiment=mine"])
    # In a file it may be meant.
    assert "would maximise train/d_loss" in caplog.text


def test_no_experiment_has_the_wrong_direction(package: Part) -> None:
    """What the project brings along is right."""
    direction_of = package("objective").direction_of
    for path in Path(PACKAGE.parent / "configs" / "experiment").glob("*.yaml"):
        config = yaml.safe_load(path.read_text("utf-8").replace("{{", "").replace("}}", ""))
        objective = config.get("objective")
        if objective:
            assert direction_of(objective["metric"]) in (None, objective["mode"]), path.name
