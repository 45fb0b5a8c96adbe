"""Labelled texts whose labels depend on the order of words near their ends."""

import csv
import random
from pathlib import Path
from typing import Any

FILLER = "some of the trees are old and very tall here".split()
NAMES = [("cat", "dog"), ("dog", "cat")]


def write_orders(path: Path, pairs: int = 300, **columns: list[str]) -> Path:
    """Write texts in pairs of the same words in another order, with the labels "cat" and "dog".

    Their bytes or words without their order say nothing about the label, and neither do the first
    ones.
    """
    draw = random.Random(0)
    rows = []
    for _ in range(pairs):
        start, last = " ".join(draw.choices(FILLER, k=draw.randint(1, 8))), draw.choice(FILLER)
        rows += [(f"{start} {first} bit {other} {last}", first) for first, other in NAMES]
    draw.shuffle(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["review", "label", *columns])
        table.writerows([*row, *more] for row, *more in zip(rows, *columns.values(), strict=True))
    return path


def write_reviews(path: Path) -> None:
    """A small file with the columns that the pages name."""
    stars = [f"{number % 30 / 6:.2f}" for number in range(120)]
    write_orders(path, 60, title=["A title"] * 120, stars=stars)


def save_tokenizer(folder: Path, words: list[str]) -> Any:
    """A tokenizer of words with special tokens, as BERT has it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(known)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, **special)
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_bert(folder: Path) -> None:
    """A tiny BERT with random weights and a tokenizer of the words of `write_orders`."""
    from transformers import BertConfig, BertModel

    words = sorted({*FILLER, "cat", "dog", "bit"})
    tokens = len(save_tokenizer(folder, words))
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    longest = {"intermediate_size": 64, "max_position_embeddings": 20}
    BertModel(BertConfig(vocab_size=tokens, **sizes, **longest)).save_pretrained(folder)
