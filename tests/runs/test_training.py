"""Training with the real train.py: what it reaches, and what it leaves behind."""

import importlib.metadata
import os
import platform
import re
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch

from ..conftest import BakedProject
from ..support.pictures import write_cifar, write_mnist
from ..support.training_runs import ON_CPU, TrainedRun, is_same, script, train

SHORT = ("trainer.max_epochs=2", "logger=none")
COMMANDS = {
    "seed 0": ("seed=0", *SHORT),
    "seed 0 again": ("seed=0", *SHORT),
    "seed 42": ("seed=42", *SHORT),
    "bf16": ("trainer=bf16", "trainer.max_epochs=4", "logger=none"),
    "no callbacks": ("callbacks=none", *SHORT),
}
Runs = dict[str, "Future[TrainedRun]"]


@pytest.fixture(scope="module")
def runs(
    demo: BakedProject, side_by_side: ThreadPoolExecutor, tmp_path_factory: pytest.TempPathFactory
) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    return {
        name: side_by_side.submit(train, demo, folder / name.replace(" ", "_"), *options)
        for name, options in COMMANDS.items()
    }


# What the first two experiments reach


def test_digits_reach_their_accuracy(digits: TrainedRun) -> None:
    """A first run that learns badly makes the whole project useless."""
    assert digits.manifest["status"] == "finished"
    assert digits.metrics["test"]["test/acc"] >= 0.97


def test_diabetes_reaches_its_r2(diabetes: TrainedRun) -> None:
    """R2 tells that it learns; the mean absolute error, that it speaks in the target's unit."""
    assert diabetes.metrics["test"]["test/r2"] >= 0.40
    assert 30 < diabetes.metrics["test"]["test/mae"] < 60


# What a run leaves behind


def test_run_folder_is_named_by_time_and_name(digits: TrainedRun) -> None:
    """Runs of one second must not share a folder, and a name must find its run."""
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_digits_[0-9a-f]{8}", digits.folder.name)


def test_manifest_tells_code_and_packages(demo: BakedProject, digits: TrainedRun) -> None:
    """Without commit and versions a result cannot be repeated."""
    manifest = digits.manifest
    head = demo.run("git", "rev-parse", "HEAD").stdout.strip()
    git = manifest["git"]
    assert (git["commit"], git["dirty"], git["diff"], git["changed"]) == (head, False, "", {})
    assert all(len(key) == 64 for key in git["untracked"].values())
    assert manifest["python"] == platform.python_version()
    assert manifest["packages"]["torch"] == importlib.metadata.version("torch")
    assert manifest["packages"]["pytorch-lightning"].startswith("2.")
    assert manifest["hardware"]["cpus"] >= 1
    assert manifest["command"] == ["train.py"]
    assert manifest["seed"] == manifest["config"]["seed"] == 42


def test_manifest_tells_times(digits: TrainedRun) -> None:
    """The table of runs shows when a run started and how long it took."""
    manifest = digits.manifest
    assert manifest["started"] < manifest["ended"]
    timings = manifest["timings"]
    assert set(timings) == {"setup", "fit", "test", "total"}
    assert timings["total"] >= timings["setup"] + timings["fit"] + timings["test"]
    assert all(seconds > 0 for seconds in manifest["timings"].values())


def test_manifest_tells_best_and_final_epoch(digits: TrainedRun) -> None:
    """`best` is the epoch of best.ckpt and `final` the last one, each with all its metrics."""
    best, final = digits.metrics["best"], digits.metrics["final"]
    assert (final["epoch"], digits.saved("last")["epoch"]) == (19, 19)
    assert best["epoch"] == digits.saved("best")["epoch"]
    assert {"train/loss", "train/acc", "val/loss", "val/acc", "val/f1"} <= set(best)
    assert best["val/acc"] >= final["val/acc"]
    assert digits.metrics["test"].keys() == {"test/loss", "test/acc", "test/f1"}
    assert digits.manifest["checkpoints"] == {
        "best": str(digits.checkpoint("best")),
        "last": str(digits.checkpoint("last")),
    }


