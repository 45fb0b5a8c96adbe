"""Classifiers of transformers, of images or texts: hf/microsoft/resnet-18, or hf/<a folder>."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from ...errors import UserError, first_line
from .hub import without_retries
from .interface import Backbone, ImageInput, NotDescribedError, load_file, reads_library, renew
from .names import Library, import_package, not_available

DESCRIPTION = "preprocessor_config.json"
ITS_PURPOSE = (
    "which gives the size and normalisation of its images: set data.height and data.width, and "
    "data.backbone=null for the mean and standard deviation of your images."
)


def image_input(name: str) -> ImageInput:
    """Size, mean and standard deviation; see `image_input` of the package."""
    with _loading(name) as transformers:
        options = {"_raise_exceptions_for_missing_entries": False}
        path = transformers.utils.cached_file(name, DESCRIPTION, **options)
    if path is None:
        raise NotDescribedError(f"hf/{name} has no {DESCRIPTION}, {ITS_PURPOSE}")
    found = json.loads(Path(path).read_text("utf-8"))
    try:
        height, width = _size(found.get("crop_size") or found["size"])
        return ImageInput(height, width, found["image_mean"], found["image_std"])
    except (KeyError, TypeError) as error:
        lacks = f"The {DESCRIPTION} of hf/{name} lacks {first_line(error)}"
        raise NotDescribedError(f"{lacks}, {ITS_PURPOSE}") from error


def _size(value: Any) -> tuple[int, int]:
    """Height and width, which transformers writes in several ways."""
    if isinstance(value, int):
        return value, value
    if "shortest_edge" in value:
        return value["shortest_edge"], value["shortest_edge"]
    return value["height"], value["width"]


def build(
    name: str,
    num_outputs: int,
    weights: str | None,
    architecture: dict[str, Any] | None,
    is_text: bool = False,
) -> Backbone:
    """Build a network; see `build_backbone`."""
    kind = "text" if is_text else "image"
    with _loading(name, kind) as transformers:
        if architecture is None:
            config = transformers.AutoConfig.from_pretrained(name)
        else:
            options = dict(architecture)
            config = transformers.AutoConfig.for_model(options.pop("model_type"), **options)
        config.num_labels = num_outputs
        task = "SequenceClassification" if is_text else "ImageClassification"
        classifier = getattr(transformers, f"AutoModelFor{task}")
        if reads_library(weights):
            net = classifier.from_pretrained(name, config=config, ignore_mismatched_sizes=True)
        else:
            net = classifier.from_config(config)
    body = net.base_model
    head = [child for child in net.children() if child is not body and _has_weights(child)]
    renew(head)
    load_file(net, head, weights, name)
    net.register_forward_hook(_logits)
    return Backbone(net, head, config.to_dict())


def _logits(net: nn.Module, inputs: Any, output: Any) -> Any:
    return output.logits


@contextmanager
def _loading(name: str, kind: str = "image") -> Iterator[Any]:
    """The package transformers, which reports no missing head within this context.

    Raises:
        UserError: something can be found neither in a folder or the cache nor on the Hub, or it
            does not describe a classifier of this kind, "image" or "text".
    """
    transformers = import_package(Library.HF)
    messages = transformers.utils.logging
    verbosity, has_bars = messages.get_verbosity(), messages.is_progress_bar_enabled()
    messages.set_verbosity_error()
    messages.disable_progress_bar()
    try:
        with without_retries():
            yield transformers
    except OSError as error:
        raise _not_available(name, error) from error
    except ValueError as error:
        raise UserError(
            f"hf/{name} is not a classifier of {kind}s: {first_line(error)}."
        ) from error
    finally:
        messages.set_verbosity(verbosity)
        if has_bars:
            messages.enable_progress_bar()


def _not_available(name: str, error: OSError) -> UserError:
    if Path(name).is_dir():
        return UserError(
            f"hf/{name} is a folder without a complete network ({first_line(error)}): "
            "`save_pretrained` of transformers writes config.json and model.safetensors; "
            "without the latter, set model.weights to another file or null."
        )
    if name.startswith((".", "/")):
        return UserError(f"There is no folder {name}, which model.backbone=hf/{name} names.")
    # Without internet access, a file of weights would not do: the description is missing too.
    instead = "name the folder of a network, as in model.backbone=hf/<folder>"
    return not_available(f"hf/{name}", f"hf download {name}", error, instead)


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
