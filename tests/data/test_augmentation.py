"""Augmentation: every image is changed differently, and labels follow the images."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from ..support.template_package import Part

SHAPES = [(6, 3, 32, 32), (5, 1, 8, 8), (4, 3, 20, 31)]
GREY = {"channels": 1, "height": 8, "width": 8, "mean": [0.4], "std": [0.25]}
COLOURED = {"channels": 3, "height": 8, "width": 8, "mean": [0.4] * 3, "std": [0.25] * 3}


def build(package: Part, *chosen: Any, task: str = "classification", classes: int = 10) -> Any:
    """An augmentation of coloured images."""
    options = {str(number): one for number, one in enumerate(chosen)}
    build_augmentation = package("data.augmentation").build_augmentation
    return build_augmentation(options, COLOURED, task, classes)


def rejection(package: Part, *chosen: Any, **options: Any) -> str:
    """The sentence with which an option is rejected."""
    with pytest.raises(package("errors").UserError) as raised:
        build(package, *chosen, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def expected_operations(strength: float, height: int, width: int) -> dict[str, Any]:
    """What each operation of RandAugment is, in torchvision's kernels for a whole batch."""
    shear = math.degrees(math.atan(0.3 * strength))
    factor = 1 + 0.9 * strength

    def affine(x: Tensor, angle: float, translate: list[int], shear: list[float]) -> Tensor:
        return F.affine(x, angle, translate, 1.0, shear, center=[0, 0])

    return {
        "Identity": lambda x: x,
        "ShearX": lambda x: affine(x, 0.0, [0, 0], [shear, 0.0]),
        "ShearY": lambda x: affine(x, 0.0, [0, 0], [0.0, shear]),
        "TranslateX": lambda x: affine(x, 0.0, [int(strength * width * 150 / 331), 0], [0.0, 0.0]),
        "TranslateY": lambda x: affine(x, 0.0, [0, int(strength * height * 150 / 331)], [0.0, 0.0]),
        "Rotate": lambda x: F.rotate(x, 30 * strength),
        "Brightness": lambda x: F.adjust_brightness(x, factor),
        "Color": lambda x: F.adjust_saturation(x, factor),
        "Contrast": lambda x: F.adjust_contrast(x, factor),
        "Sharpness": lambda x: F.adjust_sharpness(x, factor),
        "Posterize": lambda x: F.posterize(x, round(8 - 4 * abs(strength))),
        "Solarize": lambda x: F.solarize(x, 1 - abs(strength)),
        "AutoContrast": F.autocontrast,
        "Equalize": F.equalize,
    }


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_operations_of_randaugment_are_those_of_torchvision(
    package: Part, magnitude: int, shape: tuple[int, ...]
) -> None:
    """Published magnitudes would otherwise mean something else; both directions are compared."""
    randaugment = package("data.randaugment")
    torch.manual_seed(0)
    x = torch.randint(256, shape) / 255
    for sign in (1, -1):
        strength = sign * magnitude / 30
        expected = expected_operations(strength, *shape[2:])
        assert list(randaugment.OPERATIONS) == list(expected)
        for place, (name, operation) in enumerate(expected.items()):
            drawn = torch.full((len(x),), place)
            found = randaugment.apply(x, drawn, torch.full((len(x),), strength))
            # A pixel in the middle between two others may be either.
            differ = ((found - operation(x)).abs() > 1e-5).float().mean().item()
            assert differ <= (0.01 if name in ("ShearX", "ShearY", "Rotate") else 0), name


def test_each_image_gets_the_operation_that_it_drew(package: Part) -> None:
    """Images are sorted by operation and back: mixed-up places would give images wrong labels."""
    randaugment = package("data.randaugment")
    torch.manual_seed(0)
    x = torch.randint(256, (40, 3, 12, 12)) / 255
    drawn, signs = torch.randint(14, (40,)), 1 - 2 * torch.randint(2, (40,))
    found = randaugment.apply(x, drawn, 0.4 * signs)
    for place in range(40):
        alone = [values[place : place + 1] for values in (x, drawn, 0.4 * signs)]
        assert torch.equal(found[place : place + 1], randaugment.apply(*alone))


@pytest.mark.parametrize(
    "chosen",
    [
        {"name": "RandAugment"},
        {"name": "RandomErasing", "p": 1.0},
        {"name": "RandomErasing", "p": 1.0, "value": "random"},
        {"name": "ColorJitter", "brightness": 0.5},
        {"name": "RandomResizedCrop"},
        {"name": "TrivialAugmentWide"},
    ],
    ids=lambda chosen: f"{chosen['name']}-{len(chosen)}",
)
def test_images_of_a_batch_are_changed_differently(package: Part, chosen: dict[str, Any]) -> None:
    """The classes of torchvision change all images of a batch in the same way."""
    torch.manual_seed(0)
    x = torch.randn(1, 3, 8, 8).repeat(64, 1, 1, 1)
    y = torch.arange(64) % 10
    before = x.clone()
    changed, labels = build(package, chosen)(x, y)
    assert len(changed.flatten(1).unique(dim=0)) > 20
    assert torch.equal(labels, y)
    # Neither shape nor type is another, and the batch that came is unchanged.
    assert (changed.shape, changed.dtype) == (x.shape, x.dtype)
    assert torch.equal(x, before)


