"""The language model; delete this file together with `models/gpt/` and `data/text.py`."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from model_checks import ModelChecks

Package = Callable[[str], Any]


class TestGPT(ModelChecks):
    """On the help texts of Python, with short windows."""

    config = ("experiment=text", "data.block_size=32", "model.n_layer=2", "model.n_embd=64")


class TestGPTOfBytes(ModelChecks):
    """With all parts that draw random numbers."""

    config = (*TestGPT.config, "data.tokens=bytes", "model.dropout=0.1")


@pytest.fixture
def model(package: Package) -> Any:
    """An untrained model of four letters."""
    torch.manual_seed(0)
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 32, "dropout": 0.0, "block_size": 8}
    groups: dict[str, Any] = {"optimizer": {"name": "AdamW"}, "scheduler": {"name": "constant"}}
    return package("models.gpt").GPT(**groups, **sizes, characters="abcd").eval()


def test_a_prediction_depends_on_all_earlier_characters_only(model: Any) -> None:
    """A model that sees what it predicts has a loss of zero and has learnt nothing."""
    x = torch.randint(4, (1, 8))
    before = model(x)
    for place in range(8):
        changed = x.clone()
        changed[0, place] = (x[0, place] + 1) % 4
        is_changed = (model(changed) != before).any(dim=-1)[0]
        assert is_changed.tolist() == [False] * place + [True] * (8 - place)


def test_text_is_read_back_unchanged(package: Package) -> None:
    """Also letters of several bytes."""
    tokens = package("data.tokens")
    text = "naïve — 😀\n"
    for characters in (None, tokens.alphabet_of(text)):
        assert tokens.decode(tokens.encode(text, characters), characters) == text
        begins = tokens.begins_character(characters)[tokens.encode(text, characters)]
        assert int(begins.sum()) == len(text)
