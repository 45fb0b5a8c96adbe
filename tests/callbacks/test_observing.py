"""What callbacks and profilers report is correct, and observing changes nothing.

The baked project trains in this process: starting one takes longer than these trainings.
"""

import csv
import gzip
import json
import logging
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ..conftest import BakedProject
from ..support.modules import project_module
from ..support.training_runs import TrainedRun, is_same, train

Package = Callable[[str], Any]
Train = Callable[..., Path]
SHORT = (
    "trainer=cpu",
    "trainer.limit_train_batches=5",
    "trainer.limit_val_batches=1",
    "trainer.log_every_n_steps=1",
    "logger=csv",
    "test=false",
)


@pytest.fixture(scope="module")
def package(demo: BakedProject) -> Iterator[Package]:
    """Imports a module of the baked project."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(demo.root)
        project_module("demo", "runs.directory").register_resolvers()
        yield lambda name: project_module("demo", name)
    torch.set_num_threads(threads)


@pytest.fixture
def train_here(package: Package, demo: BakedProject, tmp_path: Path) -> Train:
    """Trains in this process: `train_here("name", "trainer.max_epochs=2")` returns the folder."""

    def trained(name: str, *options: str) -> Path:
        from hydra import compose, initialize_config_dir
        from omegaconf import open_dict

        folder = tmp_path / name
        with initialize_config_dir(str(demo.root / "configs"), version_base="1.3"):
            cfg = compose("train", [*SHORT, *options])
        with open_dict(cfg):
            cfg.paths.output_dir = str(folder)
            cfg.paths.log_dir = str(tmp_path)
        package("training").train(cfg)
        return folder

    return trained


@pytest.fixture
def toy(package: Package) -> Callable[..., Any]:
    """Trains two layers on noise and returns the model and what a logger got.

    `between` is what happens to the first layer's output.
    """
    import torch
    from pytorch_lightning import LightningModule, Trainer
    from pytorch_lightning.loggers import Logger
    from torch import Tensor, nn
    from torch.utils.data import DataLoader, TensorDataset

    class Memory(Logger):
        """Remembers what it is told."""

        def __init__(self) -> None:
            super().__init__()
            self.rows: list[tuple[int, dict[str, float]]] = []

        @property
        def name(self) -> str:
            return "memory"

        @property
        def version(self) -> str:
            return ""

        def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
            """Not needed."""

        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            """Remember."""
            self.rows.append((step or 0, dict(metrics)))

    class Toy(LightningModule):
        """Two layers."""

        def __init__(self, between: Callable[[Tensor], Tensor], lr: float) -> None:
            super().__init__()
            self.first = nn.Linear(4, 8)
            self.relu = nn.ReLU()
            self.last = nn.Linear(8, 1)
            self.between, self.lr = between, lr

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.last(self.relu(self.between(self.first(x))))
            return output

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return self(batch[0]).square().mean()

        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
            self(batch[0])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    def fit(
        *callbacks: Any,
        between: Callable[[Tensor], Tensor] = lambda x: x,
        prepare: Callable[[Any], None] = lambda model: None,
        data: Tensor | None = None,
        lr: float = 0.01,
        ckpt_path: Path | None = None,
        **options: Any,
    ) -> Any:
        torch.manual_seed(0)
        x = torch.randn(12, 4) if data is None else data
        model, memory = Toy(between, lr), Memory()
        prepare(model)
        trainer = Trainer(
            accelerator="cpu",
            logger=memory,
            callbacks=list(callbacks),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **{"max_epochs": 1, "log_every_n_steps": 1} | options,
        )
        loader = DataLoader(TensorDataset(x), batch_size=4)
        trainer.fit(model, loader, loader, ckpt_path=ckpt_path)
        return SimpleNamespace(model=model, rows=memory.rows, trainer=trainer)

    return fit


def columns(folder: Path) -> dict[str, list[float]]:
    """All values of every column of metrics.csv, without the gaps."""
    values: dict[str, list[float]] = {}
    with (folder / "csv" / "metrics.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value:
                    values.setdefault(name, []).append(float(value))
    return values


def checkpoint(folder: Path, name: str = "last") -> dict[str, Any]:
    """The content of a checkpoint."""
    import torch

    content: dict[str, Any] = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return content


# Gradient norms


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


# Histograms, texts and other numbers in TensorBoard


def test_tensorboard_has_everything(train_here: Train, digits: TrainedRun) -> None:
    """The tabs that a user opens are not empty."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tensorboard = EventAccumulator(str(digits.folder / "tensorboard")).Reload()
    scalars = set(tensorboard.Tags()["scalars"])
    assert {"grad/norm", "time/samples_per_second", "device/memory_gb"} <= scalars
    texts = {
        name.removesuffix("/text_summary"): tensorboard.Tensors(name)[0].tensor_proto.string_val[0]
        for name in tensorboard.Tags()["tensors"]
    }
    assert b"| net.features.0.0 | Conv2d(1, 32" in texts["model"]
    assert digits.manifest["packages"]["torch"].encode() in texts["environment"]
    assert digits.manifest["git"]["commit"].encode() in texts["environment"]
    assert b"seed: 42" in texts["config"]

    folder = train_here(
        "histograms", "callbacks=[default,histograms]", "logger=tensorboard", "trainer.max_epochs=2"
    )
    all_of_them = {"histograms": 0}
    tensorboard = EventAccumulator(str(folder / "tensorboard"), all_of_them).Reload()
    for kind in ("parameters", "gradients"):
        drawn = tensorboard.Histograms(f"{kind}/net.head.1.weight")
        assert [event.step for event in drawn] == [5, 10]
        assert all(event.histogram_value.num == 640 for event in drawn)