def test_an_augmentation_that_does_nothing_leaves_images_as_they_are(package: Part) -> None:
    """Transforms see pixels from 0 to 1: a wrong way there and back would change every input."""
    x = (torch.rand(16, 3, 8, 8) - 0.4) / 0.25
    same, _ = build(package, {"name": "ColorJitter"})(x, torch.zeros(16, dtype=torch.long))
    assert torch.allclose(same, x, atol=1e-5)
    bright = {"name": "ColorJitter", "brightness": [2.0, 2.0]}
    doubled, _ = build(package, bright)(x, torch.zeros(16, dtype=torch.long))
    expected = ((x * 0.25 + 0.4) * 2).clamp(0, 1)
    assert torch.allclose(doubled * 0.25 + 0.4, expected, atol=1e-5)


def test_erased_parts_are_rectangles_of_the_given_size(package: Part) -> None:
    """3,000 images: the fraction that is erased has a standard error of 0.8 %."""
    erasing = package("data.erasing").RandomErasing(0.3, (0.1, 0.2), (0.5, 2.0), 7.0)
    torch.manual_seed(0)
    erased = erasing(torch.zeros(3000, 3, 20, 30)) == 7
    assert torch.equal(erased[:, 0], erased[:, 2])
    is_erased = erased[:, 0].any(dim=(1, 2))
    assert is_erased.float().mean().item() == pytest.approx(0.3, abs=0.03)
    areas, edges = [], set()
    for mask in erased[is_erased, 0]:
        rows, columns = (mask.any(dim=axis).nonzero().flatten() for axis in (1, 0))
        height, width = len(rows), len(columns)
        # All of the rectangle and nothing else.
        assert mask.sum() == height * width
        assert rows[-1] - rows[0] + 1 == height
        assert columns[-1] - columns[0] + 1 == width
        areas.append(height * width / 600)
        # Sides are rounded to whole pixels.
        assert 0.4 < height / width < 2.5
        edges |= {("top", int(rows[0])), ("bottom", int(rows[-1]))}
        edges |= {("left", int(columns[0])), ("right", int(columns[-1]))}
    assert min(areas) > 0.08
    assert max(areas) < 0.22
    assert np.mean(areas) == pytest.approx(0.15, abs=0.01)
    # They reach all four edges of the image.
    assert {("top", 0), ("bottom", 19), ("left", 0), ("right", 29)} <= edges


def one_value_per_class(classes: int) -> tuple[Tensor, Tensor]:
    """Images of one value each, which is that of their class, in random order."""
    y = torch.randperm(classes)
    return y.float().view(-1, 1, 1, 1).expand(-1, 3, 8, 8).clone(), y


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_gives_labels_the_weights_of_their_images(package: Part, alpha: float) -> None:
    """The value of each image tells the weights of its two classes."""
    augmentation = build(package, {"name": "MixUp", "alpha": alpha}, classes=32)
    weights = []
    for seed in range(200):
        torch.manual_seed(seed)
        x, y = one_value_per_class(32)
        mixed, labels = augmentation(x, y)
        assert labels.shape == (32, 32)
        assert torch.allclose(labels.sum(dim=1), torch.ones(32))
        # Every image is in two mixtures, with weights that add up to one.
        assert torch.allclose(labels.sum(dim=0), torch.ones(32))
        assert ((labels > 0).sum(dim=1) <= 2).all()
        expected = (labels @ torch.arange(32.0)).view(-1, 1, 1, 1).expand_as(mixed)
        assert torch.allclose(mixed, expected, atol=1e-4)
        weights.append(labels[0, y[0]].item())
    # Beta(alpha, alpha) has the variance 1 / (8 alpha + 4); of 200, it deviates by a tenth.
    assert np.mean(weights) == pytest.approx(0.5, abs=0.1)
    assert np.var(weights) == pytest.approx(1 / (8 * alpha + 4), rel=0.3)