def test_log_holds_every_epoch_and_what_lightning_says(digits: TrainedRun) -> None:
    """Who looks at a job the next morning has nothing but its log file."""
    epochs = re.findall(r"epoch (\d+)/20 .* train/loss \S+ .* val/acc \S+", digits.log)
    assert epochs == [str(number) for number in range(1, 21)]
    assert digits.log.count("`Trainer.fit` stopped: `max_epochs=20` reached") == 1
    assert "19,562 parameters, 19,562 of them trained" in digits.log
    assert "LeafSpec" not in digits.log


def test_log_holds_the_warnings(diabetes: TrainedRun) -> None:
    """A warning that only flew over the screen is lost."""
    assert "[WARNING] " in diabetes.log
    assert "smaller than the logging interval" in diabetes.log


def test_console_ends_with_metrics_and_places(digits: TrainedRun) -> None:
    """The end of the output answers: how good, how long, and where is it?"""
    printed = digits.printed.stdout
    (row,) = (line for line in printed.splitlines() if line.startswith("│ acc "))
    best, final, test = (digits.metrics[part] for part in ("best", "final", "test"))
    values = (best["train/acc"], best["val/acc"], final["train/acc"], final["val/acc"])
    shown = [f"{value:.4f}" for value in (*values, test["test/acc"])]
    assert re.findall(r"\d\S*", row) == shown
    for file in ("", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "figures/loss.png"):
        assert (digits.folder / file).exists()
        assert str(digits.folder / file) in printed
    assert digits.printed.stderr == ""


@pytest.mark.parametrize("name", ["best", "last"])
def test_checkpoints_hold_plain_values(digits: TrainedRun, diabetes: TrainedRun, name: str) -> None:
    """A checkpoint that needs weights_only=False runs code of whoever made it."""
    for run in (digits, diabetes):
        saved = run.saved(name)
        assert saved["hyper_parameters"]["preprocessing"]
        assert all(isinstance(weight, torch.Tensor) for weight in saved["state_dict"].values())


def test_config_of_the_run_repeats_it(digits: TrainedRun) -> None:
    """config.yaml holds values, not references that mean something else tomorrow."""
    config = (digits.folder / "config.yaml").read_text("utf-8")
    assert "${" not in config
    assert f"output_dir: {digits.folder}" in config


# Seeds, precision, callbacks


def test_seed_zero_is_a_seed(runs: Runs) -> None:
    """`if seed:` would take 0 for no seed, and the run could not be repeated."""
    first, again, other = (runs[name].result() for name in ("seed 0", "seed 0 again", "seed 42"))
    assert first.manifest["seed"] == 0
    assert is_same(first.saved()["state_dict"], again.saved()["state_dict"])
    assert first.metrics == again.metrics
    assert not is_same(first.saved()["state_dict"], other.saved()["state_dict"])


def test_bf16_trains(runs: Runs) -> None:
    """Half of the memory is no use if the loss no longer falls or the weights are cut short."""
    run = runs["bf16"].result()
    assert "bfloat16" in run.log
    assert run.metrics["best"]["val/acc"] > 0.85
    assert all(
        weight.dtype != torch.bfloat16 for weight in run.saved("last")["state_dict"].values()
    )


def test_callbacks_none_tests_the_last_weights(runs: Runs) -> None:
    """Bare training still has a result, and writes no checkpoint behind one's back."""
    run = runs["no callbacks"].result()
    assert run.metrics["test"]["test/acc"] > 0.5
    assert list(run.folder.rglob("*.ckpt")) == []
    assert run.manifest["checkpoints"] == {}


