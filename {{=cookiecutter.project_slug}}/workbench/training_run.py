"""A training run around `trainer.fit`: its folder, record, checks and test."""

import logging
import sys
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import LightningDataModule, LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.seed import isolate_rng

from .assembly import (
    build_all,
    build_model,
    build_quiet_trainer,
    check_options_read,
    is_given,
    why_no_test,
)
from .building import facts_of, has_loader, has_step
from .callbacks import MetricHistory, WeightAverage
from .callbacks.checkpoints import last_checkpoint_of
from .callbacks.resuming import STATE as WITHIN_EPOCH
from .callbacks.resuming import check_same_batches
from .config_checks import check_config
from .finders import find_values
from .floats import to_floats
from .models.base import BaseModule
from .models.batch_sizes import check_batches
from .models.optimizers import check_horizon
from .models.unread_options import without
from .project import project
from .rebuilding import start_from
from .redact import redact
from .runs.checkpoint_file import note_in_checkpoints
from .runs.checkpoints import read_checkpoint
from .runs.config import CONFIG, plain
from .runs.directory import claim_directory
from .runs.ending import EXIT_CODES, ending_of
from .runs.environment import collect_environment, describe_model
from .runs.logs import capture_everything, mute_other_processes, without_lightnings_lines
from .runs.manifest import Manifest
from .runs.resuming import (
    check_options,
    check_resumable,
    check_unfinished,
    find_resumed,
    fingerprints,
    make_record,
    options_of_training,
    warn_of_other_data,
)
from .runs.slurm import describe_job, finished_before_requeue, use_own_port
from .runs.summary import print_metrics, print_places
from .sharding import is_sharded
from .step_costs import reduce_step_costs

log = logging.getLogger(__name__)

Metrics = dict[str, float]


