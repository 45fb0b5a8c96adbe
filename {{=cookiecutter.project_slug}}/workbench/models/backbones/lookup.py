"""Builds and describes a backbone with the module of its library.

Each library has a module with the functions `image_input` and `build`. It is imported when one of
its networks is named, because timm and transformers are optional.
"""

from importlib import import_module
from typing import Any

from ...errors import UserError
from .interface import PRETRAINED, Backbone, ImageInput
from .names import Library, parse

MODULES = {
    Library.TORCHVISION: "torchvision_models",
    Library.TIMM: "timm_models",
    Library.HF: "hf_models",
}


def _module(library: Library) -> Any:
    return import_module(f".{MODULES[library]}", __package__)


def image_input(backbone: str) -> ImageInput:
    """The images that a backbone was trained on.

    Raises:
        UserError: there is no such backbone, or its description cannot be had.
    """
    library, name = parse(backbone)
    found: ImageInput = _module(library).image_input(name)
    return found


def build_backbone(
    backbone: str,
    num_outputs: int,
    weights: str | None = PRETRAINED,
    architecture: dict[str, Any] | None = None,
    is_text: bool = False,
) -> Backbone:
    """Build a pretrained network with a new last layer.

    Args:
        backbone: its name, see `names.parse`.
        num_outputs: width of the new layer.
        weights: "pretrained" for those that the library publishes, which it downloads into its
            cache; a file with a `state_dict` or a checkpoint of this project; None for random ones.
        architecture: of an earlier `Backbone`, for networks that a name alone does not describe.
        is_text: whether the data are texts.

    Raises:
        UserError: there is no such backbone, or its weights cannot be had.
    """
    library, name = parse(backbone)
    source = None if weights == "none" else weights
    if is_text and library is not Library.HF:
        raise UserError(
            f"model.backbone={backbone} reads images, and the data are texts: choose a network of "
            "transformers, such as model.backbone=hf/<folder or name>."
        )
    kind = {"is_text": True} if is_text else {}
    built: Backbone = _module(library).build(name, num_outputs, source, architecture, **kind)
    # A library may return its network in evaluation mode.
    built.net.train()
    return built
