"""A small convolutional network for images from 8 x 8 upwards, and for signals."""

from collections.abc import Sequence

from torch import Tensor, nn


def block(in_channels: int, out_channels: int, is_image: bool = True) -> nn.Sequential:
    """Convolution of width 3, batch norm, ReLU, and max pooling of width 2."""
    convolution = nn.Conv2d if is_image else nn.Conv1d
    return nn.Sequential(
        convolution(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels) if is_image else nn.BatchNorm1d(out_channels),
        nn.ReLU(),
        nn.MaxPool2d(2, ceil_mode=True) if is_image else nn.MaxPool1d(2, ceil_mode=True),
    )


class CNN(nn.Module):
    """Blocks that double the channels and halve height and width, then global average pooling.

    Shapes: (B, C, H, W), or (B, C, L) for signals, to (B, num_outputs); of any size.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_outputs: int,
        width: int = 32,
        depth: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(input_shape) not in (2, 3):
            raise ValueError(
                f"it needs images of shape (C, H, W), the data are {tuple(input_shape)}"
            )
        is_image = len(input_shape) == 3
        channels = [input_shape[0]] + [width * 2**i for i in range(depth)]
        self.features = nn.Sequential(
            *[block(channels[i], channels[i + 1], is_image) for i in range(depth)],
            nn.AdaptiveAvgPool2d(1) if is_image else nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(channels[-1], num_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Logits or standardised targets."""
        return self.head(self.features(x))
