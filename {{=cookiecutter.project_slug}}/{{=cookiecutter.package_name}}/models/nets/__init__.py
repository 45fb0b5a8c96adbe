"""Networks by name. To add your own, write it in this folder and add a line to `NETS`.

Each is called with `input_shape`, `num_outputs` and the options in `model.net`.
"""

from collections.abc import Callable

from torch import nn

from .cnn import CNN
from .mlp import MLP
from .resnet import resnet18
from .text_encoder import TextEncoder

NETS: dict[str, Callable[..., nn.Module]] = {
    "mlp": MLP,
    "cnn": CNN,
    "resnet18": resnet18,
    "text_encoder": TextEncoder,
}

__all__ = ["CNN", "MLP", "NETS", "TextEncoder", "resnet18"]
