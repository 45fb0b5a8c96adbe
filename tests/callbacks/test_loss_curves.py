"""The plot of the losses."""

import pytest

from ..support.template_package import Part


def test_flat_curve_has_a_margin_above_it(package: Part) -> None:
    """The marker of the lowest loss would lie on the frame, half of it cut off."""
    rows = [{"epoch": float(epoch), "val/loss": 0.69 + epoch / 1000} for epoch in range(4)]
    (axes,) = package("callbacks.loss_curves").draw_loss_curves(rows).axes
    bottom, top = axes.get_ylim()
    assert bottom == 0
    assert top > 1.02 * 0.693


@pytest.mark.parametrize("count", [1, 2, 3])
def test_epochs_are_integers(package: Part, count: int) -> None:
    """A single epoch was labelled from 0.945 to 1.05."""
    rows = [{"epoch": float(epoch), "val/loss": 1.0} for epoch in range(count)]
    (axes,) = package("callbacks.loss_curves").draw_loss_curves(rows).axes
    first, last = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if first <= tick <= last]
    assert ticks == [epoch + 1 for epoch in range(count)]
