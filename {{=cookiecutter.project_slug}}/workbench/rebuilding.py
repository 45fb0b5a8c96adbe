"""Models from checkpoints: rebuilt with their weights, or started from the weights of others."""

import importlib
import inspect
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities.model_helpers import is_overridden
from pytorch_lightning.utilities.parsing import AttributeDict
from torch import Tensor

from .assembly import build_datamodule
from .building import GROUPS, build_model, facts_of, missing_parameters, named_parameters
from .errors import UserError, first_line
from .models.pretrained import without_pretrained, without_reading, without_weights
from .project import project
from .runs.checkpoints import COMPILED, is_built_later, read_checkpoint
from .runs.config import CONFIG, config_path, load_config, plain
from .runs.trusted_targets import check_data, check_targets

log = logging.getLogger(__name__)

# More names than this make a sentence unreadable.
NAMES_SHOWN = 3


@dataclass(frozen=True)
class Rebuilt:
    """A model and what its checkpoint says about it.

    Attributes:
        model: with the weights of the checkpoint, on the CPU, in evaluation mode.
        facts: what the model was told about the data, by name.
        restore: loads the weights again, for a model that gets layers in its `setup` hook.
    """

    model: LightningModule
    facts: dict[str, Any]
    restore: "RestoreWeights | None"


def rebuild(path: str | Path, trust_config: bool = False, in_trainer: bool = False) -> Rebuilt:
    """Rebuild the model of a checkpoint.

    A model of this package whose checkpoint holds all arguments needs nothing else, so its file can
    be moved. Any other model is built from the `config.yaml` of the checkpoint's run.
    A checkpoint alone never selects code outside the package's models.

    Args:
        path: the checkpoint.
        trust_config: whether config and hyperparameters may name anything to import and call.
        in_trainer: the weights may be completed by `restore`, a callback of the trainer that runs
            the model.

    Raises:
        UserError: no checkpoint of this project, no config for its model, a config that names
            something else than parts of a run, or weights that do not fit.
    """
    checkpoint = read_checkpoint(path)
    source = config_path(path)
    with without_pretrained():
        model = _from_checkpoint(path, checkpoint, source is not None, trust_config)
        if model is None:
            if source is None:
                raise UserError(
                    f"{path} does not contain everything that its model "
                    f"{checkpoint['model_class']!r} is built from, and it is not in the folder of "
                    f"a run: move it back beside the {CONFIG} of its run."
                )
            model = _from_config(checkpoint, source, trust_config)
    if is_overridden("configure_model", model):
        model.configure_model()
    checkpoint["state_dict"] = rename_compiled(checkpoint["state_dict"], model)
    model.on_load_checkpoint(checkpoint)
    is_partial = in_trainer and is_built_later(model)
    load_weights(model, checkpoint["state_dict"], path, is_partial)
    restore = RestoreWeights(checkpoint["state_dict"], path) if is_partial else None
    return Rebuilt(model.eval(), checkpoint.get("data_facts", {}), restore)


def _from_config(checkpoint: dict[str, Any], source: Path, trust_config: bool) -> LightningModule:
    """The model that a run's config names, with new weights.

    Raises:
        UserError: the config names something other than parts of a run.
    """
    config = load_config(source.parent)
    if not trust_config:
        check_targets({name: config.get(name) for name in ("model", *GROUPS)}, source)
    groups = [plain(config[name]) if name in config else {} for name in GROUPS]
    facts = _facts(checkpoint, config, source, trust_config)
    try:
        return build_model(config.model, facts, *groups)
    except OSError:
        # A constructor loads weights from a file or the internet; the checkpoint has them too.
        with suppress(Exception):
            return build_model(without_weights(config.model), facts, *groups)
        with suppress(Exception), without_reading():
            return build_model(config.model, facts, *groups)
        raise


def _facts(
    checkpoint: dict[str, Any], config: DictConfig, source: Path, trust_config: bool
) -> dict[str, Any]:
    """What the data told the model.

    A fact that no checkpoint can hold, such as a tokenizer, comes from the data themselves.

    Raises:
        UserError: the config names something else than a datamodule.
    """
    facts: dict[str, Any] = checkpoint.get("data_facts", {})
    required = {
        name
        for name, parameter in missing_parameters(config.model).items()
        if parameter.default is parameter.empty
    }
    if required <= {*facts, *GROUPS}:
        return facts
    if not trust_config:
        check_data(config, source)
    return facts_of(build_datamodule(config), config.model) | facts


def _from_checkpoint(
    path: str | Path, checkpoint: dict[str, Any], has_config: bool, trust_config: bool
) -> LightningModule | None:
    """The model of a checkpoint that says everything itself, with new weights; else None.

    Raises:
        UserError: the class takes other arguments now, or an argument names something else than
            parts of a run.
    """
    found = _class_of_package(str(checkpoint["model_class"]))
    if found is None:
        return None
    parameters = named_parameters(found)
    saved = _arguments(checkpoint, parameters)
    absent = [name for name in parameters if name not in saved]
    # The run may have set it to something that a checkpoint cannot hold, such as a network.
    if has_config and absent:
        return None
    if any(parameters[name].default is inspect.Parameter.empty for name in absent):
        return None
    if absent:
        log.warning("not in %s, so the defaults are used: %s", path, ", ".join(absent))
    if not trust_config:
        # The model may build what they name.
        check_targets(saved, path)
    try:
        return found(**saved)
    except (TypeError, RuntimeError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} does not fit the model {found.__name__} as it is now in this project "
            f"({first_line(error)})."
        ) from error


