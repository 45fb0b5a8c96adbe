"""What a model is made of, in plain values."""

from typing import Any

from pytorch_lightning import LightningModule
from torchmetrics import Metric


def describe_model(model: LightningModule) -> dict[str, Any]:
    """The class, the number of parameters, and the layers with their own."""
    parameters = list(model.parameters())
    return {
        "class": type(model).__name__,
        "parameters": sum(parameter.numel() for parameter in parameters),
        "trained": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        "layers": list_layers(model),
    }


def list_layers(model: LightningModule) -> list[dict[str, Any]]:
    """Name, what it is and number of parameters of every layer; metrics are left out."""
    layers = []
    for name, module in model.named_modules():
        count = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        is_layer = next(module.children(), None) is None and not isinstance(module, Metric)
        if is_layer or count:
            layers.append({"name": name, "what": str(module), "parameters": count})
    return layers