def test_interrupt_is_written_down(demo: BakedProject, tmp_path: Path) -> None:
    """After Ctrl-C the run can be resumed, and the table of runs does not call it finished."""
    command = [sys.executable, "train.py", f"hydra.run.dir={tmp_path}", "trainer.max_epochs=500"]
    with subprocess.Popen(
        [*command, "callbacks.early_stopping=null"],
        cwd=demo.root,
        env=os.environ | ON_CPU,
        # Jobs in the background are started without it.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ) as process:
        assert process.stdout
        next(line for line in process.stdout if "epoch 2/" in line)
        process.send_signal(signal.SIGINT)
        rest = process.communicate()[0]
    run = TrainedRun(tmp_path, subprocess.CompletedProcess(command, process.returncode, rest))
    assert process.returncode == 130
    assert run.manifest["status"] == "interrupted"
    assert run.manifest["ended_because"] == "interrupted"
    assert f"resume with ckpt_path={run.checkpoint('last')}" in rest
    assert run.saved("last")["global_step"] > 0
    assert "Traceback" not in rest


# The downloaded data sets, in small


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MNIST, Fashion-MNIST and CIFAR-10 in their own file formats, with few pictures."""
    folder = tmp_path_factory.mktemp("downloaded")
    write_mnist(folder / "MNIST" / "raw")
    write_mnist(folder / "FashionMNIST" / "raw")
    write_cifar(folder / "cifar-10-batches-py")
    return folder


@pytest.fixture(scope="module")
def without_checksums(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder for PYTHONPATH; small files cannot have the checksums of the real ones."""
    folder = tmp_path_factory.mktemp("without_checksums")
    (folder / "sitecustomize.py").write_text(
        "import torchvision.datasets.utils\n"
        "torchvision.datasets.utils.check_md5 = lambda *_, **__: True\n"
    )
    return str(folder)


@pytest.mark.parametrize("experiment", ["mnist", "fashion_mnist"])
def test_mnist_trains(
    demo: BakedProject, downloaded: Path, tmp_path: Path, experiment: str
) -> None:
    """The pictures are real digits: a wrong reader or a wrong label would not be learnt."""
    few = ("data.batch_size=32", "model.net.depth=3", "optimizer.lr=0.01", "trainer.max_epochs=8")
    options = (f"experiment={experiment}", f"paths.data_dir={downloaded}", "logger=none")
    run = train(demo, tmp_path, *options, *few)
    assert run.metrics["test"]["test/acc"] > 0.8
    assert run.saved()["hyper_parameters"]["input_shape"] == [1, 28, 28]


def test_cifar10_trains(
    demo: BakedProject, downloaded: Path, without_checksums: str, tmp_path: Path
) -> None:
    """Colours tell the classes of these pictures: mixed-up channels would not be learnt."""
    options = (f"paths.data_dir={downloaded}", "trainer.max_epochs=6", "data.batch_size=32")
    choices = ("experiment=cifar10_resnet", "model=cnn", "optimizer=adamw", "trainer=cpu")
    run = train(demo, tmp_path, *choices, *options, "logger=none", python_path=without_checksums)
    assert run.metrics["test"]["test/acc"] > 0.8
    assert run.saved()["hyper_parameters"]["class_names"][3] == "cat"


def test_cifar10_resnet_starts(
    demo: BakedProject, downloaded: Path, without_checksums: str, tmp_path: Path
) -> None:
    """Nobody should find a mistake in the big experiment only after renting a GPU for it."""
    options = ("experiment=cifar10_resnet", "debug=fast", "data.batch_size=2")
    data = f"paths.data_dir={downloaded}"
    run = train(demo, tmp_path, *options, data, python_path=without_checksums)
    assert run.manifest["config"]["trainer"]["precision"] == "bf16-mixed"
    assert "not supported by the model summary" not in run.log
    assert 0 <= run.metrics["test"]["test/acc"] <= 1


# Compilation


@pytest.mark.slow
def test_compiled_net_saves_the_same_names(demo: BakedProject, tmp_path: Path) -> None:
    """Names with `_orig_mod.` in them would fit no model that is not compiled."""
    compiled = train(demo, tmp_path / "compiled", "compile=true", "trainer.max_epochs=3")
    plain = train(demo, tmp_path / "plain", "trainer.max_epochs=3")
    assert compiled.saved()["state_dict"].keys() == plain.saved()["state_dict"].keys()
    # Fused operations round differently, nothing more.
    loss = plain.metrics["test"]["test/loss"]
    assert compiled.metrics["test"]["test/loss"] == pytest.approx(loss, rel=0.02)
    script(demo, "evaluate.py", f"ckpt_path={compiled.checkpoint()}")
