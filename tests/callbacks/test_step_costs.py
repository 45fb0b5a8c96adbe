"""What Lightning does in every step without effect, and trainings without it."""

from pathlib import Path
from typing import Any

import pytest

from .conftest import Package, Train

Calls = list[tuple[str, str, Any]]


def fit(folder: Path) -> Calls:
    """Train with callbacks of all kinds; which hooks were called, and what `self.log` knew then."""
    from pytorch_lightning import Callback, Trainer
    from pytorch_lightning.callbacks import EarlyStopping, LambdaCallback, ModelCheckpoint
    from pytorch_lightning.demos.boring_classes import BoringModel

    calls: Calls = []

    def note(who: str, hook: str, model: Any) -> None:
        calls.append((who, hook, getattr(model, "_current_fx_name", None)))

    class Usual(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
            note("usual", "on_train_batch_end", pl_module)
            pl_module.log("x", 1.0)

        def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
            note("usual", "on_validation_end", pl_module)

    class Inherits(Usual):
        def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
            note("inherits", "on_exception", pl_module)

    class Adds(Callback):
        def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
            note("adds", "setup", pl_module)
            trainer.callbacks.append(Added())  # type: ignore[attr-defined]

    class Added(Callback):
        def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
            note("added", "setup", pl_module)

    class AddsLater(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, idx: int) -> None:
            if trainer.global_step == 1:
                trainer.callbacks.append(AddedLater())

    class AddedLater(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
            note("added later", "on_train_batch_end", pl_module)

    class SetsAttribute(Callback):
        def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
            if trainer.sanity_checking:
                return
            self.on_train_batch_start = (  # type: ignore[method-assign]
                lambda trainer, pl_module, *args: note("set", "on_train_batch_start", pl_module)
            )

    class Saves(ModelCheckpoint):
        def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
            note("saves", "on_validation_end", pl_module)
            super().on_validation_end(trainer, pl_module)

    class Stops(EarlyStopping):
        def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
            note("stops", "on_validation_end", pl_module)

    class Fails(BoringModel):
        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 2:
                raise RuntimeError("after two epochs")

    attributes = LambdaCallback(
        on_fit_start=lambda trainer, model: note("lambda", "on_fit_start", model)
    )
    late = Callback()
    late.on_before_zero_grad = (  # type: ignore[method-assign]
        lambda trainer, pl_module, optimizer: note("attribute", "on_before_zero_grad", pl_module)
    )
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        limit_train_batches=2,
        limit_val_batches=1,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            Stops("x"),
            Saves(folder),
            Usual(),
            Inherits(),
            Adds(),
            attributes,
            late,
            AddsLater(),
            SetsAttribute(),
        ],
    )
    with pytest.raises(RuntimeError, match="after two epochs"):
        trainer.fit(Fails())
    return calls


def test_hooks_are_called_as_lightning_calls_them(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A callback of the user that is skipped, or comes after the checkpoint, loses its work."""
    from pytorch_lightning.trainer import call

    ours = package("step_costs").call_own_hooks
    # An earlier test may have trained in this process.
    monkeypatch.setattr(call, "_call_callback_hooks", lightnings_own())
    expected = fit(tmp_path / "expected")
    monkeypatch.setattr(call, "_call_callback_hooks", ours)
    assert fit(tmp_path / "found") == expected
    seen = {who for who, *_ in expected}
    kinds = {"usual", "inherits", "added", "saves", "stops", "lambda", "attribute"}
    kinds |= {"added later", "set"}
    assert kinds <= seen


def lightnings_own() -> Any:
    """The function as Lightning defines it, from a second copy of its module."""
    from importlib.util import find_spec, module_from_spec

    spec = find_spec("pytorch_lightning.trainer.call")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module._call_callback_hooks


def test_steps_do_not_look_for_a_driver(
    package: Package, train_here: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine without GPUs, each step of a small network would be slower by a twentieth."""
    import torch

    if torch.cuda.is_available() or torch.version.cuda is None:
        pytest.skip("needs torch with CUDA on a machine without GPUs")
    looks = []

    def look() -> int:
        looks.append("for the driver")
        return -1

    monkeypatch.setattr(torch.cuda, "_raw_device_count_nvml", look)
    # An earlier training in this process may have set it.
    monkeypatch.setattr(torch.cuda, "_cached_device_count", None)
    # As Lightning does when it is imported.
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([weight])
    weight.grad = torch.ones(1)
    optimizer.step()
    assert looks, "torch no longer looks for it: this code can go"
    train_here("run", "trainer.max_epochs=1")
    # The run looked once, and not again for what it writes down, for the seeds and the trainer.
    assert len(looks) == 2
    looks.clear()
    optimizer.step()
    assert torch.cuda.device_count() == 0
    assert not looks
