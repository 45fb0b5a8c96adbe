"""The parts of a run, built from its config: data, model, callbacks and trainer."""

import math
from functools import partial
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from . import building
from .building import has_loader, has_step
from .callbacks import (
    BestCheckpoint,
    EarlyStopping,
    EvaluationSeed,
    MetricPrecision,
    ObjectiveCheck,
    ScheduleState,
    Stopping,
    WithinEpoch,
)
from .data.any_datamodule import ModelData, set_up_once, share_evaluation
from .errors import UserError
from .hydra_errors import with_device_hint
from .models.base import BaseModule
from .models.optimizers import build_optimizer
from .models.schedulers import Horizon, build_scheduler
from .models.unread_options import check_given, find_unread
from .runs.config_checks import check_combinations, check_objective, monitored_metrics
from .runs.direction import check_direction
from .runs.loading import plain
from .runs.logs import without_lightnings_lines


def build_datamodule(cfg: DictConfig) -> LightningDataModule:
    """Build the data and set them up, so that their shapes are known."""
    if cfg.get("data") is None:
        return ModelData()
    datamodule = building.build_datamodule(cfg.data)
    set_up_once(datamodule, cfg.seed)
    datamodule.prepare_data()
    datamodule.setup(stage="fit")
    share_evaluation(datamodule)
    return datamodule


def build_model(cfg: DictConfig, datamodule: LightningDataModule) -> LightningModule:
    """Build the model, which may ask for facts about the data.

    Raises:
        UserError: a fact is missing, the model is meant for another task than the data, or the
            objective is undefined for the data.
    """
    check_samples(cfg.objective.metric, datamodule)
    check_task(cfg, datamodule)
    facts = building.facts_of(datamodule, cfg.model)
    model = building.build_model(cfg.model, facts, plain(cfg.optimizer), plain(cfg.scheduler))
    use_own_loaders(model, datamodule)
    check_trainable(model, datamodule)
    if cfg.compile:
        building.compile_model(model)
    return model


def use_own_loaders(model: LightningModule, datamodule: LightningDataModule) -> None:
    """Let a run with `data=null` use the loaders that the model defines."""
    if isinstance(datamodule, ModelData):
        datamodule.take_from(model)
        share_evaluation(datamodule)


def build_data_for(model: LightningModule, cfg: DictConfig) -> LightningDataModule:
    """Build the data of a run for a model that was loaded."""
    datamodule = build_datamodule(cfg)
    use_own_loaders(model, datamodule)
    return datamodule


def check_trainable(model: LightningModule, datamodule: LightningDataModule) -> None:
    """Refuse a model or data without what every training needs, before anything is written.

    Raises:
        UserError: a method is missing.
    """
    for name in ("training_step", "configure_optimizers"):
        if not has_step(model, name):
            raise UserError(f"{type(model).__name__} has no {name}, so it cannot be trained.")
    if not has_loader(datamodule, "train_dataloader"):
        owner = model if isinstance(datamodule, ModelData) else datamodule
        raise UserError(
            f"{type(owner).__name__} has no train_dataloader, so there is nothing to train on."
        )


def check_task(cfg: DictConfig, datamodule: LightningDataModule) -> None:
    """Refuse a classifier for numbers or a regressor for classes, where both name their task."""
    target = building.find_target(cfg.model, "model")
    tasks, given = getattr(target, "tasks", None), getattr(datamodule, "task", None)
    if tasks and given and given not in tasks:
        raise UserError(
            f"The data are a {given} task and {target.__name__} does {tasks[0]}: choose another "
            f"model group, for example model="
            f"{'mlp_regressor' if given == 'regression' else 'mlp'}."
        )


def check_samples(objective: str | None, datamodule: LightningDataModule) -> None:
    """Raise a UserError if the objective is the R2 of a single sample."""
    stage, _, metric = (objective or "").partition("/")
    if metric == "r2" and getattr(datamodule, "num_samples", {}).get(stage) == 1:
        raise UserError(
            f"{objective} is undefined for the single sample of the {stage} split: enlarge the "
            f"split or choose objective.metric={stage}/loss."
        )


def why_no_test(model: LightningModule, datamodule: LightningDataModule) -> str | None:
    """Why a model cannot be tested; None if it can."""
    if not has_step(model, "test_step"):
        return f"{type(model).__name__} has no test_step"
    if not has_loader(datamodule, "test_dataloader"):
        return f"{type(datamodule).__name__} has no test_dataloader"
    return None


