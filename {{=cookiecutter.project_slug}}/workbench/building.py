"""Builds datamodules and models of any class from their configs.

A model receives a fact about the data, such as `num_classes`, if its `__init__` has a parameter of
that name which its config does not set. The same applies to the configs `optimizer` and
`scheduler`, except that a plain LightningModule with its own `configure_optimizers` never receives
them.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, flag_override, open_dict
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.utilities.model_helpers import is_overridden

from .errors import UserError
from .hydra_errors import explain
from .models.base import BaseModule

# Facts that datamodules usually define. A parameter with one of these names receives the fact even
# if it has a default; other parameters only if they have none.
FACTS = (
    "class_counts",
    "class_names",
    "input_shape",
    "num_classes",
    "num_features",
    "preprocessing",
    "target_mean",
    "target_name",
    "target_names",
    "target_std",
    "vocab_size",
)
GROUPS = ("optimizer", "scheduler")
# What a model passes to its network.
SHAPES = ("input_shape", "num_outputs")
# Parameters without a name of their own: `*args` and `**kwargs`.
COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

Facts = Mapping[str, Any]


def build(config: Any, **options: Any) -> Any:
    """Instantiate a config and raise errors of the instantiated code unchanged.

    Hydra wraps them in an InstantiationException that shows no line of that code.

    Args:
        config: with `_target_`, or a group of such configs.
        options: of Hydra, such as `_partial_`.
    """
    try:
        if not isinstance(config, DictConfig):
            return instantiate(config, **PLAIN, **options)
        keys = config.keys()
        options = {key: value for key, value in PLAIN.items() if key not in keys} | options
        named = {key: value for key, value in options.items() if key in keys}
        with _added(config, {key: options[key] for key in options if key not in named}):
            return instantiate(config, **named)
    except InstantiationException as error:
        raise_cause(error)


@contextmanager
def _added(config: DictConfig, entries: Mapping[str, Any]) -> Iterator[None]:
    """Add entries to a config within the block; as arguments, Hydra would copy it to merge them."""
    with flag_override(config, ["struct", "readonly"], False):
        config.update(entries)
        try:
            yield
        finally:
            for key in entries:
                del config[key]


# Plain dictionaries and lists, because checkpoints cannot contain OmegaConf's containers.
PLAIN = {"_convert_": "all"}


def raise_cause(error: InstantiationException) -> NoReturn:
    """Raise the original error of the instantiated code."""
    cause: BaseException = error
    while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
        cause = cause.__cause__
    # Errors that explain() understands are in the config, and Hydra's error tells where.
    is_mistake = explain(error) is not None and not isinstance(cause, UserError)
    if cause is error or is_mistake:
        raise error
    raise cause.with_traceback(cause.__traceback__) from cause.__cause__


def find_target(config: DictConfig, name: str) -> Callable[..., Any]:
    """The class or function in `_target_`.

    Raises:
        UserError: it cannot be imported.
    """
    try:
        target: Callable[..., Any] = get_object(config._target_)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"{name}._target_={config._target_} cannot be imported: {error}."
        ) from error
    return target


def missing_parameters(config: DictConfig) -> dict[str, inspect.Parameter]:
    """The parameters of a model's `__init__` that its config does not set."""
    parameters = named_parameters(find_target(config, "model"))
    # For a key that it does not have, a config raises and catches an error.
    keys = config.keys()
    given = {name for name in parameters if name in keys and name in config}
    return {name: parameter for name, parameter in parameters.items() if name not in given}


