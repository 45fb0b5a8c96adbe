"""Labels of which several may hold for a sample, as tables show them."""

from collections.abc import Iterable, Sequence

# From this probability on, a label is predicted.
THRESHOLD = 0.5
SEPARATOR = ";"


def join_labels(names: Sequence[str], chosen: Iterable[int]) -> str:
    """The labels that hold, in one cell.

    Args:
        names: of all labels.
        chosen: the positions of those that hold.
    """
    return SEPARATOR.join(names[position] for position in chosen)