def test_lightnings_own_logger_gets_what_it_can(
    train_here: Train, caplog: pytest.LogCaptureFixture
) -> None:
    """A logger that is not ours lacks the methods for images, texts and histograms."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = train_here(
        "foreign",
        "callbacks=[default,histograms]",
        "logger=tensorboard",
        "logger.tensorboard._target_=pytorch_lightning.loggers.TensorBoardLogger",
        "trainer.max_epochs=1",
    )
    tags = EventAccumulator(str(folder / "tensorboard")).Reload().Tags()
    assert {"val/acc", "lr", "grad/norm", "time/epoch_seconds"} <= set(tags["scalars"])
    assert tags["images"] == tags["histograms"] == []
    assert "callbacks.histograms needs TensorBoard" in caplog.text
    assert (folder / "figures" / "loss.png").is_file()


def test_long_texts_are_in_the_file_and_not_on_the_console(digits: TrainedRun) -> None:
    """The log, or run.json, tells alone what ran; the console stays readable."""
    line = "| net.features.0.0 | Conv2d(1, 32"
    assert line in digits.log
    assert "weight_decay: 0.01" in digits.log
    assert line not in digits.printed.stdout
    model = digits.manifest["model"]
    assert model["parameters"] == sum(layer["parameters"] for layer in model["layers"]) > 10_000
    first, *_ = model["layers"]
    assert (first["name"], first["parameters"]) == ("net.features.0.0", 288)


# Time


@pytest.fixture
def clock(package: Package, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time that passes in training and validation batches alone: 4 and 10 seconds each."""
    from pytorch_lightning import callbacks

    now = SimpleNamespace(seconds=0.0, training=4.0, validation=10.0)

    class Passing(callbacks.Callback):
        """Lets time pass."""

        def on_train_batch_start(self, *_: Any) -> None:
            now.seconds += now.training

        def on_validation_batch_start(self, *_: Any) -> None:
            now.seconds += now.validation

    time = SimpleNamespace(perf_counter=lambda: now.seconds, monotonic=lambda: now.seconds)
    monkeypatch.setattr(package("callbacks.resources"), "time", time)
    monkeypatch.setattr("pytorch_lightning.callbacks.timer.time", time)
    assembly = package("assembly")
    build_all = assembly.build_all

    def with_time(group: Any) -> list[Any]:
        built: list[Any] = build_all(group)
        return [Passing(), *built] if group and "epoch_log" in group else built

    monkeypatch.setattr(assembly, "build_all", with_time)
    return now


