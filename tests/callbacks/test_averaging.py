"""SWA and EMA: the averages are correct, resumable, and leave the training as it was."""

from typing import Any

import pytest

from ..support.in_process import BATCHES, EPOCHS, EVERY_EPOCH, Project, Run
from ..support.training_runs import is_same

# The loss falls, and that is called worse: the run stops after its third epoch.
STOPS_EARLY = (
    "objective.metric=val/loss",
    "objective.mode=max",
    "callbacks.early_stopping.patience=2",
)
SWA = ("callbacks=[default,swa]", "callbacks.swa.start=0.5")
EMA = ("callbacks=[default,ema]", "callbacks.ema.decay=0.9")


@pytest.fixture(scope="module")
def swa(project: Project) -> Run:
    """Epochs 4, 5 and 6 of 6 are averaged."""
    return project.train(*SWA, *EVERY_EPOCH)


@pytest.fixture(scope="module")
def ema(project: Project) -> Run:
    return project.train(*EMA, *EVERY_EPOCH, "scheduler=one_cycle")


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


def test_averaged_weights_are_no_checkpoint_to_resume(project: Project, swa: Run) -> None:
    """Training on from averaged weights would need an optimizer that never saw them."""
    path = swa.folder / "checkpoints" / "swa.ckpt"
    assert "use last.ckpt" in project.explain(*SWA, f"ckpt_path={path}")
