"""Pretrained weights.

A checkpoint of a fine-tuned network holds all weights, so loading it needs neither the file nor the
download of the pretrained ones.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.modules.module import _IncompatibleKeys

from ..errors import UserError, first_line

log = logging.getLogger(__name__)

# The names of the option in torchvision and timm.
OPTIONS = {"weights", "pretrained"}
NOTHING_MISSING = _IncompatibleKeys([], [])

_IS_NEEDED: ContextVar[bool] = ContextVar("pretrained weights are needed", default=True)


@contextmanager
def without_pretrained() -> Iterator[None]:
    """Build networks without pretrained weights: a checkpoint replaces them afterwards."""
    token = _IS_NEEDED.set(False)
    try:
        yield
    finally:
        _IS_NEEDED.reset(token)


def is_needed() -> bool:
    """Whether a network should load its pretrained weights."""
    return _IS_NEEDED.get()


def without_weights(config: DictConfig) -> DictConfig:
    """A model's config without the options of torchvision and timm that load weights."""
    config = config.copy()
    for part in [config, *(value for value in config.values() if isinstance(value, DictConfig))]:
        for name in OPTIONS & part.keys():
            part[name] = False if isinstance(part[name], bool) else None
    return config


class Absent(dict[str, Any]):
    """Stands for the content of a file that is not read."""

    def __missing__(self, key: str) -> "Absent":
        return self


@contextmanager
def without_reading() -> Iterator[None]:
    """Make `torch.load` and `load_state_dict` do nothing, for constructors that call them."""
    read, load = torch.load, nn.Module.load_state_dict
    torch.load = lambda *_, **__: Absent()
    nn.Module.load_state_dict = lambda *_, **__: NOTHING_MISSING  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.load, nn.Module.load_state_dict = read, load  # type: ignore[method-assign]


def read_weights(path: str | Path) -> Mapping[str, Tensor]:
    """The weights in a file: a `state_dict`, also as safetensors, or a checkpoint of Lightning.

    Raises:
        UserError: the file cannot be read.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"There is no file {path} to load weights from.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # installed with timm and transformers

            content: dict[str, Any] = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"The weights {path} cannot be read: {first_line(error)}.") from error
    state: dict[str, Tensor] = content.get("state_dict", content)
    # In the checkpoint of a LightningModule, the network is `net`.
    return {name.removeprefix("net."): value for name, value in state.items()}


def load_matching(net: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load the weights whose name and shape fit, and log the others, such as a new head.

    Raises:
        UserError: none of them fits.
    """
    own = net.state_dict()
    fitting = {
        name: value
        for name, value in weights.items()
        if name in own and own[name].shape == value.shape
    }
    if not fitting:
        raise UserError(f"None of the weights of {source} fits {type(net).__name__}.")
    net.load_state_dict(fitting, strict=False)
    left = [name for name in own if name not in fitting]
    log.info("%d of %d weights loaded from %s", len(fitting), len(own), source)
    if left:
        log.info("not loaded from %s: %s", source, ", ".join(left))