def test_epoch_line_tells_speed_and_time_left(
    clock: SimpleNamespace, train_here: Train, caplog: pytest.LogCaptureFixture
) -> None:
    """Validation must not make training look slow, nor be forgotten in the time left."""
    caplog.set_level(logging.INFO)
    logged = columns(train_here("timed", "trainer.max_epochs=3"))
    # 5 batches of 64 samples in 20 seconds, and a validation batch of 10.
    assert logged["time/samples_per_second"] == [16, 16, 16]
    assert logged["time/epoch_seconds"] == [30, 30, 30]
    lines = [line.getMessage() for line in caplog.records if "samples/s" in line.getMessage()]
    assert "16 samples/s  at most 0:01:00 left" in lines[0]
    assert "16 samples/s  at most 0:00:30 left" in lines[1]
    assert "left" not in lines[2]


def test_time_limit_stops_saves_and_gives_the_next_run_its_whole_time(
    clock: SimpleNamespace, train_here: Train, caplog: pytest.LogCaptureFixture
) -> None:
    """Three cluster jobs of equal length end with the weights of one long job."""
    caplog.set_level(logging.INFO)
    options = ("trainer.max_epochs=8", "scheduler=cosine")
    whole = train_here("whole", *options)
    assert "WALLTIME" not in caplog.text

    # Epochs take 30 seconds: the fourth would fit into 120 but for the margin.
    limit = (*options, "trainer.max_time='00:00:02:00'")
    first = train_here("first", *limit)
    assert checkpoint(first)["epoch"] == 2
    saved = first / "checkpoints" / "last.ckpt"
    assert f"resume with ckpt_path={saved}" in caplog.text
    # 5 epochs of 30 seconds, a fifth more, and two minutes: 5 minutes.
    assert "the remaining 5 epochs take about 00:02:30: request WALLTIME 00:05:00" in caplog.text

    second = train_here("second", *limit, f"ckpt_path={saved}")
    assert checkpoint(second)["epoch"] == 5
    third = train_here("third", *limit, f"ckpt_path={second / 'checkpoints' / 'last.ckpt'}")
    assert is_same(checkpoint(third)["state_dict"], checkpoint(whole)["state_dict"])
    assert caplog.text.count("stopped by the time limit") == 2


def test_epoch_that_takes_too_long_is_cut_off(
    clock: SimpleNamespace, train_here: Train, caplog: pytest.LogCaptureFixture
) -> None:
    """A limit holds even if no epoch fits into it, and the next run continues within the epoch."""
    caplog.set_level(logging.INFO)
    clock.validation = 0.0
    limit = "callbacks.time_limit.duration='00:00:00:12'"
    folder = train_here("cut", "trainer.max_epochs=4", limit)
    assert checkpoint(folder)["global_step"] == 3
    # 2 batches of this epoch and 3 epochs of 5 batches are left, 4 seconds each.
    assert "the remaining 3.4 epochs take about 00:01:08" in caplog.text
    last = f"ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"
    resumed = train_here("continued", "trainer.max_epochs=4", last)
    whole = train_here("in one go", "trainer.max_epochs=4")
    assert is_same(checkpoint(resumed)["state_dict"], checkpoint(whole)["state_dict"])


# Activations


def test_dead_units_are_counted(package: Package, toy: Callable[..., Any], tmp_path: Path) -> None:
    """A layer that puts out nothing but zeros is dead, a half-dead one half."""

    def run(dead_units: int) -> tuple[dict[str, float], Any]:
        def kill(model: Any) -> None:
            model.first.bias.data[:] = 10
            model.first.bias.data[:dead_units] = -10

        callback = package("callbacks").ActivationStats(str(tmp_path / "activations.png"))
        ended = toy(callback, prepare=kill, lr=0.0)
        (row,) = [row for _, row in ended.rows if "activations_dead/relu" in row]
        return row, ended

    assert run(8)[0]["activations_dead/relu"] == 1
    assert run(8)[0]["activations_dead/first"] == 0
    assert run(4)[0]["activations_dead/relu"] == 0.5
    alive, ended = run(0)
    assert alive["activations_dead/relu"] == 0
    (x,) = next(iter(ended.trainer.val_dataloaders))
    expected = ended.model.relu(ended.model.first(x)).detach()
    assert alive["activations_mean/relu"] == pytest.approx(float(expected.mean()), rel=1e-5)
    std = float(expected.std(correction=0))
    assert alive["activations_std/relu"] == pytest.approx(std, rel=1e-5)


