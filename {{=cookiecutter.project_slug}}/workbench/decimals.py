"""Numbers as a table or an answer shows them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def exact_floats(values: NDArray[Any] | Tensor) -> Any:
    """Nested lists of Python floats with the shortest digits that read back to the same values.

    The float32 nearest to 0.1 becomes 0.1, where `tolist` returns 0.10000000149011612.
    """
    # Through text: a conversion of the bits would show digits that float32 does not have.
    return np.asarray(values).astype(str).astype(np.float64).tolist()
