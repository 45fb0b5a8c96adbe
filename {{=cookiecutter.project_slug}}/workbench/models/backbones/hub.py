"""Access to the Hugging Face Hub, from which timm and transformers load."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

# Seconds for an answer.
TIMEOUT = 5.0


def is_reachable(address: str) -> bool:
    """Whether a server answers at all."""
    # The address is the library's own, of the Hub or of a mirror.
    request = urllib.request.Request(address, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT).close()  # nosec B310
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True


@contextmanager
def without_retries() -> Iterator[None]:
    """Use only the cache if the Hub cannot be reached.

    The library itself tries every file six times, which takes half a minute or more.
    """
    try:
        from huggingface_hub import constants
    except ImportError:
        yield
        return
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not is_reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
