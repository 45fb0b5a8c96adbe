"""Options that nothing reads: a sweep over one crowns the best of equals."""

import json
import sys
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import yaml

from ..support.in_process import SMALL, Project
from ..support.sweeps import LR, sweep

MODELS = '''
"""Models that build their optimizers in their own ways."""

import torch

from .classifier import Classifier


class Nothing(Classifier):
    """Reads none of the options."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Rate(Classifier):
    """Reads one of them, and asks the trainer for the number of steps."""

    def configure_optimizers(self):
        steps = self.trainer.estimated_stepping_batches
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams["optimizer"]["lr"])
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class All(Classifier):
    """Only changes what the project builds."""

    def configure_optimizers(self):
        return super().configure_optimizers()


class Early(Classifier):
    """Reads in its constructor."""

    def __init__(self, net, optimizer, scheduler, **rest):
        super().__init__(net=net, optimizer=optimizer, scheduler=scheduler, **rest)
        self.rate = optimizer["lr"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.rate)


class Late(Classifier):
    """Reads while it trains."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def on_train_batch_start(self, batch, batch_idx):
        self.optimizers().param_groups[0]["lr"] = self.hparams["optimizer"]["lr"]


class Broken(Classifier):
    """Ends in an error, which has to be the user's own."""

    def configure_optimizers(self):
        raise ZeroDivisionError("mine")
'''
NAMES = ("Nothing", "Rate", "All", "Early", "Late", "Broken")
SHORT = ("trainer.max_epochs=1", "trainer.limit_train_batches=2")


