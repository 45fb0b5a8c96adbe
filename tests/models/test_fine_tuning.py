"""Fine-tuning: what is pretrained helps, and a run interrupted in any phase resumes identically."""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ..support.digit_files import SIDE, write_digits
from ..support.in_process import EVERY_EPOCH, Project, Run, on_one_thread
from ..support.training_runs import changed_layers, is_same

# The smallest network of torchvision with batch normalization.
SMALL = (
    "experiment=finetune",
    "model.backbone=torchvision/shufflenet_v2_x0_5",
    "model.weights=null",
    "trainer=cpu",
    "logger=none",
    f"data.height={SIDE}",
    f"data.width={SIDE}",
    "data.num_workers=0",
    "data.shift=2",
    "callbacks.early_stopping.patience=99",
)
# In 28 images there are 4 batches. Phases: the head; with the upper part; all, for two epochs.
BATCHES = 4
PHASES = (
    "data.batch_size=8",
    "model.num_parts=2",
    "callbacks.unfreezing.freeze_epochs=1",
    "trainer.max_epochs=4",
    "test=false",
)


@pytest.fixture(scope="module")
def project(bake: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = bake(project_name="Finer", package_name="package_of_finer_tests").root
    with on_one_thread(root, tmp_path_factory.mktemp("finer")) as project:
        yield project


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Zeros and ones, 20 images each."""
    root = tmp_path_factory.mktemp("images")
    for digit in (0, 1):
        write_digits(root / str(digit), digit, 0, 20)
    return root


@pytest.fixture(autouse=True)
def usual_ctrl_c() -> Iterator[None]:
    """Lightning ignores Ctrl-C for good once it has handled one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def tune(project: Project, images: Path, *options: str) -> Run:
    """Train in a folder of its own."""
    project.count += 1
    folder = project.folder / str(project.count)
    cfg = project.configure("train", folder, *SMALL, f"data.path={images}", *options)
    project.module("training").train(cfg)
    return Run(folder, json.loads((folder / "run.json").read_text("utf-8")))


def stop(project: Project, images: Path, batch: int, *options: str) -> Path:
    """Train until Ctrl-C in the middle of a batch; the checkpoint to resume from."""
    target = f"_target_:tests.support.at_batch.SendSignal,batch:{batch},number:2"
    with pytest.raises(SystemExit):
        tune(project, images, f"+callbacks.send={{{target}}}", *options)
    return project.folder / str(project.count) / "checkpoints" / "last.ckpt"


def assert_same(run: Run, whole: Run) -> None:
    """The same weights, optimizer and schedule, to the last bit, and the same metrics."""
    one, other = run.saved("last"), whole.saved("epoch-3")
    for part in ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers"):
        assert is_same(one[part], other[part]), part
    assert run.metrics == whole.metrics


@pytest.fixture(scope="module")
def whole(project: Project, images: Path) -> Run:
    """An uninterrupted training that keeps the checkpoint of every epoch."""
    return tune(project, images, *PHASES, *EVERY_EPOCH)


def test_each_phase_trains_its_parts_and_nothing_else(whole: Run) -> None:
    """A part that is not frozen, or its statistics, would be spoilt by the first gradients."""
    weights = [whole.weights(f"epoch-{epoch}") for epoch in range(4)]
    upper = {"fc", "conv5", "stage4"}
    # The first checkpoint is from the end of the first phase, so compare with the second.
    assert changed_layers(weights[0], weights[1]) == upper
    assert changed_layers(weights[1], weights[2]) == upper | {"conv1", "stage2", "stage3"}
    # Nothing below the head had been trained before.
    moved = whole.saved("epoch-0")["optimizer_states"][0]["state"]
    assert len(moved) == 2  # weight and bias of the head


def test_run_interrupted_in_any_phase_resumes_identically(
    project: Project, images: Path, whole: Run
) -> None:
    """Lightning's own callback freezes again, or cannot load the optimizer."""
    # Where a phase begins, and in the middle of one.
    checkpoints = [whole.folder / "checkpoints" / f"epoch-{epoch}.ckpt" for epoch in range(2)]
    checkpoints += [stop(project, images, epoch * BATCHES + 2, *PHASES) for epoch in range(3)]
    for checkpoint in checkpoints:
        resumed = tune(project, images, *PHASES, f"ckpt_path={checkpoint}")
        assert_same(resumed, whole)


@pytest.mark.parametrize("option", ["trainer=ddp_cpu", "compile=true"])
def test_what_cannot_be_frozen_is_refused_before_any_process_starts(
    project: Project, images: Path, option: str
) -> None:
    """Every trial of a sweep would start its processes and fail."""
    common = [word for word in SMALL if word != "trainer=cpu"]
    cfg = project.configure("train", project.folder / "no", *common, f"data.path={images}", option)
    with pytest.raises(project.module("errors").UserError, match=r"callbacks\.unfreezing"):
        project.module("dry_run").check(cfg)


def test_averaged_weights_of_partly_frozen_networks_resume_identically(
    project: Project, images: Path
) -> None:
    """With accumulated gradients, so that some wait where the run stops."""
    options = (
        *PHASES,
        "callbacks=[unfreezing,default,ema]",
        "callbacks.early_stopping.patience=99",
        "trainer.accumulate_grad_batches=3",
    )
    whole = tune(project, images, *options, *EVERY_EPOCH)
    last = stop(project, images, BATCHES + 2, *options)
    resumed = tune(project, images, *options, f"ckpt_path={last}")
    assert_same(resumed, whole)
    name = "GradualUnfreezing"
    assert not [key for key in resumed.saved("last")["callbacks"] if name in key]


def test_stochastic_averaging_keeps_the_statistics_of_frozen_layers(
    project: Project, images: Path
) -> None:
    """It recomputes those of the others, because averaged weights never had any."""
    options = ("callbacks=[unfreezing,default,swa]", "callbacks.swa.start=0.1")
    frozen = ("callbacks.unfreezing.freeze_epochs=2", "trainer.max_epochs=2", "test=false")
    run = tune(project, images, *PHASES[:2], *options, *frozen)
    swa, last = run.weights("swa"), run.weights("last")
    assert changed_layers(swa, last) == {"fc"}


def test_pretrained_features_classify_what_random_ones_cannot(
    project: Project, tmp_path: Path
) -> None:
    """Five images of each class suffice if other digits have taught the network what digits are.

    Only the head is trained. Guessing has an accuracy of 0.2 with a standard error of 0.018 on 500
    images, which is what random features reach; three trainings on pretrained ones had 0.44 to
    0.53. Weights that were not loaded, or that training spoilt, stay below 0.3.
    """
    source, target = tmp_path / "source", tmp_path / "target"
    for digit in range(5):
        write_digits(source / "train" / str(digit), digit, 0, 150)
        write_digits(source / "val" / str(digit), digit, 150, 10)
        write_digits(target / "train" / str(digit), digit + 5, 0, 5)
        write_digits(target / "val" / str(digit), digit + 5, 5, 5)
        write_digits(target / "test" / str(digit), digit + 5, 10, 100)
    plain = ("data.shift=0", "data.flip=false", "callbacks.unfreezing.freeze_epochs=0")
    whole = ("model.num_parts=1", "model.rate_decay=1.0", "optimizer.lr=3e-3", "test=false")
    pretrained = tune(project, source, *plain, *whole, "trainer.max_epochs=8")
    frozen = ("callbacks.unfreezing.freeze_epochs=99", "optimizer.lr=1e-2", "trainer.max_epochs=30")
    weights = pretrained.folder / "checkpoints" / "best.ckpt"
    accuracies = {}
    for name in (str(weights), "null"):
        tuned = tune(project, target, *plain[:2], *frozen, f"model.weights={name}")
        accuracies[name] = tuned.metrics["test"]["test/acc"]
        start = pretrained.weights("best")
        if name != "null":
            assert changed_layers(start, tuned.weights("best")) == {"fc"}
    assert accuracies["null"] < 0.3
    assert accuracies[str(weights)] > 0.35


def test_model_travels_without_its_weights(
    project: Project, images: Path, whole: Run, tmp_path: Path
) -> None:
    """A checkpoint could otherwise be used only beside the file that its training began with."""
    weights = tmp_path / "weights.pt"
    state = {n.removeprefix("net."): v for n, v in whole.weights("epoch-0").items()}
    torch.save({n: v for n, v in state.items() if not n.startswith(("loss", "metric"))}, weights)
    run = tune(project, images, *PHASES[:2], "trainer.max_epochs=1", f"model.weights={weights}")
    weights.unlink()
    moved = tmp_path / "moved.ckpt"
    shutil.copy(run.folder / "checkpoints" / "best.ckpt", moved)
    loaded = project.module("loading").load_model(moved)
    saved = torch.load(moved, weights_only=True)
    assert is_same(dict(loaded.state_dict()), saved["state_dict"])
    # Predictions read images as the backbone wants them.
    assert loaded.hparams["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert loaded.hparams["preprocessing"]["std"] == [0.229, 0.224, 0.225]
