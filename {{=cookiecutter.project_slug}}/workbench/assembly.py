"""Builds the parts of a run from its config: data, model, callbacks and trainer."""

import math
import os
import re
from functools import partial
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.callbacks import Checkpoint

from . import building
from .building import has_loader, has_step
from .callbacks import (
    BestCheckpoint,
    EarlyStopping,
    EvaluationSeed,
    GradualUnfreezing,
    MetricPrecision,
    ObjectiveCheck,
    ScheduleState,
    Stopping,
    WeightAverage,
    WithinEpoch,
)
from .data.any_datamodule import ModelData, set_up_once, share_evaluation
from .errors import UserError
from .hydra_errors import with_device_hint
from .models.base import BaseModule
from .models.optimizers import Horizon, build_optimizer, build_scheduler
from .models.supervised import check_task
from .models.unread_options import check_given, find_unread
from .objective import check_direction, check_objective, monitor_of, monitored_metrics
from .runs.config import plain, task_options
from .runs.logs import without_lightnings_lines
from .sharding import check_sharding
from .step_costs import reduce_step_costs


def build_datamodule(cfg: DictConfig) -> LightningDataModule:
    """Build the data and set them up, so that the facts about them are known."""
    if cfg.get("data") is None:
        return ModelData()
    datamodule = building.build_datamodule(cfg.data)
    set_up_once(datamodule, cfg.seed)
    datamodule.prepare_data()
    datamodule.setup(stage="fit")
    share_evaluation(datamodule)
    return datamodule


def build_model(cfg: DictConfig, datamodule: LightningDataModule) -> LightningModule:
    """Build the model with the facts about the data that it needs.

    Raises:
        UserError: a fact is missing, the data are of a task that the model does not support, or the
            objective is undefined for the data.
    """
    check_samples(cfg.objective.metric, datamodule)
    model_class = building.find_target(cfg.model, "model")
    is_text = (getattr(datamodule, "preprocessing", None) or {}).get("kind") == "text"
    check_task(model_class, getattr(datamodule, "task", None), is_text)
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
    """Build the data of a run for a loaded model."""
    datamodule = build_datamodule(cfg)
    use_own_loaders(model, datamodule)
    return datamodule


def check_trainable(model: LightningModule, datamodule: LightningDataModule) -> None:
    """Reject a model or data without a method that every training needs.

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
        UserError: the model does not log a monitored metric, or options contradict each other.
    """
    reduce_step_costs()
    callbacks = build_callbacks(cfg, model)
    parts: dict[str, Any] = {"callbacks": callbacks, "logger": build_all(cfg.logger) or False}
    if not any(isinstance(callback, Checkpoint) for callback in callbacks):
        # Lightning would add a checkpoint of its own.
        parts["enable_checkpointing"] = False
    try:
        # Partial, so that Hydra does not copy the parts.
        trainer: Trainer = building.build(cfg.trainer, _partial_=True)(**parts)
    except Exception as error:
        reason = str(error).rstrip(".!")
        raise UserError(f"The trainer cannot be built: {with_device_hint(reason)}") from error
    reads_scheduler = isinstance(model, BaseModule)
    check_combinations(cfg, trainer, cfg.scheduler if reads_scheduler else OmegaConf.create())
    check_sharding(trainer, has_finders=any(build_all(cfg.finders)))
    for callback in callbacks:
        if isinstance(callback, GradualUnfreezing):
            callback.check(trainer, model)
    check_optimizer(model, trainer)
    return trainer