@pytest.fixture(scope="module")
def project(bake: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    package = "package_of_option_tests"
    root = bake(project_name="Options", package_name=package).root
    (root / package / "models" / "own.py").write_text(MODELS)
    config = (root / "configs" / "model" / "mlp.yaml").read_text("utf-8")
    for name in NAMES:
        own = config.replace(
            f"{package}.models.classifier.Classifier", f"{package}.models.own.{name}"
        )
        assert own != config
        (root / "configs" / "model" / f"{name.lower()}.yaml").write_text(own, "utf-8")
    sys.path.insert(0, str(root))
    yield Project(root, tmp_path_factory.mktemp("options"))
    sys.path.remove(str(root))


@pytest.fixture
def refusal(project: Project) -> Iterator[Any]:
    """The sentence that a command is refused with; None where it may run."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    dry_run, errors = project.module("dry_run"), project.module("errors")

    def refuse(*options: str) -> str | None:
        cfg = project.configure("train", project.folder / "none", *SMALL, *options)
        task = {"hydra": {"overrides": {"task": list(options)}}}
        HydraConfig.instance().cfg = OmegaConf.create(task)  # type: ignore[assignment]
        try:
            dry_run.check(cfg)
        except errors.UserError as error:
            return str(error)
        return None

    yield refuse
    HydraConfig.instance().cfg = None


READ = {
    "nothing": (),
    "rate": ("optimizer.lr",),
    "all": ("optimizer.lr", "optimizer.weight_decay", "scheduler.warmup"),
    "early": ("optimizer.lr",),
    # Which of them is read in a training step nobody can know beforehand.
    "late": ("optimizer.lr", "optimizer.weight_decay"),
    "broken": ("optimizer.lr", "optimizer.weight_decay", "scheduler.warmup"),
    "mlp": ("optimizer.lr", "optimizer.weight_decay", "scheduler.warmup"),
}


@pytest.mark.parametrize("model", READ)
def test_option_without_effect_is_refused(refusal: Any, model: str) -> None:
    """A rate that is varied over two decades and read by nobody makes four equal trials."""
    for option in ("optimizer.lr", "optimizer.weight_decay", "scheduler.warmup"):
        sentence = refusal(f"model={model}", f"{option}=0.2")
        if option in READ[model]:
            assert sentence is None, option
        else:
            assert f"never reads {option}, " in str(sentence)
    assert refusal(f"model={model}") is None


def test_choice_without_effect_is_refused(refusal: Any) -> None:
    """Another optimizer or schedule is as useless as another rate."""
    assert "never reads optimizer, " in str(refusal("model=nothing", "optimizer=sgd"))
    assert "never reads scheduler, " in str(refusal("model=rate", "scheduler=step"))
    assert "never reads optimizer.momentum, " in str(
        refusal("model=rate", "optimizer=sgd", "optimizer.momentum=0.5")
    )
    # Its file has another rate.
    assert refusal("model=rate", "optimizer=sgd") is None
    # No schedule is what such a model has.
    assert refusal("model=nothing", "scheduler=constant") is None
    assert "does not read scheduler.warmup" in str(
        refusal("scheduler.name=constant", "scheduler.warmup=0.2")
    )
    assert "a value found for it would have no effect" in str(
        refusal("model=nothing", "finders=lr")
    )


def test_config_tells_of_no_optimizer_that_was_never_built(project: Project) -> None:
    """Who reads in config.yaml that AdamW was used believes it."""
    run = project.train("model=nothing", *SHORT)
    text = (run.folder / "config.yaml").read_text("utf-8")
    config = yaml.safe_load(text)
    assert (config["optimizer"], config["scheduler"]) == ({}, {})
    assert "optimizer.lr" in text.splitlines()[0]
    assert run.manifest["config"]["optimizer"] == {}
    same = f"experiment={run.folder / 'config.yaml'}"
    project.module("experiment_files").register_experiments([same])
    again = project.module("training").train(
        project.configure("train", project.folder / "again", same)
    )
    assert again["val/acc"] == run.metrics["best"]["val/acc"]
    rate = project.train("model=rate", "optimizer.lr=0.05", *SHORT)
    assert rate.manifest["config"]["optimizer"] == {"lr": 0.05}
    assert rate.saved("last")["optimizer_states"][0]["param_groups"][0]["momentum"] > 0


def test_watching_changes_nothing(project: Project) -> None:
    """The run must be the one that it would be without the second model."""
    import torch

    one, two = (
        project.train("model=all", *SHORT, f"callbacks.early_stopping.patience={patience}")
        for patience in (98, 99)
    )
    plain = project.train("model=mlp", *SHORT)
    for run in (one, two):
        for name, weight in plain.weights("last").items():
            assert torch.equal(run.weights("last")[name], weight), name


def test_every_way_to_read_is_seen(project: Project) -> None:
    """An option that is read in an unusual way must not be refused."""
    watched = project.module("models.unread_options").Watched
    content = {"name": "SGD", "lr": 0.1}

    def read_by(use: Any) -> set[str]:
        options = watched(dict(content))
        use(options)
        found: set[str] = options.read
        return found

    one = [
        lambda w: w["lr"],
        lambda w: w.get("lr"),
        lambda w: w.pop("lr"),
        lambda w: "lr" in w,
        lambda w: deepcopy(w)["lr"],
        lambda w: w.copy()["lr"],
    ]
    assert [read_by(use) for use in one] == [{"lr"}] * len(one)
    everything = [
        dict,
        list,
        json.dumps,
        lambda w: {**w},
        lambda w: w | {},
        lambda w: {} | w,
        lambda w: (lambda **options: options)(**w),
        lambda w: w.items(),
        lambda w: w.values(),
    ]
    assert [read_by(use) for use in everything] == [{"name", "lr"}] * len(everything)
    for unread in (deepcopy, lambda w: w.copy(), len, bool):
        assert read_by(unread) == set()
    assert dict(watched(content).copy()) == content == dict(deepcopy(watched(content)))


def test_sweep_is_refused_before_its_first_trial(project: Project, bake: Any) -> None:
    """Also where only one of the models that vary does not read the rate."""
    baked = bake(project_name="Options", package_name="package_of_option_tests")
    swept = sweep(baked, project.folder / "study", LR, "model=mlp,nothing", check=False)
    assert "error: With model=nothing: Nothing builds its own optimizer" in swept.printed
    assert "never reads optimizer.lr" in swept.printed
    assert not swept.folder.exists()


@pytest.mark.slow
def test_entry_of_a_file_varies_with_the_models_that_read_it(project: Project, bake: Any) -> None:
    """The default space is for the built-in models, and no reason to refuse another one."""
    baked = bake(project_name="Options", package_name="package_of_option_tests")
    options = ("model=mlp,nothing", *SHORT, "hydra.sweeper.n_trials=8", "test=false")
    space = ("search_space=default", "hydra.sweeper.sampler=random")
    swept = sweep(baked, project.folder / "both", *options, *space)
    line = "optimizer.lr varies only with model=mlp (no effect on this model)"
    assert swept.printed.count(line) == 1
    assert {(row["model"], bool(row["optimizer.lr"])) for row in swept.rows} == {
        ("mlp", True),
        ("nothing", False),
    }


def test_finder_and_sweep_of_one_option_are_refused(project: Project) -> None:
    """The finder would replace each value of the sweep by its own."""
    errors = project.module("errors")
    cfg = project.configure("train", project.folder / "none", *SMALL, "finders=lr")
    with pytest.raises(errors.UserError, match="so varying it has no effect"):
        project.module("dry_run").check(cfg, ["model.net.width", "optimizer.lr"])