class TrainingRun:
    """The folder and the record of a run.

    The constructor creates the folder and the log and seeds all random number generators.

    Attributes:
        cfg: the run's config, without the options that the model does not read.
        directory: the run's folder.
        options: the run's config as plain values.
        manifest: the content of `run.json`.
        is_finished: whether an earlier start of the same SLURM job finished this run.
        metrics: by `best` epoch, `final` epoch and `test`.
        checkpoints: files of the best, last and averaged weights, as far as they exist.

    Raises:
        UserError: the config is invalid, or the folder belongs to another run.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        self.directory = Path(cfg.paths.output_dir)
        self.metrics: dict[str, Metrics] = {}
        self.checkpoints: dict[str, str] = {}
        earlier = finished_before_requeue(self.directory, cfg)
        self.is_finished = earlier is not None
        if earlier is not None:
            self.metrics = earlier["metrics"]
            if rank_zero_only.rank == 0:
                log.info(
                    "nothing to train: %s finished before the job was requeued", self.directory
                )
            return
        self.manifest = self._start()
        self.is_tested = False
        self.record: dict[str, Any] = {}

    def _start(self) -> Manifest:
        cfg = self.cfg
        check_config(cfg)
        reduce_step_costs()
        self.options = plain(cfg)
        is_first = rank_zero_only.rank == 0
        capture_everything()
        use_own_port()
        content: dict[str, Any] = {"name": cfg.name, "seed": cfg.seed}
        if is_first:
            claim_directory(self.directory, cfg.ckpt_path, cfg)
            content |= {"config": self.options} | collect_environment(project().root)
            content |= describe_job(cfg)
        else:
            mute_other_processes()
        if cfg.seed is not None:
            seed_everything(cfg.seed, workers=True, verbose=False)
        return Manifest(self.directory, content, enabled=is_first)

    def recorded(self) -> AbstractContextManager[None]:
        """Record in `run.json` how the run ends: finished, interrupted or failed."""
        return self.manifest.recorded()

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Record the duration of a stage in `run.json`."""
        return self.manifest.stage(name)

    def begin(
        self, trainer: Trainer, model: LightningModule, datamodule: LightningDataModule
    ) -> Path | None:
        """Check everything that can be checked before training, then write the run's first files.

        Returns:
            The checkpoint to resume from; None for a new run.

        Raises:
            UserError: a check failed; nothing has been written.
        """
        self.manifest.update(data=fingerprints(datamodule), model=describe_model(model))
        check_batches(model, datamodule, trainer)
        unread = check_options_read(self.cfg, model, datamodule)
        if unread:
            # The run's files must not mention an optimizer that was never built.
            self.cfg = without(self.cfg, unread)
            self.options = plain(self.cfg)
            self.manifest.update(config=self.options)
        self.manifest.update(parameters=describe_model(model)["parameters"])
        facts = facts_of(datamodule, self.cfg.model)
        self.record = make_record(self.options, model, datamodule, facts)
        note_in_checkpoints(trainer, self.record)
        resumed = find_resumed(self.cfg.ckpt_path, self.directory)
        if resumed is not None:
            check_resume(self.cfg, resumed, self.record, trainer, model, datamodule)
        if self.cfg.weights_from is not None:
            self.manifest.update(weights_from=start_from(self.cfg.weights_from, model))
        self.is_tested = self.cfg.test and can_be_tested(model, datamodule)
        if self.manifest.enabled:
            self._write_first_files(unread)
        return resumed

    def _write_first_files(self, unread: set[str]) -> None:
        names = ", ".join(sorted(key for key in unread if "." in key))
        note = f"# Left out, because the model does not read them: {names}\n" if names else ""
        write_config(self.cfg, self.directory, note)
        log.info("run folder: %s", self.directory)
        if self.cfg.objective.metric is None:
            log.info("no objective: there is no best checkpoint and no early stopping")
        self.manifest.begin()

    def use_finders(
        self, trainer: Trainer, model: LightningModule, datamodule: LightningDataModule
    ) -> None:
        """Find values for the options in `cfg.finders`, set them and write them to the config."""
        if not self.cfg.finders:
            return
        resumed = find_resumed(self.cfg.ckpt_path, self.directory)
        with self.stage("find"), without_lightnings_lines():
            found = find_values(
                build_all(self.cfg.finders),
                trainer,
                model,
                datamodule,
                trial=partial(build_quiet_trainer, self.cfg),
                checkpoint=None if resumed is None else read_checkpoint(resumed),
            )
        if not found:
            return
        config = self.cfg.copy()
        for option, value in found.items():
            OmegaConf.update(config, option, value, force_add=True)
        # The config must reproduce the run without searching again.
        config.finders = {}
        self.options = plain(config)
        self.manifest.update(found=found, config=self.options)
        self.record["trained_with"] = options_of_training(self.options)
        if trainer.is_global_zero:
            write_config(config, self.directory, f"# Found before training: {', '.join(found)}\n")

    def end_fit(self, trainer: Trainer) -> None:
        """Record why the training ended, its metrics and its checkpoints.

        Raises:
            SystemExit: the training was interrupted or terminated by a signal.
        """
        ending = ending_of(trainer)
        self.manifest.note_ending(ending)
        log.info("training ended: %s", ending.text)
        checkpoint = last_checkpoint_of(trainer)
        if ending.cause in EXIT_CODES and checkpoint:
            log.info("resume with ckpt_path=%s", checkpoint)
        self.metrics = collect_metrics(self.cfg, trainer)
        self.checkpoints = checkpoint_paths(trainer)
        self.manifest.update(metrics=self.metrics, checkpoints=self.checkpoints)
        if ending.cause in EXIT_CODES:
            self.print_summary()
            sys.exit(EXIT_CODES[ending.cause])

    def compare_averaged_weights(
        self, model: LightningModule, datamodule: LightningDataModule
    ) -> None:
        """Measure the last and the averaged weights, if there are averaged ones.

        The metrics are called `last` and `averaged`, those of the test `test last` and
        `test averaged`.
        """
        if "averaged" not in self.checkpoints:
            return
        validates = has_step(model, "validation_step") and has_loader(datamodule, "val_dataloader")
        with self.stage("compare"), without_lightnings_lines():
            # Without loggers and callbacks, which would mistake these metrics for the run's own.
            quiet = build_quiet_trainer(self.cfg)
            for name in ("last", "averaged"):
                if name not in self.checkpoints:
                    continue
                weights = read_checkpoint(self.checkpoints[name])["state_dict"]
                model.load_state_dict(weights, strict=model.strict_loading)
                if validates:
                    quiet.validate(model, datamodule, verbose=False)
                    self.metrics[name] = to_floats(quiet.callback_metrics)
                if self.is_tested:
                    quiet.test(model, datamodule, verbose=False)
                    self.metrics[f"test {name}"] = to_floats(quiet.callback_metrics)
        self.manifest.update(metrics=self.metrics)

    def test(
        self, trainer: Trainer, model: LightningModule, datamodule: LightningDataModule
    ) -> None:
        """Test the best checkpoint, else the last one, else the current weights."""
        if not self.is_tested:
            return
        # By path, because Lightning would test the checkpoint from which a requeued job resumed.
        path = self.checkpoints.get("best") or self.checkpoints.get("last")
        if is_sharded(trainer):
            if path is None:
                log.info("no test: there is no checkpoint, and the weights are divided")
                return
            # Lightning divides what it tests, and cannot divide again what the training has.
            model = build_model(self.cfg, datamodule)
        with self.stage("test"):
            trainer.test(model, datamodule, ckpt_path=path, verbose=False)
            self.metrics["test"] = to_floats(trainer.callback_metrics)
        self.manifest.update(metrics=self.metrics)

    def print_summary(self) -> None:
        """Print the tables at the end of a run."""
        if self.manifest.enabled:
            print_metrics(self.cfg.name, self.manifest.content["metrics"])
            print_places(self.directory, self.manifest.content)

    def results(self) -> Metrics:
        """The metrics of the best epoch and of the test."""
        return self.metrics["best"] | self.metrics.get("test", {})