def test_cutmix_gives_labels_the_areas_of_their_images(package: Part) -> None:
    """The box is cut off at the edges of the image, and its area is what counts then."""
    augmentation = build(package, {"name": "CutMix"}, classes=16)
    areas = set()
    for seed in range(40):
        torch.manual_seed(seed)
        x, y = one_value_per_class(16)
        mixed, labels = augmentation(x, y)
        for image, label, own in zip(mixed[:, 0], labels, y, strict=True):
            for number in range(16):
                fraction = (image == number).float().mean()
                assert label[number].item() == pytest.approx(fraction.item(), abs=1e-6)
            rows, columns = (image != own).any(dim=1), (image != own).any(dim=0)
            assert rows.sum() * columns.sum() == (image != own).sum()
        areas.add(round(labels.max(dim=1).values[0].item(), 4))
    assert len(areas) > 8


def test_each_batch_draws_one_of_two_mixtures(package: Part) -> None:
    """Of 200 batches, half get CutMix, with a standard deviation of 7."""
    augmentation = build(package, {"name": "CutMix"}, {"name": "MixUp"}, classes=8)
    kinds = {"cut": 0, "mixed": 0}
    for seed in range(200):
        torch.manual_seed(seed)
        x, y = one_value_per_class(8)
        mixed, _ = augmentation(x, y)
        kinds["cut" if torch.equal(mixed, mixed.round()) else "mixed"] += 1
    assert 70 < kinds["cut"] < 130


def test_mixup_of_values_and_labels_mixes_them_as_they_are(package: Part) -> None:
    """A regression has no classes; several labels of an image are numbers already."""
    x, y = one_value_per_class(12)
    mix: Callable[..., Any] = build(package, {"name": "MixUp"}, task="regression")
    torch.manual_seed(0)
    mixed, values = mix(x, y.float())
    assert values.shape == (12,)
    assert torch.allclose(mixed[:, 0, 0, 0], values, atol=1e-5)
    assert not torch.allclose(values, y.float(), atol=0.01)
    several = torch.stack([y.float(), -y.float()], dim=1)
    mixed, pairs = mix(x, several)
    assert torch.allclose(mixed[:, 0, 0, 0], pairs[:, 0], atol=1e-5)
    assert torch.equal(pairs[:, 0], -pairs[:, 1])


def test_unusable_options_are_rejected_in_one_sentence(package: Part) -> None:
    """Before training, with the option that is wrong."""
    for chosen, message in (
        ({"name": "RandAugmnt"}, "has no transform 'RandAugmnt'; did you mean 'RandAugment'?"),
        ({"name": "Compose"}, "cannot be built from no options"),
        ({"magnitude": 9}, "data.augmentation.0 must be null or name a transform"),
        ("RandAugment", "must be null or name a transform, as in {name: RandAugment"),
        ({"name": "RandAugment", "magnitude": 31}, "magnitude is from 0 to 30"),
        ({"name": "RandAugment", "strength": 3}, "cannot be built from strength=3"),
        ({"name": "RandomErasing", "p": 1.5}, "p is a probability, not 1.5"),
        ({"name": "RandomErasing", "value": "grey"}, "value is a number or random, not 'grey'"),
        ({"name": "MixUp", "alpha": -1.0}, "data.augmentation.0.alpha must be a number above 0"),
        ({"name": "Resize", "size": [4, 4]}, "Resize changes the shape or type of an image"),
        ({"name": "JPEG", "quality": 50}, "The augmentation 'JPEG' cannot be built"),
    ):
        assert message in rejection(package, chosen)
    assert "use MixUp" in rejection(package, {"name": "CutMix"}, task="regression")


def test_no_value_is_read_from_the_device(package: Part) -> None:
    """A tensor of the device "meta" has no values, so that reading one is an error.

    Random numbers are read, but they are the CPU's. A GPU would be waited for in every step.
    """
    chosen = (
        *({"name": "RandAugment"}, {"name": "RandomErasing", "value": "random"}),
        *({"name": "CutMix"}, {"name": "MixUp"}),
    )
    augmentation = build(package, *chosen)
    x, y = torch.zeros(64, 3, 8, 8, device="meta"), torch.zeros(64, dtype=torch.long, device="meta")
    for seed in range(4):
        torch.manual_seed(seed)
        mixed, labels = augmentation(x, y)
        assert (mixed.shape, labels.shape) == (x.shape, (64, 10))
        assert mixed.is_meta
        assert labels.is_meta


def test_nothing_chosen_is_no_augmentation(package: Part) -> None:
    """`data.augmentation.erasing=null` removes one of several."""
    build_augmentation = package("data.augmentation").build_augmentation
    for options in (None, {}, {"erasing": None}):
        assert build_augmentation(options, GREY, "classification", 10) is None


def test_building_draws_no_random_numbers(package: Part) -> None:
    """The initial weights would differ between a run with augmentation and one without."""
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    build(package, {"name": "RandAugment"}, {"name": "ColorJitter", "hue": 0.1})
    assert torch.equal(torch.rand(3), expected)
