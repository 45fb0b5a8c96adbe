"""Networks and losses that a model's config names.

A checkpoint holds the name and the options. A name only reaches what the project lists, whereas an
import path could make a downloaded checkpoint run any code. A part given by `_target_` is not in
the checkpoint; it is built again from the run's config.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from ..checks import check_integer
from ..errors import UserError, cannot_build, nearest

Constructors = Mapping[str, Callable[..., nn.Module]]
# A name and options, a loss, or None for the default.
Loss = Mapping[str, Any] | nn.Module
# A name and options, a network, or a function of `input_shape` and `num_outputs` that makes one.
Net = Mapping[str, Any] | nn.Module | Callable[..., nn.Module]

BALANCED = "balanced"
# The smallest values of options that networks share.
SMALLEST = {"width": 1, "depth": 0}


def parts_of(**arguments: Any) -> list[str]:
    """The arguments that are networks or losses themselves, which no checkpoint can hold."""
    return [name for name, value in arguments.items() if callable(value)]


def build_net(
    nets: Constructors,
    net: Net,
    input_shape: Sequence[int],
    num_outputs: int,
    preprocessing: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a network for the data.

    Args:
        nets: the networks by name; each is called with `input_shape`, `num_outputs` and options.
        net: `name` and options; or a network, or a function that makes one.
        input_shape: shape of one sample, (C, H, W) or (num_features,); for texts, the maximum
            length and the number of codes.
        num_outputs: width of the last layer.
        preprocessing: how a raw sample becomes an input.

    Raises:
        UserError: there is no such network or option, or it does not read texts and these are.
    """
    if isinstance(net, nn.Module):
        return net
    if not isinstance(net, Mapping):
        shapes = {"input_shape": input_shape, "num_outputs": num_outputs}
        wanted = inspect.signature(net).parameters
        return net(**{name: value for name, value in shapes.items() if name in wanted})
    options = dict(net)
    name = options.pop("name", None)
    if name not in nets:
        raise UserError(f"There is no net {name!r} for model.net.name; {nearest(str(name), nets)}")
    check_reads(name, nets[name], is_text=(preprocessing or {}).get("kind") == "text")
    for option, smallest in SMALLEST.items():
        check_integer(f"model.net.{option}", options.get(option, smallest), smallest)
    try:
        return nets[name](input_shape, num_outputs, **options)
    except (TypeError, ValueError) as error:
        raise cannot_build("net", name, options, error) from error


def check_reads(name: str, constructor: Callable[..., nn.Module], is_text: bool) -> None:
    """Raise a UserError if a network reads texts and the data are none, or vice versa.

    A network that reads texts has the argument `input_ids` in its `forward`.
    """
    parameters = inspect.signature(getattr(constructor, "forward", constructor)).parameters
    reads_texts = "input_ids" in parameters
    if is_text and not reads_texts:
        raise UserError(
            f"The data are texts, which the net {name!r} does not read: choose model=text_encoder, "
            "or model=text_regressor for a target of numbers."
        )
    if reads_texts and not is_text:
        raise UserError(
            f"The net {name!r} reads texts, and the data are none: choose another model group, for "
            "example model=mlp."
        )


def build_loss(
    losses: Mapping[str, Constructors],
    loss: Loss | None,
    task: str,
    num_classes: int = 0,
    class_counts: Sequence[Any] | None = None,
) -> nn.Module:
    """Build the loss of a task.

    Args:
        losses: the losses of each task by name; the first one is the default.
        loss: `name`, or "auto" for the default, and options, of which None counts as not given; or
            a loss.
        task: "classification", "multilabel" or "regression".
        num_classes: number of classes or labels.
        class_counts: see `class_weights`.

    Raises:
        UserError: the task has no such loss, or the loss no such option.
    """
    if isinstance(loss, nn.Module):
        return loss
    options = {key: value for key, value in (loss or {}).items() if value is not None}
    if "class_weight" in options:
        weights = class_weights(options["class_weight"], class_counts, num_classes)
        options["class_weight"] = weights
    known = losses[task]
    name = str(options.pop("name", "auto"))
    name = next(iter(known)) if name == "auto" else name
    if name not in known:
        raise UserError(f"There is no loss {name!r} for {task}; {nearest(name, known)}")
    try:
        return known[name](**options)
    except (TypeError, ValueError) as error:
        raise cannot_build("loss", name, options, error) from error


def class_weights(
    weights: str | Sequence[float], counts: Sequence[Any] | None, num_classes: int
) -> list[float]:
    """The weight of each class.

    Args:
        weights: one for each class, or "balanced".
        counts: training samples of each class, or [without, with] of each label.
        num_classes: number of classes or labels.

    Raises:
        UserError: not one positive number for each class, or "balanced" without counts.
    """
    if isinstance(weights, str):
        if weights != BALANCED:
            raise UserError(
                f"model.loss.class_weight is {BALANCED} or a list of numbers, not {weights!r}."
            )
        if counts is None:
            raise UserError(
                "model.loss.class_weight=balanced requires class_counts, the training samples of "
                "each class: define this attribute in the datamodule's setup(), or list the "
                "weights."
            )
        return balanced(counts)
    found = [float(weight) for weight in weights]
    if len(found) != num_classes or not all(0 < weight < float("inf") for weight in found):
        raise UserError(
            f"model.loss.class_weight needs one positive number for each of the {num_classes} "
            f"classes, not {found}."
        )
    return found


def balanced(counts: Sequence[Any]) -> list[float]:
    """Weights that make all classes, or both values of each label, count equally.

    A class without training samples has the weight 1.
    """
    if isinstance(counts[0], Sequence):
        return [without / with_ if without and with_ else 1.0 for without, with_ in counts]
    present = [count for count in counts if count]
    mean = sum(present) / len(present)
    return [mean / count if count else 1.0 for count in counts]
