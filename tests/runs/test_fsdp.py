"""Weights that two processes divide: what can be seen on the CPU. Speed and memory cannot."""

from pathlib import Path

import pytest
import torch

from ..conftest import BakedProject
from ..support.in_process import EVERY_EPOCH
from ..support.training_runs import TrainedRun, evaluate, is_same, script, train

# The whole training set in every step: the order of its samples, which differs, changes nothing.
# Groups of 1,000 parameters: the layers of this network are in several.
SMALL = (
    "model=mlp",
    "model.net.width=64",
    "model.net.dropout=0",
    "optimizer.lr=0.01",
    "trainer.max_epochs=4",
    "data.batch_size=584",
    "logger=none",
)
TWO = ("trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2")
ON_CPU = (
    "trainer.strategy._target_=tests.support.fsdp.FSDPOnCPU",
    "trainer.strategy.auto_wrap_policy.min_num_params=1000",
)


ROOT = str(Path(__file__).resolve().parents[2])


@pytest.fixture(scope="module")
def divided(demo: BakedProject, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A run of two processes."""
    folder = tmp_path_factory.mktemp("fsdp") / "run"
    return train(demo, folder, *TWO, *ON_CPU, *SMALL, python_path=ROOT)


def test_divided_weights_learn_as_whole_ones(
    demo: BakedProject, divided: TrainedRun, tmp_path: Path
) -> None:
    """Gradients of one half of the samples, or of one part of the weights, would differ."""
    whole = train(demo, tmp_path / "run", *SMALL, "trainer=cpu", "data.batch_size=1168")
    for part in ("best", "final"):
        for name in ("train/loss", "val/loss"):
            # The gradients of two halves are added up in another order than those of the whole.
            found, expected = divided.metrics[part][name], whole.metrics[part][name]
            assert found == pytest.approx(expected, rel=0.01), name
    shapes = {name: weight.shape for name, weight in whole.saved("last")["state_dict"].items()}
    saved = divided.saved("last")["state_dict"]
    assert {name: weight.shape for name, weight in saved.items()} == shapes


def test_checkpoint_is_evaluated_on_one_device(
    demo: BakedProject, divided: TrainedRun, tmp_path: Path
) -> None:
    """A file that only the same number of processes can read is worth little."""
    content = torch.load(divided.checkpoint(), weights_only=True)
    assert content["optimizer_states"][0]["state"]
    evaluated = evaluate(demo, divided.checkpoint(), tmp_path / "evaluation")
    assert evaluated == pytest.approx(divided.metrics["test"], rel=1e-5)


def test_divided_training_resumes_to_the_last_bit(demo: BakedProject, tmp_path: Path) -> None:
    """Weights, momentum and the schedule, from complete files to parts of them.

    Not with Adam: on the CPU, PyTorch gathers its two averages into the same memory.
    """
    options = (*TWO, *ON_CPU, *SMALL, "optimizer=sgd", "trainer.max_epochs=3", "test=false")
    whole = train(demo, tmp_path / "whole", *options, *EVERY_EPOCH, python_path=ROOT)
    middle = f"ckpt_path={whole.folder / 'checkpoints' / 'epoch-0.ckpt'}"
    resumed = train(demo, tmp_path / "run", *options, middle, python_path=ROOT)
    for part in ("global_step", "state_dict", "optimizer_states", "lr_schedulers"):
        assert is_same(resumed.saved("last")[part], whole.saved("epoch-2")[part]), part


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("callbacks=[default,ema]",), ["EMA", "callbacks.ema", "trainer=ddp"]),
        (("callbacks=[default,swa]",), ["SWA", "callbacks.swa"]),
        (("callbacks=[default,histograms]",), ["Histograms", "callbacks.histograms"]),
        (("finders=lr",), ["finders=none"]),
        (("trainer.gradient_clip_val=1",), ["norm", "+trainer.gradient_clip_algorithm=value"]),
        (("trainer.accumulate_grad_batches=2",), ["accumulate_grad_batches=1"]),
    ],
)
def test_what_needs_all_weights_is_refused(
    demo: BakedProject, tmp_path: Path, options: tuple[str, ...], words: list[str]
) -> None:
    """An average of parts of the weights would only look like one."""
    command = ("train.py", f"hydra.run.dir={tmp_path / 'run'}", *TWO, *ON_CPU, *SMALL)
    alone = "trainer.devices=1"
    done = script(demo, *command, alone, *options, check=False, python_path=ROOT)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    for word in words:
        assert word in line
    assert not (tmp_path / "run").exists()


def test_gpus_are_needed(demo: BakedProject, tmp_path: Path) -> None:
    """Lightning divides weights among GPUs only."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    done = script(demo, "train.py", "trainer=fsdp", f"hydra.run.dir={tmp_path}", check=False)
    assert done.returncode == 1
    assert "trainer=auto" in done.stderr
