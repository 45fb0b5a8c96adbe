"""A study is continued only by a command that asks the same question of the same data."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from ..conftest import BakedProject
from ..support.in_process import Project
from ..support.modules import project_module
from ..support.sweeps import sweep

LR = "optimizer.lr=tag(log,interval(1e-4,1e-1))"
NAMED = "hydra.sweeper.study_name=study"
DATA = {
    "train": {"samples": 80, "fingerprint": "aa"},
    "val": {"samples": 20, "fingerprint": "bb"},
}
Plans = Callable[..., Any]


@pytest.fixture(scope="module")
def master(demo: BakedProject, sweeps_package: Any) -> Callable[..., Any]:
    """The config of a command as Hydra composes it, and what composes those of its trials."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.types import RunMode

    Project(demo.root, demo.root).module("runs.directory").register_resolvers()

    def compose(options: Sequence[str]) -> Any:
        loader = ConfigLoaderImpl(create_config_search_path(str(demo.root / "configs")))
        return loader, loader.load_configuration("train", list(options), run_mode=RunMode.MULTIRUN)

    return compose


@pytest.fixture(scope="module")
def plans(
    master: Any, sweeps_package: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Any]:
    """The plan of a command; composing one takes half a second."""
    folder = tmp_path_factory.mktemp("sweeps")
    known: dict[tuple[str, ...], Any] = {}

    def make(*options: str, fresh: bool = False) -> Any:
        if fresh or options not in known:
            given = [f"hydra.sweep.dir={folder}", "search_space=none", *options]
            words = [word for word in given if not word.startswith("hydra")]
            loader, config = master(given)
            known[options] = sweeps_package("command").make_plan(loader, config, words)
        return known[options]

    return make


@pytest.fixture
def continue_study(plans: Plans, sweeps_package: Any) -> Callable[..., Any]:
    """Joins a study by one command after another; returns where the last one stands."""
    identity = sweeps_package("identity")
    stored: list[str] = []

    def join(*options: str, allow: bool = False, fresh: bool = False, data: Any = DATA) -> int:
        plan = plans(NAMED, *options, fresh=fresh)
        plan = replace(plan, settings=replace(plan.settings, allow_changes=allow))
        known = [identity.Identity(**json.loads(text)) for text in stored]
        place = identity.join(known, identity.identify(plan, data), plan)
        # As a study keeps them.
        stored[:] = [json.dumps(asdict(one)) for one in known]
        assert str(plan.folder.parent) not in "".join(stored)
        return int(place)

    return join


@pytest.fixture(scope="module")
def user_error(plans: Plans) -> Any:

    return project_module("demo", "errors").UserError


@contextmanager
def edited(path: Path, old: str, new: str) -> Iterator[None]:
    """A file of the project with another text, for a while."""
    text = path.read_text("utf-8")
    assert re.search(old, text)
    path.write_text(re.sub(old, new, text, count=1), "utf-8")
    try:
        yield
    finally:
        path.write_text(text, "utf-8")


