"""Options that a resumed run cannot change, and new trainings from old weights."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.in_process import Project, Run, on_one_thread
from ..support.own_data import write_flats
from ..support.training_runs import is_same

COMMON = ("scheduler=constant", "test=false", "trainer.limit_val_batches=2")


@pytest.fixture(scope="module")
def project(bake: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = bake(project_name="Changed", package_name="package_of_changed_tests").root
    with on_one_thread(root, tmp_path_factory.mktemp("changed")) as project:
        yield project


@pytest.fixture(scope="module")
def first(project: Project) -> Run:
    """One epoch of AdamW at the rate 0.002, with batches of 73 and the seed 42."""
    return project.train(*COMMON, "trainer.max_epochs=1")


def checkpoint(run: Run) -> Path:
    return run.folder / "checkpoints" / "last.ckpt"


REFUSED: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "rate": (("optimizer.lr=0.5",), ["optimizer.lr is 0.002", "0.5 here"]),
    "decay": (("optimizer.weight_decay=0.5",), ["optimizer.weight_decay is 0.01", "0.5 here"]),
    "added option": (("+optimizer.amsgrad=true",), ["optimizer.amsgrad is absent", "True here"]),
    "optimizer": (("optimizer=sgd",), ["optimizer.name is AdamW", "SGD here"]),
    "schedule": (("scheduler=step",), ["scheduler.name is constant", "step here"]),
    "batch size": (("data.batch_size=64",), ["data.batch_size is 73", "64 here"]),
    "accumulation": (
        ("trainer.accumulate_grad_batches=2",),
        ["trainer.accumulate_grad_batches is 1", "2 here"],
    ),
    "seed": (("seed=1",), ["seed is 42", "1 here"]),
    "split": (("data.split_seed=5",), ["data.split_seed", "5 here"]),
    "objective": (
        ("objective.metric=val/loss", "objective.mode=min"),
        ["objective.metric is val/acc", "val/loss here"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_option_that_the_checkpoint_overrides_is_refused(
    project: Project, first: Run, name: str
) -> None:
    """The run went on with the old rate, and its config.yaml had the new one."""
    options, words = REFUSED[name]
    resumed = (*COMMON, "trainer.max_epochs=2", f"ckpt_path={checkpoint(first)}", *options)
    with pytest.raises(project.module("errors").UserError) as raised:
        project.train(*resumed)
    sentence = str(raised.value)
    assert all(word in sentence for word in [*words, "weights_from="]), sentence
    assert not any((project.folder / str(project.count)).iterdir())


def test_length_of_a_schedule_is_checked_before_anything_is_written(project: Project) -> None:
    """A refused resume left a folder of a failed run, and a run in Weights & Biases."""
    options = ("test=false", "scheduler=cosine")
    short = project.train(*options, "trainer.max_epochs=1")
    with pytest.raises(project.module("errors").UserError, match=r"made for 16 steps .* has 32"):
        project.train(*options, "trainer.max_epochs=2", f"ckpt_path={checkpoint(short)}")
    assert not any((project.folder / str(project.count)).iterdir())


def test_steps_that_were_made_are_not_made_again(project: Project, first: Run) -> None:
    """Such a run would end at once, and look like a success."""
    with pytest.raises(project.module("errors").UserError, match="already made 16 steps"):
        project.train(
            *COMMON,
            "trainer.max_steps=16",
            "trainer.max_epochs=9",
            f"ckpt_path={checkpoint(first)}",
        )


def test_what_does_not_change_the_training_may_change(
    project: Project, first: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """More epochs, another logger, other callbacks: that is what a resume is for."""
    changed = ("trainer.max_epochs=2", "logger=csv", "callbacks.gradient_norms=null")
    with caplog.at_level(logging.WARNING):
        run = project.train(*COMMON, *changed, f"ckpt_path={checkpoint(first)}")
    assert run.metrics["final"]["epoch"] == 1
    assert not any("another option" in line or "dirpath" in line for line in caplog.messages)
    whole = project.train(*COMMON, "trainer.max_epochs=2")
    assert is_same(run.weights("last"), whole.weights("last"))


def test_option_that_takes_effect_is_named(
    project: Project, first: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """config.yaml shows one value, and the first epochs had another."""
    with caplog.at_level(logging.WARNING):
        project.train(
            *COMMON,
            "trainer.max_epochs=2",
            "model.net.dropout=0.5",
            f"ckpt_path={checkpoint(first)}",
        )
    (line,) = (line for line in caplog.messages if "another option" in line)
    assert "model.net.dropout is" in line
    assert "0.5 here" in line


# New trainings from old weights


def test_weights_start_a_new_training(project: Project, first: Run) -> None:
    """What users mean who resume with another rate: old weights, all else anew."""
    options = ("optimizer=sgd", "optimizer.lr=0.0", "optimizer.weight_decay=0.0")
    run = project.train(
        *COMMON, *options, "trainer.max_epochs=1", f"weights_from={checkpoint(first)}"
    )
    # Nothing moves at the rate 0 but the statistics of batch normalisation.
    before, after = first.weights("last"), run.weights("last")
    trained = [name for name in before if "running" not in name and "num_batches" not in name]
    assert is_same({n: before[n] for n in trained}, {n: after[n] for n in trained})
    assert run.saved("last")["global_step"] == 16
    assert run.manifest["weights_from"]["loaded"] == list(before)


def test_weights_of_another_model_fit_by_name_and_shape(
    project: Project, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A classifier's features, a regressor's head: what does not fit is named."""
    write_flats(tmp_path / "flats.csv", rows=80)
    common = (f"data.path={tmp_path}/flats.csv", "data.batch_size=16", "trainer.max_epochs=1")
    small = ("model.net.width=8", "test=false", "trainer=cpu", "logger=none", "name=x")

    def train(*options: str) -> Run:
        project.count += 1
        folder = project.folder / str(project.count)
        cfg = project.configure("train", folder, *options, *common, *small)
        project.module("training").train(cfg)
        return Run(folder, project.module("runs.manifest").read_manifest(folder))

    classifier = train("experiment=csv", "data.target=dear", "data.drop=[price,city,id]")
    with caplog.at_level(logging.WARNING):
        regressor = train(
            "experiment=csv_regression",
            "data.target=price",
            "data.drop=[city,dear,id]",
            f"weights_from={checkpoint(classifier)}",
        )
    told = regressor.manifest["weights_from"]
    own, saved = regressor.weights("last"), classifier.weights("last")
    same = [n for n in own if n in saved and own[n].shape == saved[n].shape]
    other = [n for n in own if n in saved and own[n].shape != saved[n].shape]
    assert told["loaded"] == same
    assert told["other_shape"] == other
    assert any(own[name].ndim == 2 for name in other), "the head has other outputs"
    text = " ".join(caplog.messages)
    assert all(f"{name} ({tuple(saved[name].shape)}" in text for name in other)


def test_weights_that_fit_nowhere_are_refused(project: Project, first: Run) -> None:
    """A training from first weights would pass for a fine-tuned one."""
    with pytest.raises(project.module("errors").UserError, match="None of the weights"):
        project.train(
            *COMMON,
            "model=mlp",
            "model.net.width=16",
            f"weights_from={checkpoint(first)}",
            "trainer.max_epochs=1",
        )


def test_resume_and_new_training_exclude_each_other(project: Project, first: Run) -> None:
    """One of the two would be ignored."""
    with pytest.raises(project.module("errors").UserError, match="give one of them"):
        project.train(
            *COMMON, f"weights_from={checkpoint(first)}", f"ckpt_path={checkpoint(first)}"
        )