def test_drift_is_an_angle(package: Package, toy: Callable[..., Any], tmp_path: Path) -> None:
    """Outputs that only change sign have turned by 180 degrees since the epoch before."""
    from pytorch_lightning import Callback

    class Flip(Callback):
        """Turns the last layer around before every validation."""

        def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
            if not trainer.sanity_checking:
                pl_module.last.weight.data.neg_()
                pl_module.last.bias.data.neg_()

    callback = package("callbacks").ActivationStats(str(tmp_path / "activations.png"))
    rows = [row for _, row in toy(Flip(), callback, lr=0.0, max_epochs=3).rows]
    first = [row["activations_drift_first/last"] for row in rows]
    previous = [row["activations_drift_previous/last"] for row in rows]
    assert first == pytest.approx([0, 2, 0], abs=1e-6)
    assert previous == pytest.approx([0, 2, 2], abs=1e-6)
    assert [row["activations_drift_first/first"] for row in rows] == [0, 0, 0]


def test_activations_go_on_over_a_resume(train_here: Train) -> None:
    """The plot of a resumed run starts with its first epoch, and so does the drift."""
    options = ("callbacks=[default,activations]", "scheduler=constant")
    whole = train_here("whole", *options, "trainer.max_epochs=3")
    part = train_here("part", *options, "trainer.max_epochs=2")
    last = part / "checkpoints" / "last.ckpt"
    resumed = train_here("resumed", *options, "trainer.max_epochs=3", f"ckpt_path={last}")
    states = [checkpoint(folder)["callbacks"]["ActivationStats"] for folder in (whole, resumed)]
    assert len(states[0]["rows"]) == 3
    assert is_same(states[0], states[1])
    assert 0 < columns(resumed)["activations_drift_first/net.head.1"][0] < 1
    assert (resumed / "figures" / "activations.png").stat().st_size > 20_000


# Memory


def test_growing_memory_is_told_of_once(package: Package, caplog: pytest.LogCaptureFixture) -> None:
    """A leak is named before the run dies of it; memory that settles is no leak."""
    callback = package("callbacks").DeviceStats(growing_epochs=3, growth_gb=0.1)
    for gigabytes in (1.0, 1.5, 2.0, 2.0, 1.9, 2.1, 2.11, 2.1):
        callback.watch(gigabytes)
    assert caplog.text == ""
    for gigabytes in (2.2, 2.3, 2.4, 2.5, 2.6, 2.7):
        callback.watch(gigabytes)
    (line,) = caplog.records
    assert "the last 3 epochs, by 0.30 GB" in line.getMessage()
    assert "loss.item()" in line.getMessage()


