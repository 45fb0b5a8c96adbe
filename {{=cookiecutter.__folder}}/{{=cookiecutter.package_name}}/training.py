"""The one place where data, model, callbacks, loggers and trainer meet."""

import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import (
    LightningDataModule,
    LightningModule,
    Trainer,
    seed_everything,
)
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.seed import isolate_rng

from .assembly import (
    build_all,
    build_datamodule,
    build_model,
    build_quiet_trainer,
    build_trainer,
    check_options_read,
    declared_metrics,
)
from .building import has_loader, has_step
from .callbacks import MetricHistory, WeightAverage
from .callbacks.last_checkpoint import last_checkpoint_of
from .callbacks.within_epoch import STATE as WITHIN_EPOCH
from .callbacks.within_epoch import check_same_batches
from .comparison import compare_weights, measured
from .errors import UserError
from .finders import find_values
from .models.base import BaseModule
from .models.batch_sizes import check_batches
from .models.first_batch import find_metrics
from .models.schedulers import check_horizon
from .models.unread_options import without, without_effect
from .redact import redact
from .runs.changed_options import check_options, options_of_training
from .runs.checked_run import CheckedRun
from .runs.checkpoints import check_resumable, find_resumed, read_checkpoint
from .runs.config_checks import check_arguments, check_complete
from .runs.directory import PROJECT_ROOT, claim_directory
from .runs.ending import EXIT_CODES, Ending, ending_of
from .runs.environment import describe_environment
from .runs.layers import describe_model
from .runs.loading import CONFIG, plain
from .runs.logs import capture_everything, mute_other_processes, without_lightnings_lines
from .runs.manifest import Manifest
from .runs.record import fingerprints, make_record, note_in_checkpoints, warn_of_other_data
from .runs.slurm import describe_job, finished_before_requeue, use_own_port
from .runs.starting_weights import start_from
from .runs.summary import print_metrics, print_places

log = logging.getLogger(__name__)

Metrics = dict[str, float]


def train(cfg: DictConfig) -> Metrics:
    """Fit the model of `cfg`, test its best checkpoint and write down what happened.

    Args:
        cfg: the config composed from `configs/train.yaml`.

    Returns:
        The metrics of the best epoch and, under `test/`, of the test.

    Raises:
        UserError: something in the config or the data cannot work; nothing was trained.
    """
    directory = Path(cfg.paths.output_dir)
    if earlier := finished_before_requeue(directory, cfg):
        if rank_zero_only.rank == 0:
            log.info("nothing to train: %s finished before the job was requeued", directory)
        return measured_metrics(earlier["metrics"])
    manifest = start_run(cfg)
    with manifest.recorded():
        with manifest.stage("setup"):
            datamodule = build_datamodule(cfg)
            model = build_model(cfg, datamodule)
            manifest.update(data=fingerprints(datamodule), model=describe_model(model))
            trainer = build_trainer(cfg, model)
            check_batches(model, datamodule, trainer)
            unread = check_options_read(cfg, model, datamodule)
            if unread:
                # The run's files tell of no optimizer that was never built.
                cfg = without(cfg, unread)
                manifest.update(config=plain(cfg))
            manifest.update(parameters=describe_model(model)["parameters"])
            record = make_record(cfg, model, datamodule)
            note_in_checkpoints(trainer, record)
            resumed = find_resumed(cfg.ckpt_path, directory)
            if resumed is not None:
                check_resume(cfg, resumed, record, trainer, model, datamodule)
            if cfg.weights_from is not None:
                manifest.update(weights_from=start_from(cfg.weights_from, model))
            is_tested = cfg.test and check_test(model, datamodule)
        begin_run(cfg, manifest, unread)
        if cfg.finders:
            with manifest.stage("find"):
                use_finders(cfg, manifest, record, trainer, model, datamodule)
        with manifest.stage("fit"):
            trainer.fit(model, datamodule, ckpt_path=resumed)
        ending = note_ending(trainer, manifest)
        metrics = collect_metrics(cfg, trainer)
        checkpoints = checkpoint_paths(trainer)
        if ending.cause in EXIT_CODES:
            manifest.update(metrics=metrics, checkpoints=checkpoints)
            print_summary(cfg, trainer, manifest)
            sys.exit(EXIT_CODES[ending.cause])
        if "averaged" in checkpoints:
            with manifest.stage("compare"), without_lightnings_lines():
                quiet = build_quiet_trainer(cfg)
                metrics |= compare_weights(quiet, model, datamodule, checkpoints, is_tested)
        if is_tested:
            with manifest.stage("test"):
                metrics["test"] = test(trainer, model, datamodule, checkpoints)
        manifest.update(metrics=metrics, checkpoints=checkpoints)
    print_summary(cfg, trainer, manifest)
    return measured_metrics(metrics)


def measured_metrics(metrics: dict[str, Metrics]) -> Metrics:
    """The metrics of the best epoch and of the test, from those in `run.json`."""
    return metrics["best"] | metrics.get("test", {})


