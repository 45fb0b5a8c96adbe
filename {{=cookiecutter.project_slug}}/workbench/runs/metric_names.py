"""The parts of a metric's name: `val/acc` is `acc` of `val`."""

import re

# The entries of the history that are not metrics.
PLACES = ("epoch", "step", "fraction")


def split_name(name: str) -> tuple[str, str]:
    """Stage and name of a metric: `val_acc` and `val/acc` are `acc` of `val`.

    The stage is empty for a metric without one.
    """
    match = re.fullmatch(r"(train|val|test)(?:id|idation)?[/_](.+)", name)
    return (match[1], match[2]) if match else ("", name)
