"""Mistakes end in one sentence with a way out; bugs in an owner's code end in the owner's line."""

import logging
import traceback
from pathlib import Path

import pytest

from ..support.training_runs import script
from .world import World


def refused(world: World, *options: str) -> str:
    """The sentence that a training ends with; it has left nothing behind."""
    with pytest.raises(world.module("errors").UserError) as caught:
        world.train(*options)
    folder = world.folder / str(world.count)
    assert not any(path.is_file() for path in folder.rglob("*"))
    return str(caught.value)


TUTORIAL = ("model=tutorial", "data=blobs", "objective.metric=val_acc", "objective.mode=max")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("model=without_test_step", "data=blobs"), "WithoutTestStep has no test_step"),
        (("model=two_domains", "data=train_only"), "TrainOnly has no test_dataloader"),
    ],
)
def test_missing_test_is_reported_before_training(
    world: World, caplog: pytest.LogCaptureFixture, options: tuple[str, ...], reason: str
) -> None:
    """Lightning raises after the training, and the run counted as failed."""
    with caplog.at_level(logging.INFO):
        run = world.train(*options, "objective.metric=train_loss", "trainer.max_epochs=1")
    assert run.manifest["status"] == "finished"
    assert set(run.metrics) == {"best", "final"}
    lines = [line for line in caplog.messages if reason in line or line.startswith("run folder")]
    assert len(lines) == 2
    assert reason in lines[0]


def test_fact_that_nobody_knows_is_named(world: World) -> None:
    """An owner reads which argument it is, whose, and where to write it."""
    sentence = refused(world, *TUTORIAL, "model=needs_vocabulary", "data=named_blobs")
    assert "NeedsVocabulary" in sentence
    assert "vocabulary" in sentence
    assert str(Path("their_project", "models", "facts.py")) in sentence
    assert "set model.vocabulary" in sentence
    world.train(*TUTORIAL, "model=needs_vocabulary", "+model.vocabulary=5", "trainer.max_epochs=1")


def test_built_in_model_says_what_it_must_know(world: World) -> None:
    """`KeyError: 'num_classes'` would tell nobody that the datamodule is meant."""
    options = ("model=mlp", "data=blobs", "objective.metric=val/acc", "objective.mode=max")
    sentence = refused(world, *options)
    for word in ("input_shape", "num_classes", "Classifier", "datamodule"):
        assert word in sentence
    given = ("+model.input_shape=[4]", "+model.num_classes=3")
    run = world.train(*options, *given, "trainer.max_epochs=1")
    assert set(run.metrics["test"]) == {"test/loss", "test/acc", "test/f1"}


@pytest.mark.parametrize("when", ["sanity check", "first epoch"])
def test_unknown_objective_is_refused_with_what_was_logged(world: World, when: str) -> None:
    """Its name is only known after the first validation; then no more time is spent."""
    checks = 2 if when == "sanity check" else 0
    options = (*TUTORIAL, "objective.metric=val_accuracy", f"trainer.num_sanity_val_steps={checks}")
    with pytest.raises(world.module("errors").UserError) as caught:
        world.train(*options)
    sentence = str(caught.value)
    assert "val_accuracy" in sentence
    assert "val_acc" in sentence.replace("val_accuracy", "")
    assert "val_loss" in sentence


def test_model_that_logs_nothing_needs_no_objective(world: World) -> None:
    with pytest.raises(world.module("errors").UserError) as caught:
        world.train("model=boring", "data=boring", "objective.metric=val/loss")
    assert "objective=null" in str(caught.value)


@pytest.mark.parametrize(
    ("model", "error", "line"),
    [
        ("broken_inside", ZeroDivisionError, "return torch.tensor(sum(values) / len(values))"),
        ("broken_step", AttributeError, "return self.missing_layer(batch[0]).sum()"),
    ],
)
def test_bug_keeps_its_traceback(
    world: World, model: str, error: type[Exception], line: str
) -> None:
    """Hydra's `full_key: model` would be all there was of it."""
    with pytest.raises(error) as caught:
        world.train(*TUTORIAL, f"model={model}")
    lines = [frame.line for frame in traceback.extract_tb(caught.value.__traceback__)]
    own = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert line in lines
    # torch reports an attribute that is missing.
    assert Path(own[lines.index(line)]).name == "facts.py"
    assert lines.index(line) >= len(lines) - 2
    assert world.module("hydra_errors").explain(caught.value) is None


@pytest.mark.slow
def test_bug_is_shown_on_the_command_line(world: World, tmp_path: Path) -> None:
    from ..conftest import BakedProject

    place = f"hydra.run.dir={tmp_path}/run"
    command = ("train.py", place, *TUTORIAL, "model=broken_inside")
    done = script(BakedProject(world.root), *command, check=False)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("ZeroDivisionError: division by zero")
    assert "facts.py" in done.stderr
    assert "InstantiationException" not in done.stderr


def test_class_that_is_no_module_is_refused(world: World) -> None:
    sentence = refused(world, *TUTORIAL, "model._target_=torch.nn.Identity", "~model.lr")
    assert "LightningModule" in sentence


def test_misspelt_class_is_refused(world: World) -> None:
    target = "model._target_=their_project.models.tutorial.LitClasifier"
    sentence = refused(world, *TUTORIAL, target)
    assert "LitClasifier" in sentence


def test_sweep_without_objective_is_refused(world: World, tmp_path: Path) -> None:
    """There is nothing to choose a winner by."""
    from ..conftest import BakedProject
    from ..support.sweeps import sweep

    options = ("model=demo", "data=boring", "objective=null", "test=false", "search_space=none")
    grid = ("model.learning_rate=0.1,0.2",)
    done = sweep(
        BakedProject(world.root), tmp_path / "study", *options, *grid, check=False, small=False
    )
    assert "Traceback" not in done.printed
    assert "objective" in done.printed.splitlines()[-1]