def test_gpu_memory_is_the_highest_of_each_epoch(
    package: Package, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a GPU a batch size is chosen by the peak, and a leak shows there."""
    import torch

    peaks = {"now": 0}
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: peaks.update(now=0))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: peaks["now"])
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: 2 * peaks["now"])
    monkeypatch.setattr(torch.cuda, "utilization", lambda _: 87)
    rows: list[dict[str, float]] = []
    logger = SimpleNamespace(log_metrics=lambda metrics, step: rows.append(metrics))
    trainer: Any = SimpleNamespace(is_last_batch=True, loggers=[logger], global_step=1)
    module: Any = SimpleNamespace(device=torch.device("cuda", 0))
    callback = package("callbacks").DeviceStats(growing_epochs=2)
    for gigabytes in (3, 4, 5):
        callback.on_train_epoch_start(trainer, module)
        peaks["now"] += gigabytes * 10**9
        callback.on_train_batch_end(trainer, module, None, None, 0)
        callback.on_epoch_measured(trainer, module)
    assert [row["device/cuda_allocated_gb"] for row in rows] == [3, 4, 5]
    assert [row["device/cuda_reserved_gb"] for row in rows] == [6, 8, 10]
    assert rows[0]["device/cuda_percent"] == 87
    assert "memory grew in each of the last 2 epochs, by 2.00 GB" in caplog.text


# NaN


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("module", "first in the output of wrong (Log)"),
        ("parameter", "in the parameter last.weight"),
        ("batch", "the batch itself contains such values"),
        ("loss", "in the loss function"),
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
        elif place == "loss":
            model.training_step = lambda batch, batch_idx: model(batch[0]).mean() * math.nan

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


# Profilers


@pytest.mark.parametrize("length", ["three batches", "fast_dev_run"])
@pytest.mark.parametrize("profiler", ["simple", "advanced", "pytorch"])
def test_profilers_work_with_short_runs(
    profiler: str, length: str, train_here: Train, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody profiles a whole training: a few batches must be enough."""
    caplog.set_level(logging.INFO)
    options = {
        "three batches": ("trainer.limit_train_batches=3", "trainer.max_epochs=2"),
        "fast_dev_run": ("trainer.fast_dev_run=true",),
    }[length]
    folder = train_here("profiled", f"profiler={profiler}", "test=true", *options) / "profile"
    training, testing = {
        "simple": ("run_training_batch", "test_step"),
        "advanced": ("training_step", "test_step"),
        "pytorch": ("aten::convolution_backward", "aten::"),
    }[profiler]
    report, of_test = folder / f"fit-{profiler}.txt", folder / f"test-{profiler}.txt"
    assert training in report.read_text("utf-8")
    assert testing in of_test.read_text("utf-8")
    assert training not in of_test.read_text("utf-8")
    (table,) = [r.getMessage() for r in caplog.records if str(report) in r.getMessage()]
    assert 5 <= len(table.splitlines()) <= 12
    costs = [float(line.split()[0]) for line in table.splitlines()[2:]]
    assert costs == sorted(costs, reverse=True)
    if profiler == "pytorch":
        trace = gzip.decompress((folder / "fit-pytorch.trace.json.gz").read_bytes())
        names = {event.get("name") for event in json.loads(trace)["traceEvents"]}
        assert "aten::convolution_backward" in names


# Together


def test_watching_changes_nothing(train_here: Train) -> None:
    """A run with all callbacks ends with the weights of a run without them."""
    options = ("trainer.max_epochs=2", "model.net.dropout=0.3", "data.shift=1")
    observers = "gradient_norms timing time_limit device run_texts".split()
    without = train_here("without", *options, *[f"callbacks.{name}=null" for name in observers])
    everything = train_here(
        "everything",
        *options,
        "callbacks=[default,activations,histograms]",
        "logger=[csv,tensorboard]",
        "trainer.max_time='01:00:00:00'",
    )
    for name in ("state_dict", "optimizer_states"):
        assert is_same(checkpoint(without)[name], checkpoint(everything)[name])
    # Nothing but the model's own metrics is in the table of the run.
    rows = [json.loads((f / "run.json").read_text())["metrics"] for f in (without, everything)]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_callbacks_work_in_two_processes_and_compiled(demo: BakedProject, tmp_path: Path) -> None:
    """Each process watches its own part, one of them writes; compiled layers are seen as well."""
    options = ("callbacks=[default,activations,histograms]", "trainer.max_epochs=2", "logger=csv")
    two = train(demo, tmp_path / "two", *options, "trainer=ddp_cpu")
    logged = columns(two.folder)
    assert len(logged["time/samples_per_second"]) == 2
    assert len(logged["activations_dead/net.features.0.2"]) == 2
    assert two.printed.stdout.count("samples/s") == 2
    if shutil.which("g++") and sys.platform == "linux":
        compiled = train(demo, tmp_path / "compiled", *options, "compile=true", "model=mlp")
        drift = columns(compiled.folder)["activations_drift_previous/net.layers.1"]
        assert drift[0] == 0 < drift[1]
