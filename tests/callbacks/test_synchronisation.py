"""A training step does not wait for the GPU, except where an entry of the log is due.

Tested on the CPU, by the calls that would wait if the tensors were on a GPU.
"""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.on_gpu.sync_calls import SyncCall, SyncWatch

from ..conftest import BakedProject
from .conftest import Package

EVERY = 5
FIRST, LAST = 2, 2 + 2 * EVERY
# The loss, before the backward pass (NaNGuard) and in the log (StepLog), and the gradients' norm.
DUE = 3
EXPERIMENTS = {
    "digits": ("experiment=digits",),
    "every metric that counts": (
        "experiment=digits",
        "model.metrics=[acc,balanced_acc,f1,precision,recall,specificity,{name: fbeta, beta: 2.0}]",
    ),
    "weighted": ("experiment=digits", "model.loss.class_weight=balanced"),
    "clipped and averaged": (
        *("experiment=digits", "callbacks=[default,ema]", "trainer.gradient_clip_val=1"),
    ),
    "augmented": ("experiment=digits", "data.shift=1", "data.flip=true"),
    "regression": ("experiment=diabetes",),
    "two views": ("experiment=digits_simclr",),
    "text": ("experiment=text", "model.n_layer=1", "model.n_embd=16", "data.block_size=16"),
}


def watched(package: Package, root: Path, folder: Path, *options: str) -> SyncWatch:
    """The calls of a few steps of a training, as they would be on a GPU."""
    from hydra import compose, initialize_config_dir
    from omegaconf import open_dict
    from pytorch_lightning import Trainer

    watch = SyncWatch(FIRST, LAST)
    short = (
        *("trainer=cpu", "trainer.max_epochs=1", f"trainer.limit_train_batches={LAST + 2}"),
        *(f"trainer.log_every_n_steps={EVERY}", "data.batch_size=16", "test=false"),
    )
    with initialize_config_dir(str(root / "configs"), version_base="1.3"):
        cfg = compose("train", [*options, *short])
    with open_dict(cfg):
        cfg.paths.output_dir = str(folder / "run")
        cfg.paths.log_dir = str(folder)
    plain = Trainer.fit

    def fit(trainer: Any, *args: Any, **kwargs: Any) -> None:
        trainer.callbacks.insert(0, watch)
        plain(trainer, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "fit", fit)
        # The guard reads every loss that is on the CPU.
        patch.setattr(package("callbacks.nan_guard"), "is_free_to_read", lambda loss: False)
        package("training").train(cfg)
    return watch


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_step_waits_for_the_gpu_only_where_the_log_is_due(
    experiment: str, package: Package, demo: BakedProject, tmp_path: Path
) -> None:
    """A GPU that is waited for in every step has nothing to do until the CPU has caught up."""
    options = EXPERIMENTS[experiment]
    name = options[0].partition("=")[2]
    if not (demo.root / "configs" / "experiment" / f"{name}.yaml").is_file():
        pytest.skip("this project has no such experiment")
    watch = watched(package, demo.root, tmp_path, *options)
    due = [(step + 1) % EVERY == 0 for step in range(FIRST, LAST)]
    assert sum(due) == 2
    excess = [
        call
        for call, is_due in zip(watch.of_steps(), due, strict=True)
        if call > (DUE if is_due else 0)
    ]
    assert not excess, "\n".join(map(str, watch.calls))
    # Otherwise nothing was watched.
    assert any(watch.of_steps())


def test_a_call_that_waits_is_found(package: Package, toy: Any) -> None:
    """A test that sees nothing would pass for any code."""
    import torch

    watch = SyncWatch(1, 2)

    def prepare(model: Any) -> None:
        def step(batch: Any, batch_idx: int) -> Any:
            loss = model(batch[0]).square().mean()
            float(loss)
            batch[0][batch[0] > 0].sum()
            torch.bincount(torch.arange(3), minlength=4).tolist()
            return loss

        model.training_step = step

    toy(watch, prepare=prepare)
    assert [call.what for call in watch.calls] == [
        "_local_scalar_dense",
        "index",
        "bincount",
        "tolist",
    ]
    assert all(isinstance(call, SyncCall) and call.step == 1 for call in watch.calls)
    assert all("test_synchronisation.py" in call.place for call in watch.calls)