def _class_of_package(name: str) -> type[LightningModule] | None:
    """The class of the project's models with that name in checkpoints; None for any other."""
    module, _, attribute = name.partition(":")
    full = f"{project().package}.{module}"
    if not module.startswith("models."):
        return None
    try:
        found = getattr(importlib.import_module(full), attribute)
    except (ImportError, AttributeError):
        return None
    is_model = isinstance(found, type) and issubclass(found, LightningModule)
    return found if is_model and found.__module__ == full else None


def _arguments(
    checkpoint: dict[str, Any], parameters: Mapping[str, inspect.Parameter]
) -> dict[str, Any]:
    """The arguments of a model that its checkpoint holds."""
    saved: dict[str, Any] = dict(checkpoint.get("hyper_parameters", {}))
    # `save_hyperparameters(hparams)` spreads a single dictionary or namespace.
    whole = checkpoint.get("hparams_name")
    if isinstance(whole, str) and whole in parameters:
        saved = {whole: AttributeDict(saved)}
    return {name: value for name, value in saved.items() if name in parameters}


def rename_compiled(weights: Mapping[str, Any], model: LightningModule) -> dict[str, Any]:
    """The weights under the model's own names, whichever of the two torch.compile has wrapped."""
    own = {name.replace(COMPILED, ""): name for name in model.state_dict()}
    if weights.keys() <= set(own.values()):
        return dict(weights)
    plain_names = {name: name.replace(COMPILED, "") for name in weights}
    return {own.get(plain_names[name], name): value for name, value in weights.items()}


def load_weights(
    model: LightningModule, weights: Mapping[str, Any], path: str | Path, partial: bool = False
) -> None:
    """Put the weights of a checkpoint into a model.

    Raises:
        UserError: they do not fit; with `partial` the model may lack layers or weights.
    """
    own = model.state_dict()
    wrong = {
        "has another shape here": [
            name
            for name in own
            if isinstance(own[name], Tensor)
            and isinstance(weights.get(name), Tensor)
            and own[name].shape != weights[name].shape
        ]
    }
    if model.strict_loading and not partial:
        wrong["is missing in the checkpoint"] = [name for name in own if name not in weights]
        wrong["is not part of the model"] = [name for name in weights if name not in own]
    reasons = [
        f"{', '.join(names[:NAMES_SHOWN])}{' and others' * (len(names) > NAMES_SHOWN)} {reason}"
        for reason, names in wrong.items()
        if names
    ]
    if reasons:
        hint = "; load it with trainer.test, which calls setup" if is_built_later(model) else ""
        raise UserError(
            f"{path} does not fit the model {type(model).__name__} as it is now in this project "
            f"({'; '.join(reasons)}){hint}."
        )
    model.load_state_dict(weights, strict=model.strict_loading and not partial)


class RestoreWeights(Callback):
    """Loads all weights once the model has its trainer, where `setup` has made layers.

    Args:
        weights: of the checkpoint.
        path: the checkpoint.
    """

    def __init__(self, weights: dict[str, Any], path: str | Path) -> None:
        self.weights, self.path = weights, path

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the weights."""
        load_weights(pl_module, rename_compiled(self.weights, pl_module), self.path)

    on_test_start = on_validation_start
    on_predict_start = on_validation_start


def _tensors(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights without what modules save beside tensors."""
    return {name: value for name, value in weights.items() if isinstance(value, Tensor)}


def start_from(path: str, model: LightningModule) -> dict[str, list[str]]:
    """Load the weights of a checkpoint that fit, and log those that do not.

    The checkpoint may be of another model class: what counts are names and shapes. So a network
    with a new head keeps its features, for example.

    Returns:
        The names of the weights: `loaded`, `other_shape`, `missing` in the checkpoint, and
        `unexpected`, which this model does not have.

    Raises:
        UserError: not a checkpoint of this project, or not one of its weights fits.
    """
    weights = rename_compiled(read_checkpoint(path)["state_dict"], model)
    saved, own = _tensors(weights), _tensors(model.state_dict())
    shared = [name for name in own if name in saved]
    names = {
        "loaded": [name for name in shared if saved[name].shape == own[name].shape],
        "other_shape": [name for name in shared if saved[name].shape != own[name].shape],
        "missing": [name for name in own if name not in saved],
        "unexpected": [name for name in saved if name not in own],
    }
    shapes = ", ".join(
        f"{name} ({tuple(saved[name].shape)} in the checkpoint, {tuple(own[name].shape)} here)"
        for name in names["other_shape"]
    )
    if not names["loaded"]:
        reason = shapes or f"it has {', '.join(names['unexpected'])}"
        raise UserError(f"None of the weights of weights_from={path} fits this model: {reason}.")
    model.load_state_dict({name: saved[name] for name in names["loaded"]}, strict=False)
    log.info("weights_from: %d of %d weights loaded from %s", len(names["loaded"]), len(own), path)
    if shapes:
        log.warning("weights_from: not loaded because of their shape: %s", shapes)
    if names["missing"]:
        log.warning("weights_from: missing in the checkpoint: %s", ", ".join(names["missing"]))
    if names["unexpected"]:
        log.warning("weights_from: not part of this model: %s", ", ".join(names["unexpected"]))
    return names
