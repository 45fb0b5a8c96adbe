"""Options that are found before the training, and combinations of options that are refused."""

import json
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ..conftest import BakedProject
from ..support.in_process import EVERY_EPOCH, SMALL, Project, Run
from ..support.training_runs import is_same, train

SWA = ("callbacks=[default,swa]", "callbacks.swa.start=0.5")
EMA = ("callbacks=[default,ema]", "callbacks.ema.decay=0.9")
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
    assert sentence in project.explain(*options)


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
