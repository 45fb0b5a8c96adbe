"""Networks of torchvision: torchvision/resnet18."""

from typing import Any

from torch import nn
from torchvision import models

from .interface import Backbone, ImageInput, load_body, load_file, reads_library
from .names import Library, not_available, unknown

# These expect ImageNet's normalisation too and convert it; their auxiliary heads are left out.
INCEPTIONS = {"googlenet", "inception_v3"}


def _published(name: str) -> Any:
    """The best weights of a network.

    Raises:
        UserError: there is no such network.
    """
    known = models.list_models(module=models)
    if name not in known:
        raise unknown(Library.TORCHVISION, name, known)
    return models.get_model_weights(name).DEFAULT


def image_input(name: str) -> ImageInput:
    """Size, mean and standard deviation; see `image_input` of the package."""
    transforms = _published(name).transforms()
    side = transforms.crop_size[0]
    return ImageInput(side, side, list(transforms.mean), list(transforms.std))


def build(
    name: str, num_outputs: int, weights: str | None, architecture: dict[str, Any] | None
) -> Backbone:
    """Build a network; see `build_backbone`."""
    published = _published(name)
    options: dict[str, Any] = {"num_classes": num_outputs}
    if name in INCEPTIONS:
        options |= {"transform_input": True, "aux_logits": False, "init_weights": False}
    if name.startswith("vit_"):
        options["image_size"] = image_input(name).height
    net = models.get_model(name, weights=None, **options)
    head = [last_layer(net)]
    if reads_library(weights):
        full = f"{Library.TORCHVISION}/{name}"
        try:
            state = published.get_state_dict(progress=False, check_hash=True)
        except (OSError, RuntimeError) as error:
            command = f"import torchvision.models as m; m.get_model('{name}', weights='DEFAULT')"
            raise not_available(full, f'python -c "{command}"', error) from error
        load_body(net, head, state, full)
    load_file(net, head, weights, name)
    return Backbone(net, head)


def last_layer(net: nn.Module) -> nn.Module:
    """The last module with weights of its own, which computes the logits."""
    return [m for m in net.modules() if next(m.parameters(recurse=False), None) is not None][-1]
