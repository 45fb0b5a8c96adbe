"""What steers a training: averaged weights, and the values that are found before it starts."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ..conftest import BakedProject
from ..support.in_process import BATCHES, EPOCHS, SMALL, Project, Run, on_one_thread
from ..support.training_runs import is_same, train

# The loss falls, and that is called worse: the run stops after its third epoch.
STOPS_EARLY = (
    "objective.metric=val/loss",
    "objective.mode=max",
    "callbacks.early_stopping.patience=2",
)
EVERY_EPOCH = (
    "++callbacks.last_checkpoint.save_top_k=-1",
    "++callbacks.last_checkpoint.filename='epoch-{epoch}'",
    "++callbacks.last_checkpoint.auto_insert_metric_name=false",
)
SWA = ("callbacks=[default,swa]", "callbacks.swa.start=0.5")
EMA = ("callbacks=[default,ema]", "callbacks.ema.decay=0.9")


@pytest.fixture(scope="module")
def project(bake: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = bake(project_name="Steered", package_name="package_of_steering_tests").root
    with on_one_thread(root, tmp_path_factory.mktemp("steering")) as project:
        yield project


@pytest.fixture(scope="module")
def swa(project: Project) -> Run:
    """Epochs 4, 5 and 6 of 6 are averaged."""
    return project.train(*SWA, *EVERY_EPOCH)


@pytest.fixture(scope="module")
def ema(project: Project) -> Run:
    return project.train(*EMA, *EVERY_EPOCH, "scheduler=one_cycle")


def explained(project: Project, *options: str) -> str:
    """The sentence that a command is refused with."""
    with pytest.raises(Exception) as raised:
        project.train(*options)
    sentence = project.module("hydra_errors").explain(raised.value)
    assert isinstance(sentence, str), f"not a sentence but {raised.value!r}"
    return sentence


def mean(states: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each weight, in float64."""
    return {name: sum(state[name].double() for state in states) / len(states) for name in states[0]}


def is_close(one: dict[str, Any], other: dict[str, Any], names: list[str]) -> bool:
    import torch

    return all(
        torch.allclose(one[name].double(), other[name].double(), rtol=1e-5, atol=1e-7)
        for name in names
    )


def parameters(weights: dict[str, Any]) -> list[str]:
    """Names of what is trained, without the statistics of batch normalisation."""
    return [name for name in weights if name.endswith(("weight", "bias"))]


# Stochastic weight averaging


def test_swa_is_the_mean_of_the_last_epochs(swa: Run) -> None:
    """An average over other epochs, or of one set of weights only, would pass for SWA."""
    averaged = swa.weights("swa")
    names = parameters(averaged)
    assert len(names) > 5
    assert is_close(averaged, mean([swa.weights(f"epoch-{n}") for n in (3, 4, 5)]), names)
    assert not is_close(averaged, mean([swa.weights(f"epoch-{n}") for n in (2, 3, 4, 5)]), names)


def test_swa_adds_no_epoch(swa: Run) -> None:
    """With batch normalisation Lightning's own SWA trains an epoch more, which may become best."""
    assert swa.metrics["final"]["epoch"] == EPOCHS - 1
    assert swa.saved(f"epoch-{EPOCHS - 1}")["global_step"] == EPOCHS * BATCHES


def test_batch_normalisation_fits_the_averaged_weights(project: Project, swa: Run) -> None:
    """Statistics of other weights make the averaged ones look worse than they are."""
    import torch

    checkpoint = swa.folder / "checkpoints" / "swa.ckpt"
    model = project.module("loading").load_model(checkpoint)
    datamodule = project.module("loading").load_run(swa.folder).datamodule
    images = torch.cat([x for x, _ in datamodule.train_dataloader()])
    with torch.no_grad():
        outputs = model.net.features[0][0](images)
    expected = outputs.mean(dim=(0, 2, 3))
    measured = swa.weights("swa")["net.features.0.1.running_mean"]
    assert torch.allclose(measured, expected, rtol=1e-4, atol=1e-5)
    averaged_too = swa.saved("epoch-5")["callbacks"]["SWA"]["average"]
    stale = averaged_too["net.features.0.1.running_mean"]
    assert not torch.allclose(stale, expected, rtol=1e-4, atol=1e-5)


