"""Networks of timm: timm/convnext_tiny, or timm/convnext_tiny.fb_in22k for certain weights."""

from typing import Any

from torch import nn

from .hub import without_retries
from .interface import Backbone, ImageInput, load_file, reads_library, renew
from .names import Library, import_package, not_available, unknown


def _description(name: str) -> Any:
    """The size and the normalisation of a network.

    Raises:
        UserError: timm is not installed, or has no such network.
    """
    timm = import_package(Library.TIMM)
    try:
        found = timm.get_pretrained_cfg(name)
    except RuntimeError:
        found = None
    if found is None or not timm.is_model(name):
        raise unknown(Library.TIMM, name, timm.list_models())
    return found


def image_input(name: str) -> ImageInput:
    """Size, mean and standard deviation; see `image_input` of the package."""
    found = _description(name)
    _, height, width = found.input_size
    return ImageInput(height, width, list(found.mean), list(found.std))


def build(
    name: str, num_outputs: int, weights: str | None, architecture: dict[str, Any] | None
) -> Backbone:
    """Build a network; see `build_backbone`."""
    _description(name)
    timm = import_package(Library.TIMM)
    if reads_library(weights):
        try:
            with without_retries():
                net = timm.create_model(name, pretrained=True)
        except (OSError, RuntimeError) as error:
            command = f"import timm; timm.create_model('{name}', pretrained=True)"
            full = f"{Library.TIMM}/{name}"
            raise not_available(full, f'python -c "{command}"', error) from error
    else:
        net = timm.create_model(name, pretrained=False)
    net.reset_classifier(num_outputs)
    found = net.get_classifier()
    # Distilled networks have two.
    head = [each for each in (found if isinstance(found, tuple) else (found,)) if _is_layer(each)]
    renew(head)
    load_file(net, head, weights, name)
    return Backbone(net, head)


def _is_layer(value: Any) -> bool:
    return isinstance(value, nn.Module) and next(value.parameters(), None) is not None