def check(cfg: DictConfig, varied: Sequence[str] = (), monitored: Sequence[str] = ()) -> CheckedRun:
    """Build everything that `train(cfg)` needs, as far as the first step of the training.

    A model that does not declare its metrics is trained and validated for one batch.

    Args:
        cfg: the config.
        varied: the options that a sweep varies.
        monitored: the metrics that a sweep needs.

    Raises:
        UserError: something in the config or the data cannot work.
    """
    check_config(cfg)
    finders = build_all(cfg.finders)
    for finder in finders:
        if finder.option in varied:
            raise UserError(
                f"{type(finder).__name__} sets {finder.option} in every trial, so varying it "
                "changes nothing: leave out one of the two, for example with finders=none."
            )
    datamodule = build_datamodule(cfg)
    model = build_model(cfg, datamodule)
    check_batches(model, datamodule, build_trainer(cfg, model))
    unread = check_options_read(cfg, model, datamodule)
    if cfg.weights_from is not None:
        start_from(cfg.weights_from, model)
    names = declared_metrics(model)
    if names is None:
        make_trainer = partial(build_quiet_trainer, cfg)
        names = find_metrics(model, datamodule, make_trainer, build_all(cfg.callbacks), monitored)
    found = [finder.option for finder in finders]
    useless = without_effect(cfg, unread, found, model)
    return CheckedRun(names, fingerprints(datamodule), useless)


def useless_options(cfg: DictConfig) -> str | set[str]:
    """The options that have no effect on this model; a sentence if the command has one of them."""
    datamodule = build_datamodule(cfg)
    model = build_model(cfg, datamodule)
    try:
        unread = check_options_read(cfg, model, datamodule)
    except UserError as error:
        return str(error)
    found = [finder.option for finder in build_all(cfg.finders)]
    return without_effect(cfg, unread, found, model)


def test_checkpoint(cfg: DictConfig, path: Path) -> Metrics:
    """Test a checkpoint of the model of `cfg` on its data.

    Raises:
        UserError: the model or the data have no test.
    """
    datamodule = build_datamodule(cfg)
    model = build_model(cfg, datamodule)
    if reason := why_no_test(model, datamodule):
        raise UserError(reason)
    trainer = build_quiet_trainer(cfg)
    trainer.test(model, datamodule, ckpt_path=path, verbose=False)
    return measured(trainer)


def check_config(cfg: DictConfig) -> None:
    """Find the mistakes that the config alone shows."""
    check_complete(cfg)
    check_arguments(cfg)


def start_run(cfg: DictConfig) -> Manifest:
    """Make the run's folder and its log, and seed the random numbers."""
    check_config(cfg)
    is_first = rank_zero_only.rank == 0
    directory = Path(cfg.paths.output_dir)
    capture_everything()
    use_own_port()
    content: dict[str, Any] = {"name": cfg.name, "seed": cfg.seed}
    if is_first:
        claim_directory(directory, cfg.ckpt_path, cfg)
        content |= {"config": plain(cfg)} | describe_environment(PROJECT_ROOT) | describe_job(cfg)
    else:
        mute_other_processes()
    if cfg.seed is not None:
        seed_everything(cfg.seed, workers=True, verbose=False)
    return Manifest(directory, content, enabled=is_first)


def check_resume(
    cfg: DictConfig,
    path: Path,
    record: dict[str, Any],
    trainer: Trainer,
    model: LightningModule,
    datamodule: LightningDataModule,
) -> None:
    """Refuse to resume what would not be a continuation, before anything is written.

    Raises:
        UserError: the checkpoint does not fit, or its run had another length or other options.
    """
    checkpoint = read_checkpoint(path)
    check_resumable(path, checkpoint, model, trainer)
    # Population-based training resumes with other options, and lets them take effect.
    if not any(getattr(callback, "changes_options", False) for callback in trainer.callbacks):
        found = [finder.option for finder in build_all(cfg.finders)]
        before = checkpoint.get("trained_with", {})
        check_options(str(path), before, record["trained_with"], found)
    warn_of_other_data(checkpoint.get("trained_on", {}), record["trained_on"])
    if isinstance(model, BaseModule):
        check_length(cfg, checkpoint, model, datamodule)


def check_length(
    cfg: DictConfig,
    checkpoint: dict[str, Any],
    model: BaseModule,
    datamodule: LightningDataModule,
) -> None:
    """Refuse to resume a training of another length.

    Raises:
        UserError: the schedule, or the epoch that the checkpoint was saved within, was longer or
            shorter.
    """
    # Lightning counts the batches when the loggers of its trainer have long begun.
    with without_lightnings_lines(), isolate_rng():
        counting = build_quiet_trainer(cfg)
        counting.strategy.connect(model)
        counting._data_connector.attach_data(model, datamodule=datamodule)
        steps = counting.estimated_stepping_batches
    check_horizon(cfg.scheduler.get("name"), checkpoint.get("planned_steps"), steps)
    if WITHIN_EPOCH in checkpoint:
        counting.fit_loop.setup_data()
        check_same_batches(checkpoint[WITHIN_EPOCH], counting.num_training_batches)