def write_config(cfg: DictConfig, directory: Path, note: str = "") -> None:
    """Write the run's config, with all references resolved."""
    text = OmegaConf.to_yaml(cfg, resolve=True)
    (directory / CONFIG).write_text(note + redact(text), "utf-8")


def check_resume(
    cfg: DictConfig,
    path: Path,
    record: dict[str, Any],
    trainer: Trainer,
    model: LightningModule,
    datamodule: LightningDataModule,
) -> None:
    """Reject a checkpoint that the run would not continue.

    Raises:
        UserError: the checkpoint does not fit, or its run had another length or other options.
    """
    checkpoint = read_checkpoint(path)
    check_resumable(path, checkpoint, model)
    # A trial, fold or job that was killed after its last epoch is resumed to complete its results;
    # other processes of a DDP trial are started with the option.
    is_named = is_given("ckpt_path") or not HydraConfig.initialized()
    if is_named and rank_zero_only.rank == 0:
        check_unfinished(path, checkpoint, trainer)
    # Population-based training resumes with other options on purpose.
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
    """Reject a checkpoint of a training with another length.

    Raises:
        UserError: the length of the schedule, or of the epoch that was interrupted, differs.
    """
    # A trainer of its own, because counting the batches starts the loggers.
    with without_lightnings_lines(), isolate_rng():
        counting = build_quiet_trainer(cfg)
        counting.strategy.connect(model)
        counting._data_connector.attach_data(model, datamodule=datamodule)
        steps = counting.estimated_stepping_batches
    check_horizon(cfg.scheduler.get("name"), checkpoint.get("planned_steps"), steps)
    if WITHIN_EPOCH in checkpoint:
        counting.fit_loop.setup_data()
        check_same_batches(checkpoint[WITHIN_EPOCH], counting.num_training_batches)


def can_be_tested(model: LightningModule, datamodule: LightningDataModule) -> bool:
    """Whether the run can be tested; if not, log the reason."""
    reason = why_no_test(model, datamodule)
    if reason is not None:
        log.info("no test: %s", reason)
    return reason is None


def collect_metrics(cfg: DictConfig, trainer: Trainer) -> dict[str, Metrics]:
    """Metrics of the best and of the last epoch."""
    history = next((c for c in trainer.callbacks if isinstance(c, MetricHistory)), MetricHistory())
    last = to_floats(trainer.callback_metrics)
    return {
        "best": history.best(cfg.objective.metric, cfg.objective.mode) or last,
        "final": history.rows[-1] if history.rows else last,
    }


def checkpoint_paths(trainer: Trainer) -> dict[str, str]:
    """Files of the best, last and averaged weights, as far as they exist."""
    callbacks = [c for c in trainer.callbacks if isinstance(c, ModelCheckpoint)]
    paths = {
        "best" if callback.monitor else "last": callback.best_model_path for callback in callbacks
    }
    for callback in trainer.callbacks:
        if isinstance(callback, WeightAverage) and callback.is_saved:
            paths["averaged"] = str(callback.path)
    return {name: path for name, path in paths.items() if path and Path(path).is_file()}