def check_combinations(cfg: DictConfig, trainer: Trainer, scheduler: DictConfig) -> None:
    """Reject options that contradict each other.

    Args:
        cfg: the run's config.
        trainer: the run's.
        scheduler: the config of the schedule; empty for a model that does not read it.

    Raises:
        UserError: more processes than cores, two averages of the weights, an average that starts
            after a fraction of an endless training, or a metric of a validation that never happens.
    """
    cores = os.cpu_count() or 1
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > 2 * cores:
        raise UserError(
            f"trainer.devices={trainer.num_devices} starts as many processes, and this machine has "
            f"{cores} cores: use fewer."
        )
    averages = [c for c in trainer.callbacks if isinstance(c, WeightAverage)]
    if len(averages) > 1:
        raise UserError(
            "SWA and EMA both average the weights: leave one out, with callbacks.swa=null or "
            "callbacks.ema=null."
        )
    endless = trainer.max_epochs == -1 and trainer.max_steps == -1
    for callback in averages:
        if endless and callback.start > 0:
            raise UserError(
                f"{type(callback).__name__} starts after a fraction of the training, which has "
                "no end: set trainer.max_epochs or trainer.max_steps."
            )
    watchers = [(type(c).__name__, monitor_of(c)) for c in trainer.callbacks]
    watchers.append((f"scheduler={scheduler.get('name')}", scheduler.get("monitor")))
    for name, metric in watchers:
        if re.match(r"val[/_]", str(metric)) and trainer.limit_val_batches == 0:
            raise UserError(
                f"{name} monitors {metric} and limit_val_batches=0 disables validation: "
                "enable it, or set objective.metric=train/loss and objective.mode=min."
            )
    if scheduler.get("name") != "plateau":
        return
    if scheduler.get("monitor") is None:
        raise UserError(
            "scheduler=plateau monitors the objective, and there is none: set scheduler.monitor, "
            "or choose another scheduler."
        )
    every = trainer.check_val_every_n_epoch
    if every != 1:
        raise UserError(
            "scheduler=plateau reads the objective after every epoch: set "
            f"trainer.check_val_every_n_epoch=1, not {every}, or choose another scheduler."
        )


def build_callbacks(cfg: DictConfig, model: LightningModule) -> list[Callback]:
    """The callbacks of the config, and those of every run.

    Raises:
        UserError: the model does not log a monitored metric.
    """
    callbacks: list[Callback] = build_all(cfg.callbacks)
    if cfg.objective.metric is None:
        # Without an objective, there is no best epoch.
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
    """The callbacks of every trainer that computes metrics."""
    return [MetricPrecision(), EvaluationSeed(cfg.seed)]


def declared_metrics(model: LightningModule) -> list[str] | None:
    """The metrics that a model logs, if it declares them as `metric_names`."""
    names = getattr(model, "metric_names", None)
    return None if names is None else list(names)


def check_optimizer(model: LightningModule, trainer: Trainer) -> None:
    """Try to build optimizer and schedule, which Lightning does only after files are written.

    Raises:
        UserError: there is no such optimizer or schedule, or it rejects an option.
    """
    # Models with their own optimizer may read the options differently.
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
        UserError: the command sets one of them, which would have no effect.
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
    return task_options(HydraConfig.get()) if HydraConfig.initialized() else []


def is_given(option: str) -> bool:
    """Whether the command sets an option or chooses from a group."""
    return any(word.partition("=")[0] == option for word in given_options())


def build_quiet_trainer(cfg: DictConfig, **options: Any) -> Trainer:
    """Build a trainer like the run's that writes nothing, for trials and comparisons."""
    quiet: dict[str, Any] = {
        "logger": False,
        "profiler": None,
        "max_time": None,
        "num_sanity_val_steps": 0,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        # In the run's own folder, Lightning would load the checkpoint of a requeued job.
        "default_root_dir": f"{cfg.paths.output_dir}/trial",
    }
    quiet |= options
    quiet["callbacks"] = [*evaluation_callbacks(cfg), *options.get("callbacks", [])]
    trainer: Trainer = building.build(cfg.trainer, _partial_=True)(**quiet)
    return trainer


def build_all(group: DictConfig | None) -> list[Any]:
    """Build all entries of a group that are not null."""
    # All at once, because each call of Hydra copies its arguments several times.
    built = building.build(group) if group else {}
    return [entry for entry in built.values() if entry is not None]
