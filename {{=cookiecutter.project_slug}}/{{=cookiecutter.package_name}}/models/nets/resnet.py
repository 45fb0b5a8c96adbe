"""ResNet-18 for small images."""

from collections.abc import Sequence

from torch import nn
from torchvision.models import ResNet18_Weights
from torchvision.models import resnet18 as torchvision_resnet18

from workbench.models.pretrained import is_needed, load_matching, read_weights

# Below this size the original stem (stride 2, then pooling) leaves too little of the image.
SMALL_IMAGE = 64


def resnet18(
    input_shape: Sequence[int],
    num_outputs: int,
    small_stem: bool = True,
    weights: str | None = None,
) -> nn.Module:
    """Torchvision's ResNet-18, with a stem that suits small images.

    The original stem downsamples by 4 before the first block, which would leave 8 x 8 of a
    32 x 32 image. Below 64 pixels, `small_stem` replaces it by one 3 x 3 convolution, as He et al.
    do for CIFAR-10 in section 4.2 of https://arxiv.org/abs/1512.03385.

    Shapes: (B, C, H, W) to (B, num_outputs).

    Args:
        input_shape: (C, H, W).
        num_outputs: width of the last layer.
        small_stem: use the stem for small images, see above.
        weights: pretrained weights, IMAGENET1K_V1 (downloaded) or a file; layers whose shape
            differs are skipped. None starts untrained.
    """
    if len(input_shape) != 3:
        raise ValueError(f"it needs images of shape (C, H, W), the data are {tuple(input_shape)}")
    channels, height, width = input_shape
    net = torchvision_resnet18(weights=None, num_classes=num_outputs)
    if small_stem and min(height, width) < SMALL_IMAGE:
        net.conv1 = nn.Conv2d(channels, 64, kernel_size=3, padding=1, bias=False)
        net.maxpool = nn.Identity()
    elif channels != 3:
        net.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    if weights is not None and is_needed():
        if weights in ResNet18_Weights.__members__:
            state = ResNet18_Weights[weights].get_state_dict(progress=False, check_hash=True)
        else:
            state = read_weights(weights)
        load_matching(net, state, weights)
    return net
