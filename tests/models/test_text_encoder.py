"""The text encoder: it uses the order of the codes and all of them, and no padding."""

from typing import Any

import pytest
import torch

from ..support.template_package import Part

LENGTH = 40


@pytest.fixture
def net(package: Part) -> Any:
    """An untrained network with weights that make everything count."""
    torch.manual_seed(0)
    net = package("models.nets").TextEncoder((LENGTH, 257), 3, width=32, heads=4)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return net.eval()


def texts(*lengths: int) -> list[torch.Tensor]:
    """Random codes of these lengths."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(256, (length,), generator=generator) for length in lengths]


def test_output_does_not_depend_on_what_a_text_is_batched_with(net: Any, package: Part) -> None:
    """Padding in the convolution, the attention or the mean would change it."""
    sequences = package("data.sequences").Sequences.from_lists(texts(1, 7, LENGTH, 23), 256)
    with torch.inference_mode():
        together = net(**sequences.padded())
        alone = torch.cat([net(**batch) for batch in sequences.split(1)])
    # Outputs are of the order of 1; sums are rounded in another order.
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-2)


def test_output_depends_on_every_code_and_on_their_order(net: Any, package: Part) -> None:
    """A network that sees a bag of bytes, or only the first of them, learns most labels too."""
    (text,) = texts(LENGTH)
    changed = [text.clone() for _ in range(LENGTH)]
    for place, codes in enumerate(changed):
        codes[place] = (codes[place] + 1) % 256
    sequences = [text, *changed, text.flip(0)]
    with torch.inference_mode():
        first, *others = net(
            **package("data.sequences").Sequences.from_lists(sequences, 256).padded()
        )
    assert all(float((first - other).abs().max()) > 1e-4 for other in others)