def test_swa_holds_the_rate(swa: Run) -> None:
    """Weights at a rate near zero hardly differ, and averaging them would mean nothing."""
    rates = [
        swa.saved(f"epoch-{n}")["optimizer_states"][0]["param_groups"][0]["lr"] for n in range(6)
    ]
    assert rates[2] == rates[3] == rates[4] == rates[5] > 0.25 * rates[0]


def test_averaging_alone_leaves_the_training_as_it_was(project: Project, ema: Run) -> None:
    """A run must not get worse, or other, because something is measured beside it."""
    plain = project.train("scheduler=one_cycle")
    assert is_same(plain.weights("last"), ema.weights("epoch-5"))
    beside = project.train(*SWA, "callbacks.swa.hold_rate=false", "scheduler=one_cycle")
    assert is_same(plain.weights("last"), beside.weights("last"))
    assert is_same(plain.weights("best"), beside.weights("best"))
    assert plain.metrics["best"] == beside.metrics["best"]


def test_averaged_weights_are_tested_after_an_early_stop(project: Project) -> None:
    """Lightning's own SWA throws the average away when a run ends early."""
    run = project.train(*SWA, *EVERY_EPOCH, *STOPS_EARLY, "callbacks.swa.start=0.2")
    assert run.metrics["final"]["epoch"] == 2
    averaged = run.weights("swa")
    expected = mean([run.weights(f"epoch-{n}") for n in (1, 2)])
    assert is_close(averaged, expected, parameters(averaged))
    assert run.metrics["test averaged"]["test/acc"] > 0.5


def test_no_averaged_weights_before_averaging_began(project: Project) -> None:
    """Weights that were never averaged must not be tested as if they were."""
    run = project.train(*EMA, *STOPS_EARLY, "callbacks.ema.start=0.9")
    assert run.metrics["final"]["epoch"] == 2
    assert set(run.metrics) == {"best", "final", "test"}
    assert not (run.folder / "checkpoints" / "ema.ckpt").exists()


# Exponential moving average


def test_ema_follows_every_step(project: Project) -> None:
    """With gradient accumulation an average over batches would count each step several times."""
    run = project.train(
        *EMA,
        "trainer.max_epochs=2",
        "trainer.accumulate_grad_batches=3",
        "trainer.gradient_clip_val=0.5",
        "++callbacks.last_checkpoint.every_n_train_steps=1",
        "++callbacks.last_checkpoint.save_on_train_epoch_end=false",
        "++callbacks.last_checkpoint.save_top_k=-1",
        "++callbacks.last_checkpoint.filename='step-{step}'",
        "++callbacks.last_checkpoint.auto_insert_metric_name=false",
    )
    steps = 2 * 6  # 16 batches are five steps of three and one of one
    states = [run.weights(f"step-{n}") for n in range(1, steps + 1)]
    names = [name for name, value in states[0].items() if value.is_floating_point()]
    expected = {name: states[0][name].double() for name in names}
    for n, state in enumerate(states[1:], start=1):
        decay = min(0.9, (1 + n) / (10 + n))
        expected = {k: decay * v + (1 - decay) * state[k].double() for k, v in expected.items()}
    averaged = run.weights("ema")
    assert is_close(averaged, expected, names)
    assert not is_close(averaged, states[-1], names)


def test_ema_is_what_was_validated(project: Project, ema: Run) -> None:
    """The best checkpoint has to hold the weights that were best, not those beside them."""
    best, final = ema.metrics["best"], ema.metrics["final"]
    assert ema.metrics["averaged"]["val/loss"] == pytest.approx(final["val/loss"], rel=1e-6)
    assert ema.metrics["last"]["val/loss"] != pytest.approx(final["val/loss"], rel=1e-3)
    again = project.evaluate(ema.folder / "checkpoints" / "best.ckpt", "val")
    assert again["val/loss"] == pytest.approx(best["val/loss"], rel=1e-6)


