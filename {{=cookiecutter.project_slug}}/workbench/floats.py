"""Numbers as plain Python floats."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def to_floats(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The values of metrics, which Lightning keeps as tensors of one element."""
    return {name: float(value) for name, value in metrics.items()}


def exact_floats(values: "NDArray[Any] | Tensor") -> Any:
    """Nested lists of Python floats with the shortest digits that read back to the same values.

    The float32 nearest to 0.1 becomes 0.1, where `tolist` returns 0.10000000149011612.
    """
    import numpy as np

    # Through text: a conversion of the bits would show digits that float32 does not have.
    return np.asarray(values).astype(str).astype(np.float64).tolist()