def build_trainer(cfg: DictConfig, model: LightningModule) -> Trainer:
    """Build callbacks, loggers and the trainer.

    Raises:
        UserError: a metric to monitor that the model does not log.
    """
    callbacks = build_callbacks(cfg, model)
    parts: dict[str, Any] = {"callbacks": callbacks, "logger": build_all(cfg.logger) or False}
    if not any(isinstance(callback, Checkpoint) for callback in callbacks):
        # Lightning would add a checkpoint of its own.
        parts["enable_checkpointing"] = False
    try:
        trainer: Trainer = instantiate(cfg.trainer, **parts, _convert_="all")
    except InstantiationException as error:
        reason = str(error.__cause__ or error).rstrip(".!")
        raise UserError(f"The trainer cannot be built: {with_device_hint(reason)}") from error
    reads_scheduler = isinstance(model, BaseModule)
    check_combinations(cfg, trainer, cfg.scheduler if reads_scheduler else OmegaConf.create())
    check_optimizer(model, trainer)
    return trainer


def build_callbacks(cfg: DictConfig, model: LightningModule) -> list[Callback]:
    """The callbacks of the config, and those that every run has.

    Raises:
        UserError: a metric to monitor that the model does not log.
    """
    callbacks: list[Callback] = build_all(cfg.callbacks)
    if cfg.objective.metric is None:
        # There is no best without an objective.
        callbacks = [
            callback
            for callback in callbacks
            if not (isinstance(callback, EarlyStopping | BestCheckpoint) and not callback.monitor)
        ]
    monitored = monitored_metrics(cfg, callbacks)
    check_direction(cfg.objective.metric, cfg.objective.mode, given_options())
    if isinstance(model, BaseModule) and cfg.scheduler.get("monitor") is not None:
        monitored["scheduler.monitor"] = cfg.scheduler.monitor
    names = declared_metrics(model)
    if names is not None:
        check_objective(monitored, names)
    else:
        callbacks.append(ObjectiveCheck(monitored))
    last = [callback for callback in callbacks if isinstance(callback, WithinEpoch | Stopping)]
    others = [callback for callback in callbacks if callback not in last]
    return [*others, *evaluation_callbacks(cfg), ScheduleState(), *last]


def evaluation_callbacks(cfg: DictConfig) -> list[Callback]:
    """The callbacks of every trainer that measures something."""
    return [MetricPrecision(), EvaluationSeed(cfg.seed)]


def declared_metrics(model: LightningModule) -> list[str] | None:
    """The names of the metrics that a model logs, if it declares them by `metric_names`."""
    names = getattr(model, "metric_names", None)
    return None if names is None else list(names)


def check_optimizer(model: LightningModule, trainer: Trainer) -> None:
    """Build optimizer and schedule for a try: Lightning does so when much has been written.

    Raises:
        UserError: no such optimizer or schedule, or an option that it refuses.
    """
    # A model that builds its own may read its options in another way.
    if type(model).configure_optimizers is not BaseModule.configure_optimizers:
        return
    assert isinstance(model, BaseModule)
    is_endless = trainer.max_epochs == -1 and trainer.max_steps == -1
    optimizer = build_optimizer(model.hparams["optimizer"], model.parameter_groups())
    build_scheduler(
        model.hparams["scheduler"], optimizer, Horizon(math.inf if is_endless else 1000, 10)
    )


def check_options_read(
    cfg: DictConfig, model: LightningModule, datamodule: LightningDataModule
) -> set[str]:
    """Find the options of optimizer and scheduler that the model does not read.

    Raises:
        UserError: one of them was given in the command, where it would have no effect.
    """

    def build(**parts: Any) -> LightningModule:
        return building.build_model(cfg.model, building.facts_of(datamodule, cfg.model), **parts)

    with without_lightnings_lines():
        unread = find_unread(cfg, model, build, partial(build_quiet_trainer, cfg), datamodule)
    given = given_options()
    found = [finder.option for finder in build_all(cfg.finders)]
    check_given(cfg, unread, given, found, model)
    return unread


def given_options() -> list[str]:
    """The options of the command, such as `optimizer.lr=0.1`."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def is_given(option: str) -> bool:
    """Whether the command sets an option or chooses a file of a group."""
    return any(word.partition("=")[0] == option for word in given_options())


def build_quiet_trainer(cfg: DictConfig, **options: Any) -> Trainer:
    """Build a trainer as the run's that writes nothing, for trials and comparisons."""
    quiet: dict[str, Any] = {
        "logger": False,
        "profiler": None,
        "max_time": None,
        "num_sanity_val_steps": 0,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        # In the run's own folder Lightning would find, and load, what a requeued job goes on from.
        "default_root_dir": f"{cfg.paths.output_dir}/trial",
    }
    quiet |= options
    quiet["callbacks"] = [*evaluation_callbacks(cfg), *options.get("callbacks", [])]
    trainer: Trainer = instantiate(cfg.trainer, **quiet, _convert_="all")
    return trainer


def build_all(group: DictConfig | None) -> list[Any]:
    """Build every entry of a group that is not switched off with null."""
    # All at once: for each call Hydra copies what it is given several times.
    built = building.build(group) if group else {}
    return [entry for entry in built.values() if entry is not None]
