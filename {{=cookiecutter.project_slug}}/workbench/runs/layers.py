"""What a model is made of, in plain values."""

from typing import Any

from pytorch_lightning import LightningModule
from torch import nn
from torch.nn.parameter import UninitializedParameter
from torchmetrics import Metric


def describe_model(model: LightningModule) -> dict[str, Any]:
    """The class, the number of parameters, and the layers with their own."""
    parameters = list(model.parameters())
    return {
        "class": type(model).__name__,
        "parameters": sum(map(count, parameters)),
        "trained": sum(count(parameter) for parameter in parameters if parameter.requires_grad),
        "layers": list_layers(model),
    }


def list_layers(model: LightningModule) -> list[dict[str, Any]]:
    """Name, what it is and number of parameters of every layer; metrics are left out."""
    layers = []
    for name, module in model.named_modules():
        parameters = sum(map(count, module.parameters(recurse=False)))
        is_layer = next(module.children(), None) is None and not isinstance(module, Metric)
        if is_layer or parameters:
            layers.append({"name": name, "what": str(module), "parameters": parameters})
    return layers


def count(parameter: nn.Parameter) -> int:
    """Number of values; 0 for a lazy module, which knows its shape after the first batch."""
    return 0 if isinstance(parameter, UninitializedParameter) else parameter.numel()
