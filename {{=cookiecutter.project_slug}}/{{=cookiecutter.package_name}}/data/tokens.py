"""Text as numbers: one for each character, or one for each byte of its UTF-8 encoding."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.errors import UserError


def alphabet_of(text: str) -> str:
    """The different characters of a text, sorted; the code of a character is its position."""
    return "".join(sorted(set(text)))


def encode(text: str, characters: str | None) -> Tensor:
    """The codes of a text, int64 (N,).

    Args:
        text: any text.
        characters: the known characters, sorted; None for bytes.

    Raises:
        UserError: the text holds another character.
    """
    if characters is None:
        return torch.from_numpy(np.frombuffer(text.encode(), np.uint8).astype(np.int64))
    known, found = code_points(characters), code_points(text)
    codes = np.searchsorted(known, found).clip(max=len(known) - 1)
    unknown = found[known[codes] != found]
    if len(unknown):
        raise UserError(
            f"The text holds {chr(unknown[0])!r}, which does not occur in the text that the model "
            "was trained on: remove it, or train with data.tokens=bytes."
        )
    return torch.from_numpy(codes)


def decode(codes: Tensor, characters: str | None) -> str:
    """The text of codes (N,); bytes that are not UTF-8 become U+FFFD."""
    if characters is None:
        return bytes(codes.tolist()).decode(errors="replace")
    return "".join(characters[code] for code in codes.tolist())


def begins_character(characters: str | None) -> Tensor:
    """Whether each code begins a character, bool (V,): not the second to fourth byte of one."""
    if characters is None:
        return torch.arange(256) & 0b1100_0000 != 0b1000_0000
    return torch.ones(len(characters), dtype=torch.bool)


def code_points(text: str) -> NDArray[np.uint32]:
    """The Unicode number of each character."""
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)
