"""A loss that is not finite is traced to its cause."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Package


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("module", "first in the output of wrong (Log)"),
        ("parameter", "in the parameter last.weight"),
        ("batch", "the batch itself contains such values"),
        ("loss", "in the loss function"),
        ("infinite loss", "in the loss function"),
    ],
)
def test_nan_is_traced_to_its_place(
    place: str, words: str, package: Package, toy: Callable[..., Any]
) -> None:
    """Bad data, a bad layer, a step too large and a bad loss need different cures."""
    import torch
    from torch import nn

    class Log(nn.Module):
        """Has no answer for negative numbers."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.log()

    def spoil(model: Any) -> None:
        if place == "module":
            model.wrong = Log()
            model.between = lambda x: model.wrong(x)
        elif place == "parameter":
            model.last.weight.data[0, 3] = math.inf
        elif "loss" in place:
            factor = math.inf if place == "infinite loss" else math.nan
            model.training_step = lambda batch, batch_idx: model(batch[0]).square().mean() * factor

    data = torch.randn(12, 4)
    if place == "batch":
        data[6, 1] = math.nan
    error = package("errors").UserError
    with pytest.raises(error) as told:
        toy(package("callbacks").NaNGuard(), prepare=spoil, data=data, num_sanity_val_steps=0)
    assert words in str(told.value)
    batch = 1 if place == "batch" else 0
    assert f"at batch {batch} of epoch 0 (batch {batch} of the run" in str(told.value)


def test_loss_that_is_looked_at_later_is_told_with_its_own_batch(
    package: Package, toy: Callable[..., Any]
) -> None:
    """As on a GPU, where looking at every loss would wait for the device at every step."""

    def spoil(model: Any) -> None:
        def step(batch: Any, batch_idx: int) -> Any:
            return model(batch[0]).mean() * 0 + (math.inf if batch_idx == 1 else 0)

        model.training_step = step

    with pytest.raises(package("errors").UserError, match="at batch 1 of epoch 0 "):
        toy(
            package("callbacks").NaNGuard(),
            prepare=spoil,
            detect_anomaly=True,
            log_every_n_steps=3,
        )


def test_float16_weights_are_named_as_the_cause(package: Package, toy: Callable[..., Any]) -> None:
    """A lower rate does not help where the eps of Adam is zero."""

    def use_adam(model: Any) -> None:
        import torch

        model.configure_optimizers = lambda: torch.optim.Adam(model.parameters(), lr=0.01)

    with pytest.raises(package("errors").UserError, match="16-mixed or bf16-true"):
        toy(
            package("callbacks").NaNGuard(),
            prepare=use_adam,
            precision="16-true",
            max_epochs=3,
            num_sanity_val_steps=0,
        )
