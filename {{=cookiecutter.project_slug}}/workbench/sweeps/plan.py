"""What a sweep does: its plan, and what all of its trials have in common."""

import os
import pickle  # nosec B403
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf, flag_override, open_dict, read_write

from ..errors import UserError
from ..runs.config import folds_to_train
from .engines import Engine, load_engine
from .settings import Settings, objective_of
from .space import Space, options_of, typed
from .trial_channel import max_epochs_of, unit_of
from .types import UNLIMITED, Objective, Unit, Value

DEFAULT_TRIALS = 20
# Options that decide how long a trial is; it is not known if one of them varies.
SET_EPOCHS = {"trainer.max_epochs", "trainer", "experiment", "debug"}
# Callbacks that describe a single run: nobody looks at them in a hundred trials.
LEFT_OUT = ("loss_curves", "model_summary", "run_texts", "device", "gradient_norms")


@dataclass(frozen=True)
class Base:
    """What all trials of a sweep have in common.

    Attributes:
        config_loader: composes configs, from the folders of the command.
        command: the config of the command, pickled, because most trials do not need it.
        fixed: the options of the command that do not vary, and those added to every trial.
        groups: the parameters that choose a config file.
        composed: the config of `fixed`, pickled.
        script: the script of the command, which DDP starts again.
        objective: reported after every epoch or validation.
        seeds: number of seeds that each configuration is trained with.
        function: the full name of the training function, such as `my_project.training.train`.
        folds: number of folds per seed; None without cross-validation.
        is_application: whether the trials are those of an application, and not of a project.
        study: the name of the sweep.
        parent_run: the run of the sweep in MLflow.
    """

    config_loader: ConfigLoader
    command: bytes
    fixed: list[str]
    groups: frozenset[str]
    composed: bytes
    script: str
    objective: Objective
    seeds: int
    function: str
    folds: int | None = None
    is_application: bool = False
    study: str = ""
    parent_run: str | None = None

    @property
    def master(self) -> DictConfig:
        """The config of the command."""
        # Pickled by `make_base`.
        return pickle.loads(self.command)  # nosec B301

    def compose(self, params: Mapping[str, Value], folder: Path) -> DictConfig:
        """The config of a trial that runs in `folder`."""
        options = [*self.fixed, *options_of(params)]
        if self.groups & params.keys():
            config = self.config_loader.load_sweep_config(self.master, options)
        else:
            # Ten times faster with the same result, as values take precedence over all files.
            # Pickled by `make_base`.
            config = pickle.loads(self.composed)  # nosec B301
            for key, value in params.items():
                if isinstance(value, str):
                    value = parsed(f"{key}={value}")
                with flag_override(config, "struct", not key.startswith("+")):
                    OmegaConf.update(config, key.lstrip("+"), value, merge=True)
        with read_write(config), open_dict(config):
            config.hydra.run.dir = config.hydra.runtime.output_dir = str(folder)
            config.hydra.sweep.dir, config.hydra.sweep.subdir = str(folder.parent), folder.name
            if not self.is_application:
                # Output goes to the file of the trial; the console belongs to the sweep.
                config.hydra.job_logging.root.handlers = ["file"]
            config.hydra.overrides.task = options
            if self.is_application:
                _describe_job(config.hydra.job, options)
            if self.folds is not None:
                # `run_trial` sets the other folds.
                config.data.fold = 0
        return config

    def repeats(self) -> list["Repeat"]:
        """The trainings of a configuration."""
        seeds = [f"seed_{seed}" for seed in range(self.seeds)] if self.seeds > 1 else [""]
        folds = [f"fold_{fold}" for fold in range(self.folds)] if self.folds else [""]
        return [
            Repeat(seed, fold if self.folds else None, "/".join(filter(None, (first, second))))
            for seed, first in enumerate(seeds)
            for fold, second in enumerate(folds)
        ]


@dataclass(frozen=True)
class Repeat:
    """One of the trainings of a configuration, whose metrics are averaged.

    Attributes:
        seed: added to the seed of the config.
        fold: the held-out fold; None without cross-validation.
        folder: relative to the trial's folder; empty if there is a single training.
    """

    seed: int
    fold: int | None
    folder: str


@dataclass(frozen=True)
class Identity:
    """Everything that the results of a study depend on, as texts of the command line.

    Attributes:
        question: the search space, the objectives and whatever else makes results comparable.
        sweeper: the sampler, the pruner and the limits.
        options: the options of a trial that do not vary, including those of config files. If a
            config group varies, `<option> with <group>=<choice>` holds what else a choice sets.
        code: a hash of each module.
        data: size and fingerprint of each split.
        fixed: the options of the command that do not vary; not compared.
    """

    question: dict[str, str]
    sweeper: dict[str, str]
    options: dict[str, str | None]
    code: dict[str, str]
    data: dict[str, dict[str, Any]]
    fixed: list[str]

    def is_same(self, other: "Identity") -> bool:
        """Whether the results of both are comparable."""
        return asdict(self) | {"fixed": []} == asdict(other) | {"fixed": []}

    def options_of_trial(self, params: Mapping[str, Value]) -> dict[str, str]:
        """All options of a trial that did not vary, by name."""
        chosen = options_of(params)
        found: dict[str, str | None] = {}
        for name, value in self.options.items():
            key, _, condition = name.partition(" with ")
            if not condition or condition in chosen:
                found[key] = value
        return {key: value for key, value in found.items() if value is not None}


