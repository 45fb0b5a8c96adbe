"""Builds everything that a training needs, without training."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from .assembly import (
    build_all,
    build_datamodule,
    build_model,
    build_quiet_trainer,
    build_trainer,
    check_options_read,
    declared_metrics,
    why_no_test,
)
from .config_checks import check_config
from .errors import UserError
from .floats import to_floats
from .models.batch_sizes import check_batches
from .models.first_batch import find_metrics
from .models.unread_options import without_effect
from .rebuilding import start_from
from .runs.config import CheckedRun
from .runs.resuming import fingerprints


def check(cfg: DictConfig, varied: Sequence[str] = (), monitored: Sequence[str] = ()) -> CheckedRun:
    """Build everything that a training with `cfg` needs, and check it.

    A model that does not declare its metrics is trained and validated for one batch.

    Args:
        cfg: the config composed from `configs/train.yaml`.
        varied: the options that a sweep varies.
        monitored: the metrics that a sweep needs.

    Raises:
        UserError: the config or the data cannot work.
    """
    check_config(cfg)
    finders = build_all(cfg.finders)
    for finder in finders:
        if finder.option in varied:
            raise UserError(
                f"{type(finder).__name__} sets {finder.option} in every trial, so varying it has "
                "no effect: leave out one of the two, for example with finders=none."
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
    """The options without an effect; an error message if the command sets one of them."""
    datamodule = build_datamodule(cfg)
    model = build_model(cfg, datamodule)
    try:
        unread = check_options_read(cfg, model, datamodule)
    except UserError as error:
        return str(error)
    found = [finder.option for finder in build_all(cfg.finders)]
    return without_effect(cfg, unread, found, model)


def test_checkpoint(cfg: DictConfig, path: Path) -> dict[str, float]:
    """Test a checkpoint of a run with `cfg`.

    Raises:
        UserError: the model or the data have no test.
    """
    datamodule = build_datamodule(cfg)
    model = build_model(cfg, datamodule)
    if reason := why_no_test(model, datamodule):
        raise UserError(reason)
    trainer = build_quiet_trainer(cfg)
    trainer.test(model, datamodule, ckpt_path=path, verbose=False)
    return to_floats(trainer.callback_metrics)