def test_late_ema_validates_the_weights_in_training_before(project: Project) -> None:
    """Lightning's own EMA validates untrained weights until it starts, and saves them as best."""
    plain = project.train("scheduler=constant", "trainer.max_epochs=4", *EVERY_EPOCH)
    late = project.train(
        *EMA, *EVERY_EPOCH, "callbacks.ema.start=0.5", "scheduler=constant", "trainer.max_epochs=4"
    )
    rows = [run.saved("epoch-3")["callbacks"]["MetricHistory"]["rows"] for run in (plain, late)]
    assert rows[0][:2] == rows[1][:2]
    assert all(rows[0][epoch]["val/loss"] != rows[1][epoch]["val/loss"] for epoch in (2, 3))


# Both


@pytest.mark.parametrize("kind", ["swa", "ema"])
def test_averaged_weights_reload_to_their_score(
    project: Project, kind: str, request: pytest.FixtureRequest
) -> None:
    """A table is worth nothing if its rows cannot be had again from the files."""
    run: Run = request.getfixturevalue(kind)
    for name, file in (("last", f"epoch-{EPOCHS - 1}"), ("averaged", kind)):
        path = run.folder / "checkpoints" / f"{file}.ckpt"
        for split, part in (("val", name), ("test", f"test {name}")):
            again = project.evaluate(path, split)
            reported = run.metrics[part][f"{split}/loss"]
            assert again[f"{split}/loss"] == pytest.approx(reported, rel=1e-6)
    last, averaged = run.metrics["test last"], run.metrics["test averaged"]
    assert averaged["test/loss"] != pytest.approx(last["test/loss"], rel=1e-3)


RESUMED = {
    "swa": (*SWA, "scheduler=cosine"),
    # Rising losses lower the rate after every epoch, until SWA stops the schedule.
    "swa_plateau": (
        *SWA,
        "scheduler=plateau",
        "scheduler.patience=0",
        "objective.metric=val/loss",
        "objective.mode=max",
    ),
    "ema": (*EMA, "scheduler=one_cycle", "trainer.accumulate_grad_batches=3"),
    "late_ema": (*EMA, "callbacks.ema.start=0.5", "scheduler=step", "scheduler.every=2"),
}


@pytest.mark.parametrize("kind", RESUMED)
def test_resumed_average_equals_the_uninterrupted_one(project: Project, kind: str) -> None:
    """A job that was stopped and went on must not end with another average."""
    options = (*RESUMED[kind], "test=false", "trainer.limit_train_batches=4")
    whole = project.train(*options, *EVERY_EPOCH)
    file = "swa" if kind.startswith("swa") else "ema"
    for epoch in (2, 4):
        checkpoint = whole.folder / "checkpoints" / f"epoch-{epoch}.ckpt"
        resumed = project.train(*options, f"ckpt_path={checkpoint}")
        assert is_same(whole.weights(file), resumed.weights(file))
        assert is_same(whole.weights(f"epoch-{EPOCHS - 1}"), resumed.weights("last"))
        assert is_same(whole.weights("best"), resumed.weights("best"))
        assert whole.metrics == resumed.metrics


def test_run_goes_on_from_the_best_of_an_ema(project: Project) -> None:
    """The best checkpoint holds averaged weights; training has to go on from those beside them."""
    short = ("test=false", "trainer.limit_train_batches=4")
    options = (*EMA, "scheduler=constant", *short, *EVERY_EPOCH)
    whole = project.train(*options)
    part = project.train(*options, "trainer.max_epochs=3")
    done = part.saved("best")["epoch"] + 1
    assert not is_same(part.weights("best"), part.weights(f"epoch-{done - 1}"))
    resumed = project.train(*options, f"ckpt_path={part.folder}/checkpoints/best.ckpt")
    assert is_same(whole.weights(f"epoch-{EPOCHS - 1}"), resumed.weights(f"epoch-{EPOCHS - 1}"))
    assert is_same(whole.weights("ema"), resumed.weights("ema"))


