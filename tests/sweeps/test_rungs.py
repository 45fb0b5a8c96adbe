"""The rungs of pause and promote, and the value of a trial at each of them."""

import math

import pytest

from ..support.template_package import Part


@pytest.mark.parametrize(
    ("first", "length", "factor", "steps"),
    [
        (3, 50, 4, (3, 12, 48, 50)),
        (3, 48, 4, (3, 12, 48)),
        (3, 3, 4, (3,)),
        (3, 2, 4, (2,)),
        (1, 8, 2, (1, 2, 4, 8)),
    ],
)
def test_rungs(package: Part, first: int, length: int, factor: int, steps: tuple[int, ...]) -> None:
    """The last rung is a complete training, however long it is."""
    rungs = package("sweeps.promotion").Rungs.between(first, length, factor, "max")
    assert rungs.steps == steps
    assert package("sweeps.promotion").Rungs.between(first, None, factor, "max").steps[0] == first


def test_value_of_a_rung_is_the_best_until_then(package: Part) -> None:
    """Validation every third epoch passes a rung without a value, and NaN is the worst value."""
    rungs = package("sweeps.promotion").Rungs.between(2, 20, 3, "max")
    assert rungs.losses({}) == ()
    assert rungs.losses({1: 0.5}) == ()
    assert rungs.losses({3: 0.5}) == (-0.5,)
    assert rungs.losses({3: 0.5, 6: 0.4, 9: 0.9}) == (-0.5, -0.5)
    assert rungs.losses({1: math.nan, 2: math.nan}) == (math.inf,)
    assert rungs.losses({1: 0.3}, 0.3) == (-0.3,) * 4
    # The mean over three seeds is the result.
    assert rungs.losses({epoch: epoch / 100 for epoch in range(1, 61)}, 0.1) == (
        -0.02,
        -0.06,
        -0.18,
        -0.1,
    )


@pytest.mark.parametrize(
    ("given", "n_trials", "expected"),
    [(None, 20, 10), (None, 60, 30), (None, 100, 40), (None, 10**9, 40), (0, 20, 0), (50, 20, 50)],
)
def test_half_of_few_trials_are_random(
    package: Part, given: int | None, n_trials: int, expected: int
) -> None:
    """With as many random configurations as a long study has, a short one would learn nothing."""
    assert package("sweeps.promotion").startup_trials(given, n_trials) == expected