# What the first command was given, what the second one was, and what differs.
CHANGES = {
    "option": (("model.net.width=64",), ("model.net.width=8",), "model.net.width=8 instead of 64"),
    "added": ((), ("+trainer.x=3",), "trainer.x=3, which was not set"),
    "removed": (("+trainer.x=1",), (), "no trainer.x, which was 1"),
    "text": (("+trainer.x=1",), ("+trainer.x='1'",), "trainer.x='1' instead of 1"),
    "pruner": ((), ("hydra/sweeper/pruner=none",), "hydra/sweeper/pruner=none instead of "),
    "pruner option": (
        ("hydra/sweeper/pruner=median",),
        ("hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=9"),
        "hydra.sweeper.pruner.n_startup_trials=9 instead of ",
    ),
    "sampler": ((), ("hydra/sweeper/sampler=random",), "hydra/sweeper/sampler=random instead of"),
    "limit": (
        (),
        ("hydra.sweeper.limits={parameters:500}",),
        "hydra.sweeper.limits={parameters:500} instead of null",
    ),
}
QUESTIONS = {
    "log": (("optimizer.lr=interval(1,2)",), (LR,), "optimizer.lr=tag(log,interval(0.0001,0.1))"),
    "integers": (
        ("model.net.width=int(interval(1,8))",),
        ("model.net.width=range(2,9,2)",),
        "model.net.width=range(2,10,2) instead of range(1,9,1)",
    ),
    "types": (("+trainer.x=1,2",), ("+trainer.x=1.0,2",), "+trainer.x=1.0,2 instead of 1,2"),
    "objective": (
        (LR,),
        (LR, "objective.metric=val/loss", "objective.mode=min"),
        "objective.metric=val/loss instead of val/acc, objective.mode=min instead of max",
    ),
    "seeds": ((LR,), (LR, "hydra.sweeper.seeds=2"), "hydra.sweeper.seeds=2 instead of 1"),
    "folds": ((LR,), (LR, "data.folds=3"), "data.folds=3 instead of null"),
}
KEPT = (
    "hydra.sweeper.n_trials=99",
    "hydra.sweeper.workers=3",
    "hydra.sweeper.timeout=5",
    "hydra.sweeper.trial_timeout=5",
    "hydra.sweeper.max_retries=3",
    "logger=tensorboard",
    "paths.data_dir=/elsewhere",
    "paths.log_dir=/elsewhere",
    "name=other",
)


@pytest.mark.parametrize("name", CHANGES)
def test_changed_option_is_not_mixed_into_a_study(
    continue_study: Any, user_error: Any, name: str
) -> None:
    """Trials of different options in one table, and the winner of none of them."""
    before, after, words = CHANGES[name]
    assert continue_study(LR, *before) == 0
    with pytest.raises(user_error) as told:
        continue_study(LR, *after)
    sentence = str(told.value)
    assert f"differs from the study 'study' ({words}" in sentence
    assert "hydra.sweeper.allow_changes=true to continue" in sentence
    assert "another hydra.sweeper.study_name" in sentence
    assert "Distribution" not in sentence and "Parameter(" not in sentence
    # Continued anyway, and each command finds its own place again.
    assert continue_study(LR, *after, allow=True) == 1
    assert continue_study(LR, *after) == 1
    assert continue_study(LR, *before) == 0


@pytest.mark.parametrize("name", QUESTIONS)
def test_other_question_needs_another_study(
    continue_study: Any, user_error: Any, name: str
) -> None:
    """Their results cannot be ranked in one table, whatever is allowed."""
    before, after, words = QUESTIONS[name]
    continue_study(*before)
    for allowed in (False, True):
        with pytest.raises(user_error) as told:
            continue_study(*after, allow=allowed)
        assert words in str(told.value)
        assert "allow_changes" not in str(told.value)


def test_what_changes_no_result_continues_a_study(continue_study: Any) -> None:
    """More trials, on another machine, with another logger: still the same study."""
    continue_study(LR)
    assert continue_study(LR, *KEPT) == 0


def test_study_holds_no_secret(plans: Plans, sweeps_package: Any) -> None:
    """A study is shared with colleagues, and shown by a dashboard."""
    plan = plans(LR, NAMED, "+trainer.password=canary-7", "+data.url=http://me:canary-7@host")
    identity = sweeps_package("identity").identify(plan, DATA)
    assert "trainer.password" in identity.options
    assert "canary" not in json.dumps(asdict(identity))


def test_changed_files_are_noticed(
    continue_study: Any, user_error: Any, demo: BakedProject
) -> None:
    """The command is the same to the letter, and trains another model."""
    command = ("model=mlp,cnn", LR)
    continue_study(*command, fresh=True)
    configs, module = demo.root / "configs", demo.root / "demo" / "models" / "nets" / "cnn.py"
    # The second choice of a group that varies, which no other part of the command mentions.
    with (
        edited(configs / "model" / "cnn.yaml", r"width: \d+", "width: 7"),
        pytest.raises(user_error, match=r"model.net.width=7 instead of \d+ with model=cnn"),
    ):
        continue_study(*command, fresh=True)
    with (
        edited(module, r"\Z", "\n# changed\n"),
        pytest.raises(user_error, match=r"changed code in demo/models/nets/cnn.py"),
    ):
        continue_study(*command, fresh=True)
    with edited(configs / "model" / "cnn.yaml", r"\A", "# a remark\n"):
        assert continue_study(*command, fresh=True) == 0


