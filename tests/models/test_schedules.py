"""The learning rate at every step of a training, against values computed by hand."""

import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler

from ..support.template_package import Part


def rates(package: Part, steps: int, **spec: object) -> list[float]:
    """The rate of each step of a training of `steps` steps, in epochs of 4, with a base of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    optimizers = package("models.optimizers")
    built = optimizers.build_scheduler(spec, optimizer, optimizers.Horizon(steps, per_epoch=4))
    assert built["interval"] == "step"
    schedule: LRScheduler = built["scheduler"]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_cosine_warms_up_and_decays_to_the_final_rate(package: Part) -> None:
    """A first rate of 0 would waste the first batch, one of 1 would make the warm-up pointless."""
    found = rates(package, 12, name="cosine", warmup=1 / 3, final=0.1)
    # 4 steps up, then 0.1 + 0.9 * (1 + cos(pi * k / 8)) / 2 for k = 0 to 7.
    decay = [1.0, 0.965746, 0.868198, 0.722208, 0.55, 0.377792, 0.231802, 0.134254]
    assert found == pytest.approx([0.25, 0.5, 0.75, 1.0, *decay], abs=1e-6)


def test_cosine_without_warm_up_starts_at_the_base_rate(package: Part) -> None:
    found = rates(package, 4, name="cosine", warmup=0.0)
    assert found == pytest.approx([1.0, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_steps_lower_the_rate_after_whole_epochs(package: Part) -> None:
    """A paper's schedule that is off by one epoch reproduces other numbers."""
    found = rates(package, 20, name="step", every=2, factor=0.1)
    assert found == pytest.approx([1.0] * 8 + [0.1] * 8 + [0.01] * 4)


def test_one_cycle_peaks_at_the_base_rate_and_ends_far_below(package: Part) -> None:
    """Smith and Topin start at 1/25 of the peak, and end at 1/10,000 of that."""
    found = rates(package, 12, name="one_cycle", warmup=0.5)
    assert found[0] == pytest.approx(1 / 25)
    # Of the steps 0 to 11, the peak is step 0.5 * 12 - 1.
    assert found[5] == max(found) == pytest.approx(1.0)
    assert found[-1] == pytest.approx(1 / 250_000)
