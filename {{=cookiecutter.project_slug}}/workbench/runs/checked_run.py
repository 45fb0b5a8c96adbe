"""What is known of a run before it is trained."""

from dataclasses import dataclass
from typing import Any

# Size and fingerprint of each split.
Fingerprints = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class CheckedRun:
    """What is known of a run before it is trained.

    A sweep gets it from another process, and must not import torch to read it.

    Attributes:
        metrics: the names of the metrics that it logs; None if they are not known.
        data: size and fingerprint of each split.
        useless: options that have no effect, such as `optimizer.lr`.
    """

    metrics: list[str] | None
    data: Fingerprints
    useless: set[str]
