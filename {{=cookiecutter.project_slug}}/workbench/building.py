"""Builds datamodules and models from their configs, whatever classes these name.

A model gets a fact about the data, such as `num_classes`, if its `__init__` names the parameter and
its config does not set it. The same holds for the `optimizer` and `scheduler` configs, except that
a plain LightningModule with its own `configure_optimizers` never gets them.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, open_dict
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.utilities.model_helpers import is_overridden

from .errors import UserError
from .hydra_errors import explain
from .models.base import BaseModule

# What data usually tell a model. A parameter with one of these names gets the fact even if it has a
# default value; any other parameter only if it has none.
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
# What a model tells the network in it.
SHAPES = ("input_shape", "num_outputs")
# The kinds of `*args` and `**kwargs`, which name nothing.
COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

Facts = Mapping[str, Any]


def build(config: Any, **arguments: Any) -> Any:
    """Instantiate a config; an error in the code that it names is raised as it is.

    Hydra would wrap the error in an InstantiationException that names no line of that code.
    """
    options = {} if isinstance(config, DictConfig) and "_convert_" in config else PLAIN
    try:
        return instantiate(config, **options, **arguments)
    except InstantiationException as error:
        raise_cause(error)


# Dictionaries and lists rather than OmegaConf's containers, which no checkpoint may hold.
PLAIN = {"_convert_": "all"}


def raise_cause(error: InstantiationException) -> NoReturn:
    """Raise what went wrong within the instantiated code."""
    cause: BaseException = error
    while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
        cause = cause.__cause__
    # What explain() understands is a mistake in the config, and the error says in which part.
    is_mistake = explain(error) is not None and not isinstance(cause, UserError)
    if cause is error or is_mistake:
        raise error
    raise cause.with_traceback(cause.__traceback__) from cause.__cause__


def find_target(config: DictConfig, name: str) -> Callable[..., Any]:
    """The class or function that a config names.

    Raises:
        UserError: there is none.
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
    return {name: parameter for name, parameter in parameters.items() if name not in config}


def named_parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters that a class or function names.

    A subclass of `BaseModule` passes its `**kwargs` on to the class that it extends, so the
    parameters of that class are among them. Those of any other class name nothing.
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
    """What the data tell a model: attributes of the datamodule, for parameters of the same name.

    Args:
        datamodule: after `setup`. Its optional method `describe` has precedence over attributes.
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
    """Whether a model reads the `optimizer` and `scheduler` configs.

    Subclasses of `BaseModule` do; a plain LightningModule has its own optimizer.
    """
    target = find_target(config, "model")
    if not (inspect.isclass(target) and issubclass(target, LightningModule)):
        return True
    return issubclass(target, BaseModule) or not has_own_optimizer(target)


def has_own_optimizer(model_class: type[LightningModule]) -> bool:
    """Whether a class builds its optimizers without the help of `BaseModule`."""
    own = model_class.configure_optimizers
    return own not in (LightningModule.configure_optimizers, BaseModule.configure_optimizers)


def build_model(
    config: DictConfig, facts: Facts, optimizer: dict[str, Any], scheduler: dict[str, Any]
) -> LightningModule:
    """Build the model that a config names.

    Args:
        config: the model's.
        facts: what the data tell the model, see `facts_of`.
        optimizer: the config of that name.
        scheduler: the config of that name.

    Raises:
        UserError: the model requires an argument that neither its config nor the data provide.
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
    # Partial, so that Hydra does not copy the arguments and errors show the model's own lines.
    make = build(leave_open(config), _partial_=True)
    model = make(**arguments)
    if not isinstance(model, LightningModule):
        raise UserError(
            f"model._target_={config._target_} gives a {type(model).__name__}: it has to be a "
            "LightningModule."
        )
    return model


def leave_open(config: DictConfig) -> DictConfig:
    """A model's config whose networks are built by the model, if only it knows their shapes.

    Args:
        config: the model's. In one of `BaseModule`, a part with `_target_` that requires
            `input_shape` or `num_outputs` becomes a function of these.
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
        UserError: the config names something else.
    """
    datamodule = build(config)
    if not isinstance(datamodule, LightningDataModule):
        raise UserError(
            f"data._target_={config._target_} gives a {type(datamodule).__name__}: it has to be a "
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

    Wrapping the network would put `_orig_mod.` into the names of the weights in checkpoints.
    """
    net = getattr(model, "net", model)
    # One kernel for each batch size: those that torch would make for all sizes once it has met two
    # round otherwise, and a resumed run meets the sizes in another order.
    net.compile(dynamic=False)
