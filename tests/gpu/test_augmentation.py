"""Operations of RandAugment on the GPU, compared with the CPU's."""

from ..conftest import BakedProject
from .conftest import Measured
from .device import IS_GPU, command, json_of

DEVICE = "cuda" if IS_GPU else "cpu"
CODE = """
import json, sys
import torch
from workbench.data.randaugment import OPERATIONS, apply

shares = {}
generator = torch.Generator().manual_seed(0)
for channels, side in ((3, 32), (1, 8)):
    # Values of files, without black and white, so that AutoContrast has an effect.
    images = torch.randint(40, 200, (64, channels, side, side), generator=generator) / 255
    strengths = 0.3 * (1 - 2 * torch.randint(2, (64,), generator=generator))
    for number, name in enumerate(OPERATIONS):
        drawn = torch.full((64,), number)
        expected = apply(images, drawn, strengths)
        found = apply(images.to(sys.argv[1]), drawn, strengths)
        assert found.device.type == sys.argv[1]
        differs = (found.cpu() - expected).abs() > 1e-4
        shares[f"{name} {channels}"] = differs.float().mean().item()
        # Each changes images, so that nothing was compared with itself.
        shares[f"{name} {channels} changed"] = (expected != images).float().mean().item()
print(json.dumps(shares))
"""


def test_operations_agree_with_the_cpu(project: BakedProject, measured: Measured) -> None:
    """A kernel that treats one operation otherwise would train on other images.

    Rounding may select another pixel where a position is in the middle between two, and another
    level where a value is close to an integer.
    """
    shares = json_of(command(project, "-c", CODE, DEVICE))
    different = {name: share for name, share in shares.items() if not name.endswith("changed")}
    assert len(different) == 28
    assert max(different.values()) < 0.01, different
    idle = {name for name, share in shares.items() if name.endswith("changed") and share < 0.1}
    # 64 pixels are too few to spread evenly.
    names = ("Identity 3", "Identity 1", "Color 1", "Equalize 1")
    assert idle == {f"{name} changed" for name in names}
    largest = max(different, key=lambda name: different[name])
    measured(f"at most {different[largest]:.1e} of the pixels differ ({largest})")