@dataclass(frozen=True)
class Plan:
    """What a sweep does.

    Attributes:
        folder: of the sweep.
        name: of the study.
        settings: the options of `hydra.sweeper`.
        space: the search space.
        base: what all trials have in common.
        objectives: the metrics to optimize, the first one reported during training.
        fixed: the options of the command that do not vary.
        points: all configurations; None if a sampler proposes them.
        identity: None until the data have been read.
        why_pruner: why `pruner=auto` selects this pruner; None if the command names one.
    """

    folder: Path
    name: str
    settings: Settings
    space: Space
    base: Base
    objectives: list[Objective]
    fixed: list[str]
    points: list[dict[str, Value]] | None
    identity: Identity | None = None
    why_pruner: str | None = None

    @property
    def config(self) -> DictConfig:
        """The config of a trial without the options that vary."""
        # Pickled by `make_base`.
        return pickle.loads(self.base.composed)  # nosec B301

    def compose(self, options: Sequence[str]) -> DictConfig:
        """The config of a trial with these options."""
        base = self.base
        return base.config_loader.load_sweep_config(base.master, [*base.fixed, *options])

    @property
    def n_trials(self) -> int:
        """Number of trials, including those of earlier commands."""
        default = most_trials(self.settings) if self.points is None else len(self.points)
        return self.settings.n_trials or default

    @property
    def unit(self) -> Unit:
        """What the reports of a trial count."""
        return Unit.STEP if self.base.is_application else unit_of(self.config.trainer)

    @property
    def trainer(self) -> DictConfig:
        """The accelerator and the number of devices; an application gets a GPU if there are any."""
        one = OmegaConf.create({"accelerator": "auto", "devices": 1})
        return one if self.base.is_application else self.config.trainer

    @property
    def seed(self) -> int | None:
        """The seed of the search."""
        given = self.settings.sampler if self.base.is_application else self.config
        return given.get("seed")

    @property
    def length(self) -> int | None:
        """Number of reports of a complete training; None if it varies or is not known."""
        varied = {parameter.key.lstrip("+") for parameter in self.space.parameters}
        is_known = self.unit is Unit.EPOCH and not varied & SET_EPOCHS
        return max_epochs_of(self.config.trainer) if is_known else None

    @property
    def has_schedules(self) -> bool:
        """Whether the options of a trial change while it trains."""
        return self.engine.changes_options(self.settings)

    @property
    def engine(self) -> Engine:
        """The engine that searches."""
        return load_engine(self.settings.engine)

    @property
    def groups(self) -> frozenset[str]:
        """The options that choose a config file."""
        loader = self.base.config_loader
        known = [*loader.list_groups(""), *(f"hydra/{g}" for g in loader.list_groups("hydra"))]
        return self.base.groups | ({word.partition("=")[0] for word in self.fixed} & set(known))


def most_trials(settings: Settings) -> int:
    """Number of trials of a search; unlimited if only epochs are given."""
    return settings.n_trials or (DEFAULT_TRIALS if settings.epochs is None else UNLIMITED)


def make_base(
    config_loader: ConfigLoader,
    master: DictConfig,
    fixed: list[str],
    space: Space,
    settings: Settings,
) -> Base:
    """Compose what all trials have in common."""
    plain = config_loader.load_sweep_config(master, fixed)
    objective = objective_of(plain, settings)
    package = __name__.rpartition(".")[0]
    reporter = f"{package}.reporter.TrialReporter"
    options = [
        *fixed,
        "test=false",
        "trainer.profiler=null",
        # The check before the first trial includes a validation.
        "trainer.num_sanity_val_steps=0",
        *(f"++callbacks.{name}=null" for name in LEFT_OUT),
        f"+callbacks.report={{_target_:{reporter},metric:{typed(objective.metric)}}}",
    ]
    options += load_engine(settings.engine).trial_options(settings)
    if settings.is_application:
        options = fixed
    composed = config_loader.load_sweep_config(master, options)
    return Base(
        config_loader=config_loader,
        command=pickle.dumps(master),
        fixed=options,
        groups=frozenset(p.key for p in space.parameters if p.is_group),
        composed=pickle.dumps(composed),
        script=str(Path(sys.argv[0]).absolute()),
        objective=objective,
        seeds=settings.seeds,
        function=settings.function,
        folds=None if settings.is_application else _folds(plain, space),
        is_application=settings.is_application,
    )


def _folds(config: DictConfig, space: Space) -> int | None:
    """Number of folds of each configuration; None without cross-validation.

    Raises:
        UserError: the number of folds varies, so that configurations could not be compared.
    """
    varied = [parameter.key.lstrip("+") for parameter in space.parameters]
    if "data.folds" in varied:
        raise UserError(
            "data.folds cannot vary in a sweep, which compares configurations on the same folds: "
            "give one value, or vary data.fold to treat folds as trials."
        )
    return None if "data.fold" in varied else folds_to_train(config)


def _describe_job(job: DictConfig, options: Sequence[str]) -> None:
    """Set what Hydra derives from the options of a job and from the environment of its process."""
    form = job.config.override_dirname
    names = {option: option.lstrip("+~").partition("=")[0].partition("@")[0] for option in options}
    named = sorted(option for option in options if names[option] not in form.exclude_keys)
    job.override_dirname = form.item_sep.join(named).replace("=", form.kv_sep)
    for name in job.env_copy:
        job.env_set[name] = os.environ[name]


def parsed(option: str) -> Any:
    """The value of an option, as Hydra reads it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(option).value()
