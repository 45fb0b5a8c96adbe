"""Finds options of optimizer and scheduler that the model does not read and have no effect.

`BaseModule.configure_optimizers` reads all of them. A model with its own `configure_optimizers` is
built once more with dictionaries that record which keys it reads.
"""

import copy
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType
from typing import Any

from omegaconf import DictConfig, open_dict
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.seed import isolate_rng

from ..errors import UserError
from .base import BaseModule

log = logging.getLogger(__name__)

GROUPS = ("optimizer", "scheduler")
# What they read is recorded; for other methods it can only be guessed.
WATCHED = ("__init__", "configure_optimizers")


class Watched(dict[str, Any]):
    """A dictionary that records which of its keys are read, also through copies."""

    def __init__(self, content: dict[str, Any], read: set[str] | None = None) -> None:
        super().__init__(content)
        self.read: set[str] = set() if read is None else read

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.read.add(str(key))
        return super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """One value."""
        self.read.add(key)
        return super().get(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        """One value, which is removed."""
        self.read.add(key)
        return super().pop(key, *default)

    # dict(x), {**x} and f(**x) come here too.
    def __iter__(self) -> Iterator[str]:
        self._record_all()
        return super().__iter__()

    def keys(self) -> Any:
        """All keys; iterating over them counts as reading the values."""
        self._record_all()
        return super().keys()

    def values(self) -> Any:
        """All values."""
        self._record_all()
        return super().values()

    def items(self) -> Any:
        """All keys and values."""
        self._record_all()
        return super().items()

    def __or__(self, other: Any) -> Any:
        self._record_all()
        return super().__or__(other)

    def copy(self) -> "Watched":
        """A copy that records in the same set."""
        return Watched(self._content(), self.read)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Watched":
        return Watched(copy.deepcopy(self._content(), memo), self.read)

    def _content(self) -> dict[str, Any]:
        """The content, without recording."""
        keys: Iterator[str] = super().__iter__()
        return {key: dict.__getitem__(self, key) for key in keys}

    def _record_all(self) -> None:
        self.read.update(super().keys())


def find_unread(
    cfg: DictConfig,
    model: LightningModule,
    build: Callable[..., LightningModule],
    make_trainer: Callable[[], Trainer],
    datamodule: LightningDataModule,
) -> set[str]:
    """The options that a model with its own optimizer does not read, such as `optimizer.lr`.

    A group of which nothing is read is included as a whole, such as `optimizer`.

    Args:
        cfg: the run's config.
        model: the run's model.
        build: makes another one like it from `optimizer` and `scheduler`.
        make_trainer: makes a trainer like the run's.
        datamodule: the run's.
    """
    if not isinstance(model, BaseModule):
        # It receives neither of the groups.
        return {*GROUPS, *(f"{group}.{key}" for group in GROUPS for key in cfg[group])}
    if type(model).configure_optimizers is BaseModule.configure_optimizers:
        return set()
    watched = {group: Watched(dict(model.hparams.get(group, {}))) for group in GROUPS}
    try:
        with isolate_rng():
            _configure(build(**watched), make_trainer(), datamodule)
    except Exception:
        # The run will raise the same error.
        log.debug("the optimizers could not be tried", exc_info=True)
        return set()
    unread: set[str] = set()
    for group in GROUPS:
        # scheduler=constant means that there is no schedule to read.
        is_none = group == "scheduler" and cfg.scheduler.get("name") == "constant"
        if not is_none and not _is_mentioned(type(model), group):
            unread |= _unread(group, cfg, watched[group].read)
    return unread


def check_given(
    cfg: DictConfig,
    unread: set[str],
    given: Iterable[str],
    found: Iterable[str],
    model: LightningModule,
) -> None:
    """Reject options of the command that would have no effect.

    Args:
        cfg: the run's config.
        unread: the result of `find_unread`.
        given: the options of the command, such as `optimizer.lr=0.1`.
        found: the options for which finders search a value.
        model: the run's.

    Raises:
        UserError: such an option was given, or a finder searches for it.
    """
    keys = [option.partition("=")[0].partition("@")[0].lstrip("+~") for option in given]
    tops = {key: ".".join(key.split(".")[:2]) for key in keys}
    who = f"{type(model).__name__} builds its own optimizer and"
    if useless := [key for key, top in tops.items() if top in unread]:
        names, group = " and ".join(useless), tops[useless[0]].partition(".")[0]
        how = (
            f'read self.hparams["{group}"] in configure_optimizers'
            if isinstance(model, BaseModule)
            else "add an option to the model"
        )
        raise UserError(
            f"{who} never reads {names}, so the option would have no effect: leave it out, or "
            f"{how}."
        )
    for option in found:
        if option in unread:
            raise UserError(
                f"{who} never reads {option}, so a value found for it would have no effect: leave "
                "its finder out."
            )
    # Without a schedule, its options have no effect, whatever a file sets.
    if isinstance(model, BaseModule) and cfg.scheduler.get("name") == "constant":
        for key, top in tops.items():
            if top.startswith("scheduler.") and top != "scheduler.name":
                raise UserError(f"scheduler=constant does not read {key}: leave one of them out.")


def without_effect(
    cfg: DictConfig, unread: set[str], found: Iterable[str], model: LightningModule
) -> set[str]:
    """All options without an effect; see `check_given` for the arguments."""
    useless = unread | set(found)
    if isinstance(model, BaseModule) and cfg.scheduler.get("name") == "constant":
        useless |= {f"scheduler.{key}" for key in map(str, cfg.scheduler) if key != "name"}
    return useless


def without(cfg: DictConfig, unread: set[str]) -> DictConfig:
    """The config without the options that are not read."""
    config = cfg.copy()
    for key in unread:
        group, _, name = key.partition(".")
        if name:
            with open_dict(config[group]):
                config[group].pop(name)
    return config


def _configure(model: LightningModule, trainer: Trainer, datamodule: LightningDataModule) -> None:
    """Let a model build its optimizers, which may need the number of steps."""
    trainer.strategy._lightning_module = model
    model.trainer = trainer
    trainer.state.fn = TrainerFn.FITTING
    trainer.training = True
    trainer._data_connector.attach_data(model, datamodule=datamodule)
    model.configure_optimizers()


def _unread(group: str, cfg: DictConfig, read: set[str]) -> set[str]:
    keys = {str(key) for key in cfg[group]}
    left = {f"{group}.{key}" for key in keys - read}
    return left if keys & read else left | {group}


def _is_mentioned(model_class: type, group: str) -> bool:
    """Whether a method that is not recorded, such as a training step, names a group."""
    own = [c for c in model_class.__mro__ if issubclass(c, BaseModule) and c is not BaseModule]
    for function in (value for c in own for value in vars(c).values()):
        if not inspect.isfunction(function) or function.__name__ in WATCHED:
            continue
        if _names(function, group):
            return True
    return False


def _names(function: FunctionType, group: str) -> bool:
    code = function.__code__
    return group in code.co_consts or {"hparams", group} <= set(code.co_names)