def named_parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a class or function, without `*args` and `**kwargs`.

    A subclass of `BaseModule` passes its `**kwargs` on to its base class, so the parameters of that
    class are included.
    """
    parameters = inspect.signature(target).parameters
    named = {name: p for name, p in parameters.items() if p.kind not in COLLECTING}
    takes_more = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if takes_more and inspect.isclass(target) and issubclass(target, BaseModule):
        own = next(base for base in target.__mro__ if "__init__" in vars(base))
        return named_parameters(own.__mro__[1]) | named
    return named


def is_required(parameter: inspect.Parameter) -> bool:
    """Whether a parameter has no default."""
    return parameter.default is parameter.empty


def facts_of(datamodule: LightningDataModule, config: DictConfig) -> dict[str, Any]:
    """The facts about the data for the parameters of a model.

    Args:
        datamodule: after `setup`. The optional method `describe` takes precedence over attributes.
        config: the model's.
    """
    described = datamodule.describe() if hasattr(datamodule, "describe") else {}
    facts = {}
    for name, parameter in missing_parameters(config).items():
        is_asked_for = name in FACTS or name in described or parameter.default is parameter.empty
        if not is_asked_for or name in GROUPS:
            continue
        if name in described:
            facts[name] = described[name]
        elif not hasattr(LightningDataModule, name) and hasattr(datamodule, name):
            facts[name] = getattr(datamodule, name)
    return facts


def wants_optimizer(config: DictConfig) -> bool:
    """Whether a model reads the configs `optimizer` and `scheduler`."""
    target = find_target(config, "model")
    if not (inspect.isclass(target) and issubclass(target, LightningModule)):
        return True
    return issubclass(target, BaseModule) or not has_own_optimizer(target)


def has_own_optimizer(model_class: type[LightningModule]) -> bool:
    """Whether a class overrides `configure_optimizers` of `BaseModule` or LightningModule."""
    own = model_class.configure_optimizers
    return own not in (LightningModule.configure_optimizers, BaseModule.configure_optimizers)


def build_model(
    config: DictConfig, facts: Facts, optimizer: dict[str, Any], scheduler: dict[str, Any]
) -> LightningModule:
    """Build a model.

    Args:
        config: the model's.
        facts: the result of `facts_of`.
        optimizer: the config of that name.
        scheduler: the config of that name.

    Raises:
        UserError: neither the config nor the data provide a required argument, or the config names
            something other than a LightningModule.
    """
    missing = missing_parameters(config)
    arguments = dict(facts)
    if wants_optimizer(config):
        groups = {"optimizer": optimizer, "scheduler": scheduler}
        arguments |= {name: value for name, value in groups.items() if name in missing}
    required = [
        name
        for name, parameter in missing.items()
        if parameter.default is parameter.empty and name not in arguments
    ]
    if required:
        raise UserError(_missing(config, required))
    # Partial, so that Hydra does not copy the arguments and errors show the model's own code.
    make = build(leave_open(config), _partial_=True)
    model = make(**arguments)
    if not isinstance(model, LightningModule):
        raise UserError(
            f"model._target_={config._target_} gives a {type(model).__name__}: it must be a "
            "LightningModule."
        )
    return model


def leave_open(config: DictConfig) -> DictConfig:
    """The config of a model with partial networks, which the model completes.

    In a subclass of `BaseModule`, a part with `_target_` that requires `input_shape` or
    `num_outputs` becomes a function of these, because only the model knows them.
    """
    target = find_target(config, "model")
    if not (inspect.isclass(target) and issubclass(target, BaseModule)):
        return config
    config = config.copy()
    for name, part in config.items():
        if isinstance(part, DictConfig) and "_target_" in part and "_partial_" not in part:
            missing = missing_parameters(part)
            if any(shape in missing and is_required(missing[shape]) for shape in SHAPES):
                with open_dict(config):
                    config[name]["_partial_"] = True
    return config


def _missing(config: DictConfig, names: list[str]) -> str:
    target = find_target(config, "model")
    options = ", ".join(f"model.{name}" for name in names)
    return (
        f"{config._target_.rpartition('.')[2]} ({_file(target)}) requires {', '.join(names)}, "
        "which neither its config nor the data provide: define an attribute of that name in the "
        f"datamodule, or set {options} in the config of the model."
    )


def _file(target: Callable[..., Any]) -> str:
    try:
        return inspect.getfile(target)
    except TypeError:  # built in
        return "no file"


def build_datamodule(config: DictConfig) -> LightningDataModule:
    """Build a datamodule.

    Raises:
        UserError: the config names something other than a LightningDataModule.
    """
    datamodule = build(config)
    if not isinstance(datamodule, LightningDataModule):
        raise UserError(
            f"data._target_={config._target_} gives a {type(datamodule).__name__}: it must be a "
            "LightningDataModule."
        )
    return datamodule


def has_loader(datamodule: LightningDataModule, name: str) -> bool:
    """Whether a datamodule defines a loader, such as `test_dataloader`."""
    return is_overridden(name, datamodule)


def has_step(model: LightningModule, name: str) -> bool:
    """Whether a model defines a step, such as `test_step`."""
    return is_overridden(name, model)


def compile_model(model: LightningModule) -> None:
    """Compile the network `net` of a model, or else the model, in place.

    Wrapping the network would add `_orig_mod.` to the names of the weights in checkpoints.
    """
    net = getattr(model, "net", model)
    # One kernel per batch size. Kernels for all sizes, which torch compiles when it meets another
    # size, round differently, and a resumed run meets the sizes in a different order.
    net.compile(dynamic=False)
