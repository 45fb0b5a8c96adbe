"""Norms of gradients, and warnings when they vanish or explode."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Package, Train, columns


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradient_norms_are_those_of_the_gradients(
    algorithm: str, package: Package, train_here: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever chooses a clip value from these numbers must be able to trust them."""
    before, after, layers = [], [], {}

    def total(parameters: Any) -> float:
        return math.sqrt(sum(float(p.grad.double().square().sum()) for p in parameters))

    def clip(self: Any, optimizer: Any, **options: Any) -> None:
        before.append(total(self.net.parameters()))
        layers.update({"net.head.1": total(self.net.head[1].parameters())})
        self.clip_gradients(optimizer, **options)
        after.append(total(self.net.parameters()))

    model = package("models.classifier").Classifier
    monkeypatch.setattr(model, "configure_gradient_clipping", clip)
    clip_val = {"norm": 0.5, "value": 0.01}[algorithm]
    logged = columns(
        train_here(
            "clipped",
            "trainer.max_epochs=2",
            f"trainer.gradient_clip_val={clip_val}",
            f"+trainer.gradient_clip_algorithm={algorithm}",
        )
    )
    assert logged["grad/norm"] == pytest.approx(before, rel=1e-5)
    assert logged["grad/norm_clipped"] == pytest.approx(after, rel=1e-5)
    assert max(after) < min(before)
    assert len(logged["grad_layers/net.head.1"]) == 2
    assert logged["grad_layers/net.head.1"][-1] == pytest.approx(layers["net.head.1"], rel=1e-5)


def test_norm_below_the_clip_value_stays_as_it_is(
    package: Package, toy: Callable[..., Any]
) -> None:
    """Clipping never lengthens a gradient, so a table in which it does misleads the next choice."""
    rows = toy(package("callbacks").GradientNorms(), gradient_clip_val=1e6).rows
    norms = [row for _, row in rows if "grad/norm" in row]
    assert len(norms) == 3
    assert [row["grad/norm_clipped"] for row in norms] == [row["grad/norm"] for row in norms]


def test_gradients_are_measured_at_the_logging_interval_only(
    package: Package, toy: Callable[..., Any]
) -> None:
    """A measurement at every step would wait for the GPU at every step."""
    callback = package("callbacks").GradientNorms()
    rows = toy(callback, max_epochs=4, log_every_n_steps=5).rows
    assert [step for step, row in rows if "grad/norm" in row] == [5, 10]
    assert [step for step, row in rows if "grad_layers/first" in row] == [3, 6, 9, 12]


def test_layers_without_gradients_are_left_out(
    package: Package, toy: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A frozen layer, as in fine-tuning, neither ends the run nor counts as one that vanishes."""

    def freeze(model: Any) -> None:
        model.first.requires_grad_(False)
        model.unused = model.last.__class__(2, 2)

    rows = toy(package("callbacks").GradientNorms(), prepare=freeze).rows
    names = {name for _, row in rows for name in row}
    assert names == {"grad/norm", "grad_layers/last"}
    assert "gradients" not in caplog.text


@pytest.mark.parametrize(
    ("factor", "words"),
    [(1e-12, "gradients vanish in first ("), (1e6, "gradients explode in first ("), (1.0, None)],
)
def test_warning_names_the_layer(
    factor: float,
    words: str | None,
    package: Package,
    toy: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A network that does not learn is told from one that does, once and with the place."""

    def scale_gradient(x: Any) -> Any:
        return x.detach() + factor * (x - x.detach())

    toy(package("callbacks").GradientNorms(), between=scale_gradient, lr=0.0, max_epochs=2)
    told = [line.getMessage() for line in caplog.records if "gradients" in line.getMessage()]
    assert len(told) == (words is not None)
    if words:
        assert words in told[0]
        assert "last" not in told[0].partition(":")[0]


def test_layers_that_an_optimizer_gets_later_are_measured(
    package: Package, toy: Callable[..., Any]
) -> None:
    """In fine-tuning the body joins after some epochs; its norms are what one then looks for."""
    import torch
    from pytorch_lightning import Callback

    class Joins(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 1:
                trainer.optimizers[0].add_param_group({"params": pl_module.first.parameters()})

    def only_last(model: Any) -> None:
        model.configure_optimizers = lambda: torch.optim.SGD(model.last.parameters(), lr=0.0)

    measured = package("callbacks").GradientNorms()
    rows = toy(measured, Joins(), prepare=only_last, max_epochs=3).rows
    layers = [{name for name in row if "layers" in name} for _, row in rows]
    last, first = "grad_layers/last", "grad_layers/first"
    assert [names for names in layers if names] == [{last}, {last, first}, {last, first}]