def test_other_data_are_noticed(continue_study: Any, user_error: Any) -> None:
    """The same relative path from another folder, or a table that was replaced."""
    continue_study(LR)
    smaller = DATA | {"train": {"samples": 60, "fingerprint": "cc"}}
    with pytest.raises(user_error, match=r"other data in train \(60 samples instead of 80\)"):
        continue_study(LR, data=smaller)
    other = DATA | {"val": {"samples": 20, "fingerprint": "dd"}}
    with pytest.raises(user_error, match=r"\(other data in val\)"):
        continue_study(LR, data=other)


def test_each_table_of_a_sweep_over_tables_is_noticed(
    continue_study: Any, user_error: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check before the first trial reads one of them only."""
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("x,y\n1,2\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    command = ("experiment=csv", "data.target=y", "data.path=a.csv,b.csv")
    continue_study(*command)
    (tmp_path / "b.csv").write_text("x,y\n1,3\n", "utf-8")
    with pytest.raises(user_error, match=r"other data in b\.csv"):
        continue_study(*command)


NAMES = {
    "5": "5",
    "true": "true",
    "1.5": "1.5",
    "'a b'": "a b",
    "..x": "..x",
    "../x": None,
    "..": None,
    ".": None,
    "/tmp/x": None,
    "''": None,
    "' '": None,
    "a/b": None,
    r"'a\b'": None,
    "[a]": None,
    "{a:1}": None,
    "'a\tb'": None,
    "x" * 300: None,
}


def test_study_stays_in_its_folder(
    master: Any, sweeps_package: Any, plans: Plans, user_error: Any
) -> None:
    """Files anywhere on the disk would be overwritten."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    _, config = master([LR, "search_space=none"])
    read_settings = sweeps_package("settings").read_settings
    for name, folder in NAMES.items():
        given = OverridesParser.create().parse_override(f"study_name={name}").value()
        config.hydra.sweeper.study_name = given
        if folder is None:
            with pytest.raises(user_error, match="study"):
                read_settings(config.hydra.sweeper)
        else:
            assert read_settings(config.hydra.sweeper).study_name == folder
    with pytest.raises(user_error, match="slash"):
        plans(LR, "name=../x")


def test_name_is_made_of_the_options(plans: Plans) -> None:
    """configs/hydra/sweeper/optuna.yaml promises another study for other options."""
    commands = (
        (LR,),
        (LR, "hydra/sweeper/pruner=none"),
        (LR, "hydra/sweeper/sampler=random"),
    )
    names = [plans(*command).name for command in commands]
    assert len(set(names)) == len(names)
    assert plans(LR, "hydra.sweeper.n_trials=7", "hydra.sweeper.workers=2").name == names[0]


def test_best_is_what_the_winner_was_trained_with(
    demo: BakedProject, sweeps_package: Any, tmp_path: Path
) -> None:
    """`best.yaml` claimed the loss of a network with 64 units for one with 5."""
    folder = tmp_path / "study"
    model = demo.root / "configs" / "model" / "mlp.yaml"
    common = ("optimizer.lr=0.01,0.000001", "hydra.sweeper.sampler=grid")
    first = sweep(demo, folder, *common, "model.net.width=64", "hydra.sweeper.n_trials=1")
    later = (*common, "model.net.width=5", "data.split_seed=7", "hydra.sweeper.n_trials=2")
    with edited(model, r"dropout: [\d.]+", "dropout: 0.5"):
        refused = sweep(demo, folder, *later, check=False)
        (line,) = [line for line in refused.printed.splitlines() if line.startswith("error: ")]
        for words in ("model.net.width=5 instead of 64", "data.split_seed=7 instead of 42"):
            assert words in line
        assert len(first.study.trials) == 1
        swept = sweep(demo, folder, *later, "hydra.sweeper.allow_changes=true")
        assert swept.states() == {"COMPLETE": 2}
        assert swept.rows[0]["number"] == "0", "the rate of the other trial teaches nothing"
        project = Project(demo.root, tmp_path)
        trained = yaml.safe_load((folder / "trials" / "0000" / "config.yaml").read_text("utf-8"))
        winner = f"experiment={folder / 'best.yaml'}"
        project.module("experiment_files").register_experiments([winner])
        best = project.configure("train", tmp_path, winner)
        for group in ("model", "optimizer", "data", "scheduler"):
            assert OmegaConf.to_container(best[group], resolve=True) == trained[group]
    assert trained["model"]["net"]["width"] == 64


def test_winner_is_tested_as_it_was_trained(
    plans: Plans, sweeps_package: Any, demo: BakedProject, tmp_path: Path
) -> None:
    """Another split would test it on what it was trained on."""
    identity, records = sweeps_package("identity"), sweeps_package("types")
    commands = (
        (LR, NAMED, "model=cnn,mlp", "data.split_seed=1", "+trainer.barebones=false"),
        (LR, NAMED, "model=cnn,mlp", "data.split_seed=2", "trainer.max_epochs=9"),
    )
    made_plans = [plans(*command) for command in commands]
    first, later = (replace(p, identity=identity.identify(p, DATA)) for p in made_plans)
    known = json.loads(json.dumps([asdict(plan.identity) for plan in (first, later)]))
    record = SimpleNamespace(recall=lambda name: {identity.IDENTITIES: {"all": known}}[name])
    params = {"optimizer.lr": 0.01, "model": "mlp"}
    mlp = demo.root / "configs" / "model" / "mlp.yaml"
    made = {}
    with edited(mlp, r"width: \d+", "width: 7"):
        for version in (0, 1):
            trial = records.TrialRecord(0, records.State.FINISHED, params, version=version)
            own = sweeps_package("identity").plan_of_trial(later, record, trial)
            made[version] = own.base.compose(params, tmp_path)
    wanted = first.base.compose(params, tmp_path)
    for group in ("data", "model", "optimizer", "trainer", "callbacks"):
        assert made[0][group] == wanted[group]
    assert made[0].data.split_seed == 1
    assert "barebones" in made[0].trainer
    # That of this command is not changed.
    assert made[1].data.split_seed == 2
    assert made[1].trainer.max_epochs == 9


def test_pruner_that_cannot_prune_is_refused(plans: Plans, user_error: Any) -> None:
    """Who names a pruner waits for trials to be pruned."""
    front = (LR, "hydra.sweeper.more_objectives={parameters:min}")
    assert len(plans(*front).objectives) == 2
    assert plans(*front, "hydra/sweeper/pruner=none").settings.pruner == {"name": "none"}
    with pytest.raises(user_error, match="pruner=median judges trials by one objective"):
        plans(*front, "hydra/sweeper/pruner=median")


ENGINES = {
    "database": ("hydra.sweeper.storage=sqlite:///{folder}.db",),
    "ax": ("hydra/sweeper=ax",),
    "ray": ("hydra/sweeper=ray",),
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_knows_its_study(demo: BakedProject, tmp_path: Path, engine: str) -> None:
    """Each opens the study in its own way."""
    if engine != "database":
        pytest.importorskip(engine)
    folder = tmp_path / "study"
    words = [word.format(folder=folder) for word in ENGINES[engine]]
    command = (LR, *words, "hydra.sweeper.n_trials=1")
    before = sweep(demo, folder, *command, "model.net.width=64").rows
    refused = sweep(demo, folder, *command, "model.net.width=5", check=False)
    assert "model.net.width=5 instead of 64" in refused.printed
    assert "Traceback" not in refused.printed
    other = () if engine == "ray" else ("hydra/sweeper=ray",)
    if not other or find_spec("ray") is not None:
        refused = sweep(demo, folder, LR, "model.net.width=64", *other, check=False)
        # The database is not in the folder, so that its study is not seen.
        sentence = (
            "contains the trials of another study" if engine == "database" else "hydra/sweeper="
        )
        assert sentence in refused.printed
    allowed = "hydra.sweeper.allow_changes=true"
    assert sweep(demo, folder, *command, "model.net.width=5", allowed).rows == before
    best = yaml.safe_load((folder / "best.yaml").read_text("utf-8"))
    assert best["model"]["net"]["width"] == 64
