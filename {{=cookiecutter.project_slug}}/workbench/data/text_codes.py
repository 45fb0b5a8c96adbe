"""Turns texts into codes: the bytes of their UTF-8 encoding, or the tokens of a tokenizer."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError, first_line, not_installed
from .sequences import Sequences

log = logging.getLogger(__name__)

TOKENIZER = "tokenizer.json"
# Files in which transformers names the special tokens, the newest first.
SPECIAL_TOKENS = ("tokenizer_config.json", "special_tokens_map.json")
BYTES = 256


@dataclass(frozen=True)
class TextEncoder:
    """Turns texts into codes.

    Args:
        content: of a file `tokenizer.json`; None for bytes. A checkpoint holds it, so predictions
            do not need the file.
        pad: the code that fills up a batch.
    """

    content: str | None = None
    pad: int = BYTES

    @cached_property
    def _tokenizer(self) -> Any:
        return parse_tokenizer(self.content or "")

    @property
    def vocab_size(self) -> int:
        """The largest code, plus one."""
        if self.content is None:
            return BYTES + 1
        return max(self.pad, *self._tokenizer.get_vocab().values()) + 1

    def encode(self, texts: Sequence[str], max_length: int) -> Sequences:
        """The codes of texts; those of longer ones are cut, and their number is logged."""
        if self.content is None:
            encoded = [text.encode() for text in texts]
            is_longer = [len(codes) > max_length for codes in encoded]
            lists: list[Any] = [np.frombuffer(codes[:max_length], np.uint8) for codes in encoded]
        else:
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(max_length)
            found = self._tokenizer.encode_batch(list(texts))
            is_longer = [bool(each.overflowing) for each in found]
            lists = [each.ids for each in found]
        if any(is_longer):
            log.warning(
                "%d of %d texts are longer than data.max_length=%d %s, and the model does not see "
                "their ends",
                sum(is_longer),
                len(texts),
                max_length,
                "bytes" if self.content is None else "tokens",
            )
        return Sequences.from_lists(lists, self.pad)

    def save(self) -> dict[str, Any]:
        """Plain values for `load`."""
        return {"content": self.content, "pad": self.pad}

    @classmethod
    def load(cls, saved: dict[str, Any]) -> "TextEncoder":
        """From the values of `save`."""
        return cls(**saved)


def read_tokenizer(folder: Path) -> TextEncoder:
    """The tokenizer that transformers saved in a folder.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        raise UserError(
            f"There is no {TOKENIZER} in {folder}: data.tokenizer is a folder in which "
            "`save_pretrained` of transformers has saved a tokenizer, or null for bytes."
        )
    content = path.read_text("utf-8")
    tokenizer = parse_tokenizer(content)
    pad = tokenizer.token_to_id(_padding_token(folder, json.loads(content)))
    return TextEncoder(content, 0 if pad is None else pad)


def parse_tokenizer(content: str) -> Any:
    """The tokenizer of a `tokenizer.json`.

    Raises:
        UserError: the package tokenizers is missing, or the content is something else.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise not_installed("data.tokenizer", "tokenizers", "transformers") from error
    try:
        return Tokenizer.from_str(content)
    except Exception as error:  # the library has no class of its own for it
        raise UserError(f"The {TOKENIZER} cannot be read: {first_line(error)}.") from error


def _padding_token(folder: Path, content: dict[str, Any]) -> str:
    """The padding token, "" if none is named: what is padded is masked anyway."""
    for name in SPECIAL_TOKENS:
        if (folder / name).is_file():
            token = json.loads((folder / name).read_text("utf-8")).get("pad_token")
            if token:
                return str(token["content"] if isinstance(token, dict) else token)
    return str((content.get("padding") or {}).get("pad_token", ""))