def check_test(model: LightningModule, datamodule: LightningDataModule) -> bool:
    """Whether the run can be tested; if not, say so before the training."""
    reason = why_no_test(model, datamodule)
    if reason is not None:
        log.info("no test: %s", reason)
    return reason is None


def why_no_test(model: LightningModule, datamodule: LightningDataModule) -> str | None:
    """Why a model cannot be tested; None if it can."""
    if not has_step(model, "test_step"):
        return f"{type(model).__name__} has no test_step"
    if not has_loader(datamodule, "test_dataloader"):
        return f"{type(datamodule).__name__} has no test_dataloader"
    return None


def begin_run(cfg: DictConfig, manifest: Manifest, unread: set[str]) -> None:
    """Write the first files of a run, once nothing can be wrong with its command any more."""
    names = ", ".join(sorted(key for key in unread if "." in key))
    note = f"# Left out, since the model never reads them: {names}\n" if names else ""
    if manifest.enabled:
        directory = Path(cfg.paths.output_dir)
        write_config(cfg, directory, note)
        log.info("run folder: %s", directory)
        if cfg.objective.metric is None:
            log.info("no objective: there is no best checkpoint and no early stopping")
        manifest.begin()


def write_config(cfg: DictConfig, directory: Path, note: str = "") -> None:
    """Write the run's config, with all references resolved."""
    text = OmegaConf.to_yaml(cfg, resolve=True)
    (directory / CONFIG).write_text(note + redact(text), "utf-8")


def use_finders(
    cfg: DictConfig,
    manifest: Manifest,
    record: dict[str, Any],
    trainer: Trainer,
    model: LightningModule,
    datamodule: LightningDataModule,
) -> None:
    """Find what the config leaves to be found, use it, and write it into the run's config."""
    directory = Path(cfg.paths.output_dir)
    resumed = find_resumed(cfg.ckpt_path, directory)
    with without_lightnings_lines():
        found = find_values(
            build_all(cfg.finders),
            trainer,
            model,
            datamodule,
            trial=partial(build_quiet_trainer, cfg),
            checkpoint=None if resumed is None else read_checkpoint(resumed),
        )
    if not found:
        return
    config = cfg.copy()
    for option, value in found.items():
        OmegaConf.update(config, option, value, force_add=True)
    # They have done their work: this config once more is this run once more.
    config.finders = {}
    manifest.update(found=found, config=plain(config))
    record["trained_with"] = options_of_training(plain(config))
    if trainer.is_global_zero:
        write_config(config, directory, f"# Found before training: {', '.join(found)}\n")


def note_ending(trainer: Trainer, manifest: Manifest) -> Ending:
    """Write into the log and the manifest why the training ended."""
    ending = ending_of(trainer)
    manifest.note_ending(ending)
    log.info("training ended: %s", ending.text)
    checkpoint = last_checkpoint_of(trainer)
    if ending.cause in EXIT_CODES and checkpoint:
        log.info("resume with ckpt_path=%s", checkpoint)
    return ending


def print_summary(cfg: DictConfig, trainer: Trainer, manifest: Manifest) -> None:
    """Print the tables at the end of a run."""
    if trainer.is_global_zero:
        print_metrics(cfg.name, manifest.content["metrics"])
        print_places(Path(cfg.paths.output_dir), manifest.content)


def collect_metrics(cfg: DictConfig, trainer: Trainer) -> dict[str, Metrics]:
    """Metrics of the best and of the last epoch."""
    history = next((c for c in trainer.callbacks if isinstance(c, MetricHistory)), MetricHistory())
    last = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return {
        "best": history.best(cfg.objective.metric, cfg.objective.mode) or last,
        "final": history.rows[-1] if history.rows else last,
    }


def checkpoint_paths(trainer: Trainer) -> dict[str, str]:
    """Files of the best, last and averaged weights, as far as they were written."""
    callbacks = [c for c in trainer.callbacks if isinstance(c, ModelCheckpoint)]
    paths = {
        "best" if callback.monitor else "last": callback.best_model_path for callback in callbacks
    }
    for callback in trainer.callbacks:
        if isinstance(callback, WeightAverage) and callback.is_saved:
            paths["averaged"] = str(callback.path)
    return {name: path for name, path in paths.items() if path and Path(path).is_file()}


def test(
    trainer: Trainer,
    model: LightningModule,
    datamodule: LightningDataModule,
    checkpoints: dict[str, str],
) -> Metrics:
    """Test the best checkpoint, without an objective the last, and else the present weights."""
    # By name: without one Lightning tests what a requeued cluster job went on from, if it did.
    path = checkpoints.get("best") or checkpoints.get("last")
    trainer.test(model, datamodule, ckpt_path=path, verbose=False)
    return measured(trainer)
