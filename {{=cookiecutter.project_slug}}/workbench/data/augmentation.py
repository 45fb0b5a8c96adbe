"""Random changes of training images, chosen by name, and mixtures of images with their labels.

All of them run on the training device, on whole batches, and change every image differently. The
random numbers are those of the CPU, so they are the same on every device, and a resumed run draws
the same ones as an uninterrupted run.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..checks import check_number
from ..errors import UserError, cannot_build, nearest
from .erasing import RandomErasing
from .randaugment import RandAugment

Transform = Callable[[Tensor], Tensor]
Mixture = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
# Whole batches at once; torchvision's own classes of these names are not used.
BATCHED: dict[str, Callable[..., Transform]] = {"RandAugment": RandAugment}
MIXTURES = ("CutMix", "MixUp")
ERASING = "RandomErasing"


class Augmentation:
    """Changes images, erases parts of them, and mixes them; see `build_augmentation`.

    Args:
        mean: of the pixels (C,), on the scale 0..1.
        std: their standard deviation (C,).
        transforms: applied one after the other to images (B, C, H, W) with values from 0 to 1.
        erasing: applied to normalised images.
        mixtures: of which each batch draws one, applied to normalised images and targets.
        num_classes: for targets that are class numbers.
    """

    def __init__(
        self,
        mean: Tensor,
        std: Tensor,
        transforms: list[Transform],
        erasing: list[Transform],
        mixtures: list[Mixture],
        num_classes: int,
    ) -> None:
        self.mean, self.std = mean.view(-1, 1, 1), std.view(-1, 1, 1)
        self.transforms, self.erasing = transforms, erasing
        self.mixtures, self.num_classes = mixtures, num_classes

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """An augmented copy of normalised images x (B, C, H, W), and their targets.

        With a mixture, targets y that are class numbers (B,) become probabilities (B, classes).
        """
        if self.transforms:
            x = self._transformed(x)
        for erase in self.erasing:
            x = erase(x)
        if not self.mixtures:
            return x, y
        mix = self.mixtures[int(torch.randint(len(self.mixtures), ()))]
        if y.is_floating_point():
            # Labels that apply or not (B, L), or values (B,) or (B, T).
            x, mixed = mix(x, y.view(len(y), -1))
            return x, mixed.view_as(y)
        return mix(x, F.one_hot(y, self.num_classes).float())

    def _transformed(self, x: Tensor) -> Tensor:
        if self.mean.device != x.device:
            # Once, because a copy to a device waits for everything it has to do.
            self.mean, self.std = self.mean.to(x.device), self.std.to(x.device)
        pixels = (x.float() * self.std + self.mean).clamp(0, 1)
        for transform in self.transforms:
            pixels = transform(pixels)
        return ((pixels - self.mean) / self.std).to(x.dtype)


class ImageByImage:
    """A transform of torchvision that would change all images of a batch in the same way."""

    def __init__(self, transform: Transform) -> None:
        self.transform = transform

    def __call__(self, x: Tensor) -> Tensor:
        """A changed copy of images x (B, C, H, W)."""
        return torch.stack([self.transform(image) for image in x])


def build_augmentation(
    options: Mapping[str, Mapping[str, Any] | None] | None,
    preprocessing: Mapping[str, Any],
    task: str,
    num_classes: int = 0,
) -> Augmentation | None:
    """Build what `data.augmentation` lists; None if that is nothing.

    Args:
        options: under any key, the `name` of a class of torchvision.transforms.v2 and its options;
            None for one that is not used. Images pass through them in this order, except that
            RandomErasing and mixtures come last. Of several mixtures, each batch draws one.
        preprocessing: the values made by `image_preprocessing`.
        task: "classification", "multilabel" or "regression".
        num_classes: for a classification.

    Raises:
        UserError: there is no such class, it rejects an option, or it does not suit the data.
    """
    transforms: list[Transform] = []
    erasing: list[Transform] = []
    mixtures: list[Mixture] = []
    shape = tuple(int(preprocessing[name]) for name in ("channels", "height", "width"))
    for key, chosen in (options or {}).items():
        if chosen is None:
            continue
        if not isinstance(chosen, Mapping) or "name" not in chosen:
            raise UserError(
                f"data.augmentation.{key} must be null or name a transform, as in "
                f"{{name: RandAugment, magnitude: 9}}, not {chosen!r}."
            )
        given = dict(chosen)
        name = str(given.pop("name"))
        if name in MIXTURES:
            mixtures.append(_mixture(key, name, given, task))
        elif name == ERASING:
            erasing.append(_built(RandomErasing, name, given))
        else:
            transforms.append(_transform(key, name, given, shape))
    if not transforms + erasing and not mixtures:
        return None
    mean, std = (torch.tensor(preprocessing[name]) for name in ("mean", "std"))
    return Augmentation(mean, std, transforms, erasing, mixtures, num_classes)


def _mixture(key: str, name: str, options: dict[str, Any], task: str) -> Mixture:
    if task == "regression" and name == "CutMix":
        raise UserError(
            f"data.augmentation.{key}: CutMix mixes classes or labels in proportion to areas, and "
            "the data are a regression task: use MixUp, or leave it out."
        )
    # torch checks it as well, but not after it has compiled something.
    check_number(f"data.augmentation.{key}.alpha", options.get("alpha", 1.0), above=0)
    mixture: Mixture = _built(_torchvision(name), name, options)
    return mixture


def _transform(key: str, name: str, options: dict[str, Any], shape: tuple[int, ...]) -> Transform:
    """A transform of batches, tried on one image."""
    if name in BATCHED:
        transform: Transform = _built(BATCHED[name], name, options)
    else:
        found = _torchvision(name)
        if "size" in inspect.signature(found).parameters:
            options = {"size": list(shape[1:])} | options
        transform = ImageByImage(_built(found, name, options))
    with torch.random.fork_rng(devices=[]):
        try:
            changed = transform(torch.rand(1, *shape))
        # Whatever a transform raises for images that it cannot change.
        except Exception as error:
            raise cannot_build("augmentation", name, options, error) from error
    if changed.shape[1:] != shape or not changed.is_floating_point():
        raise UserError(
            f"data.augmentation.{key}: {name} changes the shape or type of an image: from "
            f"{shape} float32 to {tuple(changed.shape[1:])} {changed.dtype}."
        )
    return transform


def _built(found: Callable[..., Any], name: str, options: dict[str, Any]) -> Any:
    try:
        return found(**options)
    except (TypeError, ValueError) as error:
        raise cannot_build("augmentation", name, options, error) from error


def _torchvision(name: str) -> Any:
    """The class of torchvision.transforms.v2 with this name."""
    # Here, because it takes a second, and most runs and some installations do without it.
    from torchvision.transforms import v2

    names = [key for key, value in vars(v2).items() if _is_transform(value, v2.Transform)]
    if name not in names:
        raise UserError(
            f"torchvision.transforms.v2 has no transform {name!r}; {nearest(name, names)}"
        )
    return getattr(v2, name)


def _is_transform(value: Any, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base) and value is not base