def test_table_shows_best_last_and_averaged(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """What averaging brought is to be seen at the end of the run, without opening a file."""
    run = project.train(*SWA, "trainer.max_epochs=2")
    printed = capsys.readouterr().out
    for name, part in (("best", "test"), ("last", "test last"), ("averaged", "test averaged")):
        (line,) = (line for line in printed.splitlines() if line.startswith(f"│ {name} "))
        assert f"{run.metrics[part]['test/loss']:.4f}" in line


# Learning rate and batch size

FOUND = (
    "finders=lr",
    "finders.lr.num_steps=1000",  # the run has 7 x 6, and no more may be made
    "trainer.max_epochs=7",
    "trainer.accumulate_grad_batches=3",
    "test=false",
)


@pytest.fixture(scope="module")
def found(project: Project) -> Run:
    return project.train(*FOUND, "scheduler=one_cycle", *EVERY_EPOCH)


def test_found_rate_is_used_as_if_it_had_been_given(project: Project, found: Run) -> None:
    """The finder must leave nothing behind but its rate: no weights, random numbers or files."""
    rate = found.manifest["found"]["optimizer.lr"]
    group = found.saved("epoch-0")["optimizer_states"][0]["param_groups"][0]
    assert group["max_lr"] == rate
    assert rate != 2e-3 and 1e-4 < rate < 0.3
    given = project.train(
        f"optimizer.lr={rate}", "finders=none", *FOUND[2:], "scheduler=one_cycle", *EVERY_EPOCH
    )
    assert is_same(given.saved("epoch-0")["state_dict"], found.saved("epoch-0")["state_dict"])
    assert is_same(given.saved("epoch-6")["state_dict"], found.saved("epoch-6")["state_dict"])
    assert found.files() - given.files() == {"figures/lr_finder.png"}
    assert (found.folder / "figures" / "lr_finder.png").stat().st_size > 10_000


def test_found_rate_is_written_down(project: Project, found: Run) -> None:
    """Who reads the config, the manifest or a checkpoint later must see the rate there was."""
    rate = found.manifest["found"]["optimizer.lr"]
    assert found.manifest["config"]["optimizer"]["lr"] == rate
    assert project.module("loading").load_run(found.folder).config.optimizer.lr == rate
    assert found.saved("best")["hyper_parameters"]["optimizer"]["lr"] == rate
    assert found.saved("best")["hyper_parameters"]["scheduler"]["name"] == "one_cycle"


def test_finder_is_left_out_when_a_run_goes_on(project: Project, found: Run) -> None:
    """A second search would start a run anew in the middle of its schedule."""
    resumed = project.train(
        *FOUND, "scheduler=one_cycle", f"ckpt_path={found.folder}/checkpoints/epoch-4.ckpt"
    )
    assert resumed.manifest["found"] == found.manifest["found"]
    assert "figures/lr_finder.png" not in resumed.files()
    assert is_same(resumed.weights("last"), found.weights("epoch-6"))
    hyperparameters = resumed.saved("last")["hyper_parameters"]
    assert hyperparameters["optimizer"]["lr"] == found.manifest["found"]["optimizer.lr"]


def test_requeued_job_goes_on_without_a_search(
    project: Project, found: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster starts the same command again: no second search, and the best weights tested."""
    cluster = {"JOB_ID": 7, "JOB_NAME": "x", "NTASKS": 1, "PROCID": 0, "LOCALID": 0, "NODEID": 0}
    for name, value in cluster.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    folder = project.folder / "requeued"
    folder.mkdir()
    shutil.copy(found.folder / "checkpoints" / "epoch-1.ckpt", folder / "hpc_ckpt_1.ckpt")
    options = (*SMALL, *FOUND[:-1], "scheduler=one_cycle")
    project.module("training").train(project.configure("train", folder, *options))
    run = Run(folder, json.loads((folder / "run.json").read_text("utf-8")))
    assert run.manifest["found"] == found.manifest["found"]
    assert "figures/lr_finder.png" not in run.files()
    assert is_same(run.weights("last"), found.weights("epoch-6"))
    again = project.evaluate(folder / "checkpoints" / "best.ckpt", "test")
    assert run.metrics["test"]["test/loss"] == pytest.approx(again["test/loss"], rel=1e-6)


def test_batch_size_finder_keeps_to_its_limit(project: Project) -> None:
    """Main memory never ends: without a limit a CPU would train on one batch an epoch."""
    options = ("finders=batch_size", "scheduler=cosine", "test=false", "trainer.max_epochs=3")
    run = project.train(*options, "data.batch_size=16", "finders.batch_size.max_size=100")
    assert run.manifest["found"] == {"data.batch_size": 64}
    assert run.saved("last")["global_step"] == 3 * 19
    assert run.saved("last")["datamodule_hyper_parameters"]["batch_size"] == 64


@pytest.mark.parametrize(
    ("configured", "limit", "expected"),
    [(16, 1024, 64), (512, 1024, 64), (100, 1024, 100), (512, 80, 80), (16, 5, 5)],
)
def test_batch_size_finder_stays_within_memory(
    project: Project, configured: int, limit: int, expected: int
) -> None:
    """A size that does not fit must neither end the run nor be taken."""
    finders = project.module("finders")

    class Data:
        hparams: dict[str, int] = {"batch_size": configured}  # noqa: RUF012
        num_samples: dict[str, int] = {"train": 5000}  # noqa: RUF012

    class Trial:
        world_size = 1

        def fit(self, model: Any, data: Data) -> None:
            if data.hparams["batch_size"] > 120:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB.")

    import torch

    finder = finders.BatchSizeFinder(max_size=limit)
    size = finder.find(Trial(), torch.nn.Linear(1, 1), Data(), lambda **options: Trial())
    assert size == expected
    assert Data.hparams == {"batch_size": configured}


def test_range_test_takes_the_steps_there_are(project: Project) -> None:
    """Rates that are never reached, or batches taken for steps, give a curve of something else."""
    assembly = project.module("assembly")
    cfg = project.configure("train", project.folder / "range", *SMALL, *FOUND)
    test = project.module("finders.learning_rate").RangeTest(1e-6, 1e-4, 1000)
    datamodule = assembly.build_datamodule(cfg)
    model = assembly.build_model(cfg, datamodule)
    trainer = assembly.build_quiet_trainer(cfg, callbacks=[test], limit_val_batches=0)
    trainer.fit(model, datamodule)
    assert len(test.rates) == len(test.losses) == trainer.global_step == 42
    assert test.rates[-1] == pytest.approx(1e-4)
    # Ten classes and an untrained network: about log(10).
    assert 2.0 < sum(test.losses[:10]) / 10 < 3.0


def test_search_leaves_the_random_numbers_alone(project: Project) -> None:
    """A run with a found rate must repeat without the search, also without seeded epochs."""
    import torch

    finders = project.module("finders")

    class Throw(finders.Finder):  # type: ignore[misc, name-defined]
        option = "x"

        def find(self, *arguments: Any) -> float:
            return float(torch.rand(()))

        def use(self, *arguments: Any) -> None:
            """Nothing to use."""

    class Trainer:
        fast_dev_run = False

    model = torch.nn.Linear(1, 1)
    model.hparams = {}  # type: ignore[assignment]
    torch.manual_seed(0)
    expected = torch.rand(())
    torch.manual_seed(0)
    found = finders.find_values([Throw()], Trainer(), model, None, None, None)
    assert found == {"x": float(expected)}
    assert torch.rand(()) == expected


def test_steepest_fall_is_found(project: Project) -> None:
    """Where the loss is lowest the rate is already too high; a curve without a fall has none."""
    finder = project.module("finders.learning_rate")
    rates = [10 ** (-6 + 6 * step / 99) for step in range(100)]
    noise = [0.02 * (-1) ** step for step in range(100)]
    # From 2.3 down to 0.2, fastest at 3e-3, and up again behind 1e-1.
    falls = [
        0.2 + 2.1 / (1 + (rate / 3e-3) ** 1.5) + 30 * max(0.0, rate - 0.1) ** 2 + scatter
        for rate, scatter in zip(rates, noise, strict=True)
    ]
    assert finder.steepest(rates, falls) == pytest.approx(3e-3, rel=0.5)
    assert finder.steepest(rates, [2.3 + scatter for scatter in noise]) is None
    assert finder.steepest(rates, [2.3 + rate for rate in rates]) is None


REFUSED = {
    "both averages": (("callbacks=[default,ema,swa]",), "leave one out"),
    "endless swa": ((*SWA, "trainer.max_epochs=-1", "scheduler=constant"), "no end"),
    "plateau without validation": (
        (
            "scheduler=plateau",
            "trainer.limit_val_batches=0",
            "callbacks.early_stopping=null",
            "callbacks.best_checkpoint=null",
        ),
        "scheduler=plateau monitors",
    ),
    "best without validation": (("trainer.limit_val_batches=0",), "disables validation"),
    "plateau every second epoch": (
        ("scheduler=plateau", "trainer.check_val_every_n_epoch=2"),
        "check_val_every_n_epoch=1",
    ),
    "few steps": (
        ("finders=lr", "trainer.max_epochs=4", "trainer.accumulate_grad_batches=2"),
        "has 32",
    ),
    "no fall": (
        ("finders=lr", "finders.lr.min_lr=1e-9", "finders.lr.max_lr=1e-8"),
        "decreased at no rate",
    ),
    "rates in the wrong order": (("finders=lr", "finders.lr.min_lr=2"), "between 0 and"),
    "one batch of a run that goes on": (
        ("debug=fast", "ckpt_path=last.ckpt"),
        "cannot resume a checkpoint",
    ),
    "fraction above one": (
        (*EMA, "callbacks.ema.start=1.5"),
        "ema.start must be a number of at least 0 and below 1",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_mean_anything_is_refused(project: Project, name: str) -> None:
    """A combination without a meaning has to end in a sentence, not in silent nonsense."""
    options, sentence = REFUSED[name]
    assert sentence in explained(project, *options)


def test_averaged_weights_are_no_checkpoint_to_resume(project: Project, swa: Run) -> None:
    """Training on from averaged weights would need an optimizer that never saw them."""
    path = swa.folder / "checkpoints" / "swa.ckpt"
    assert "use last.ckpt" in explained(project, *SWA, f"ckpt_path={path}")


def test_one_batch_tries_every_line(project: Project) -> None:
    """debug=fast has to run with everything on, and leaves no files of weights."""
    run = project.train("debug=fast", "finders=all", *SWA)
    assert run.manifest["status"] == "finished"
    assert not any(file.endswith(".ckpt") for file in run.files())
    assert "found" not in run.manifest


@pytest.mark.slow
def test_two_processes_find_one_rate_and_one_average(
    demo: BakedProject, tmp_path: Path, side_by_side: ThreadPoolExecutor
) -> None:
    """Processes that train with different rates or averages fall apart without a word."""
    options = ("trainer=ddp_cpu", "trainer.max_epochs=4", "finders=lr", "test=false")
    runs: dict[str, Future[Any]] = {
        name: side_by_side.submit(
            train, demo, tmp_path / name, *options, f"callbacks=[default,{name}]"
        )
        for name in ("swa", "ema")
    }
    for name, run in runs.items():
        assert 1e-4 < run.result().manifest["found"]["optimizer.lr"] < 0.3
        assert run.result().metrics["averaged"]["val/acc"] > 0.8, name
        assert run.result().checkpoint(name).is_file()
