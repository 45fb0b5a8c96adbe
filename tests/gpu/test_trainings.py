"""Every kind of training once on the GPU: experiments, DDP, profilers, folds, a NaN."""

import gzip
import json
from pathlib import Path

import pytest

from ..conftest import BakedProject
from ..support.training_runs import TrainedRun
from .conftest import Measured
from .device import IS_GPU, command, train

SHORT = ("trainer.max_epochs=2", "logger=csv")
# All samples in every step: their order, which may be another one, then changes nothing.
WHOLE = (
    *("experiment=digits", "model=mlp", "model.net.dropout=0", "optimizer.lr=0.01"),
    *("data.batch_size=1168", "trainer.max_epochs=6", "logger=none"),
)
EXPERIMENTS: dict[str, tuple[str, ...]] = {
    "diabetes": SHORT,
    "digits_simclr": (*SHORT, "trainer.limit_train_batches=4"),
    "kitchen_sink": ("trainer.max_epochs=6",),
    "cifar10_resnet": (
        *SHORT,
        *("data._target_=gpu_parts.MadeUpCIFAR", "data.batch_size=64", "optimizer.lr=0.01"),
    ),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_trains(
    name: str, project: BakedProject, tmp_path: Path, measured: Measured
) -> None:
    """Nobody should find a tensor on the wrong device only after renting a GPU."""
    run = train(project, tmp_path, f"experiment={name}", *EXPERIMENTS[name])
    assert run.manifest["status"] == "finished"
    loss = run.metrics["final"]["val/loss"]
    assert 0 < loss < 1e6
    measured(f"val/loss {loss:.4f} in {run.manifest['timings']['fit']} s")


@pytest.mark.xdist_group("trainings ddp")
def test_ddp_on_one_device_is_the_same_training(
    project: BakedProject, tmp_path: Path, measured: Measured
) -> None:
    """The strategy of several GPUs, with NCCL, on one."""
    one = train(project, tmp_path / "one", *WHOLE)
    strategy = ("trainer=ddp" if IS_GPU else "trainer=ddp_cpu", "trainer.devices=1")
    words = ("train.py", f"hydra.run.dir={tmp_path}/ddp", *strategy, *WHOLE)
    command(project, *words)
    manifest = json.loads((tmp_path / "ddp" / "run.json").read_text("utf-8"))
    assert manifest["status"] == "finished"
    found, expected = manifest["metrics"]["final"], one.metrics["final"]
    assert found["val/loss"] == pytest.approx(expected["val/loss"], rel=1e-3)
    assert manifest["metrics"]["test"]["test/acc"] == pytest.approx(
        one.metrics["test"]["test/acc"], abs=0.01
    )
    measured(f"val/loss {found['val/loss']:.6f}, without DDP {expected['val/loss']:.6f}")


@pytest.mark.xdist_group("trainings fsdp")
def test_fsdp_on_one_device_is_the_same_training(
    project: BakedProject, tmp_path: Path, measured: Measured, needs_gpu: None
) -> None:
    """Groups of layers are wrapped, sharded and gathered, and both averages of Adam are saved."""
    strategy = ("trainer=fsdp", "trainer.devices=1")
    groups = "trainer.strategy.auto_wrap_policy.min_num_params=1000"
    one = train(project, tmp_path / "one", *WHOLE)
    place = f"hydra.run.dir={tmp_path}/fsdp"
    done = command(project, "train.py", place, *strategy, groups, *WHOLE)
    divided = TrainedRun(tmp_path / "fsdp", done)
    found, expected = divided.metrics["final"], one.metrics["final"]
    assert found["val/loss"] == pytest.approx(expected["val/loss"], rel=1e-3)
    states = divided.saved("last")["optimizer_states"][0]["state"].values()
    assert states
    for state in states:
        # The average of the gradients has signs, that of their squares has none.
        assert (state["exp_avg"] < 0).any()
        assert (state["exp_avg_sq"] >= 0).all()
    measured(f"val/loss {found['val/loss']:.6f}, without FSDP {expected['val/loss']:.6f}")


def test_profiler_records_kernels(
    project: BakedProject, tmp_path: Path, measured: Measured
) -> None:
    """A profile without the GPU's own time shows only who waits for it."""
    few = ("trainer.limit_train_batches=12", "trainer.max_epochs=1", "test=false", "logger=none")
    run = train(project, tmp_path, "experiment=digits", "profiler=pytorch", *few)
    trace = json.loads(
        gzip.decompress((tmp_path / "profile" / "fit-pytorch.trace.json.gz").read_bytes())
    )
    kernels = [event for event in trace["traceEvents"] if event.get("cat") == "kernel"]
    report = (tmp_path / "profile" / "fit-pytorch.txt").read_text("utf-8")
    assert "aten::" in report
    table = run.log.partition("top costs;")[2].splitlines()[2:12]
    costs = [line.split(None, 2) for line in table if line.strip()]
    assert costs
    if IS_GPU:
        assert kernels, "no kernels in the trace"
        assert "CUDA" in report
        names = {event["name"] for event in kernels}
        # Their time is in the operations that started them.
        assert not [cost[2] for cost in costs if any(cost[2] in name for name in names)]
    measured(f"{len(kernels)} kernels; top cost {' '.join(costs[0])}")


@pytest.mark.xdist_group("trainings folds")
def test_folds_train_on_the_gpu(project: BakedProject, tmp_path: Path, measured: Measured) -> None:
    """Each fold is a process of its own, which initializes CUDA by itself."""
    witness = (
        f"+callbacks.witness={{_target_:gpu_parts.TrialWitness,folder:{tmp_path}/w,at_once:1}}"
    )
    run = train(project, tmp_path / "run", "experiment=digits", *SHORT, "data.folds=3", witness)
    assert run.manifest["status"] == "finished"
    seen = [json.loads(path.read_text()) for path in (tmp_path / "w").glob("*.json")]
    assert len(seen) == 3
    assert {fact["device"].partition(":")[0] for fact in seen} == {"cuda" if IS_GPU else "cpu"}
    measured(f"test/acc {run.manifest['metrics']['test']['test/acc']:.3f}")


def test_first_bad_loss_is_named(project: BakedProject, tmp_path: Path, measured: Measured) -> None:
    """The GPU is asked only now and then; the batch named must be the first bad one."""
    options = ("experiment=digits", "optimizer=sgd", "optimizer.lr=1e30", "scheduler=constant")
    done = train(project, tmp_path, *options, "logger=none", check=False).printed
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "The training loss became NaN or infinite at batch" in line
    assert " of epoch 0 " in line
    measured(line[:150])


def test_workers_and_pinned_memory(
    project: BakedProject, tmp_path: Path, measured: Measured
) -> None:
    """Worker processes are forked after CUDA is initialized, and must not touch it."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for name, colour in (("blue", (40, 60, 200)), ("red", (200, 60, 40))):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(40):
            pixels = random.normal(colour, 25, (16, 16, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    data = (f"data.path={tmp_path}/images", "data.num_workers=2")
    options = ("experiment=image_folder", *data, "data.batch_size=8", *SHORT, "model=cnn")
    run = train(project, tmp_path / "run", *options)
    assert run.manifest["status"] == "finished"
    measured(f"val/acc {run.metrics['best']['val/acc']:.2f} with 2 workers")
