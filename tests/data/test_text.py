"""Text: what is held out, what a model sees of it, and files that cannot be used."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from ..support.template_package import Part

# Letters of one, two, three and four bytes.
LETTERS = "abc äß\n— 😀"
CASES = [("characters", 8), ("characters", 7), ("bytes", 8), ("bytes", 2)]


def write_text(folder: Path, length: int = 400) -> Path:
    """A file of random letters."""
    path = folder / "text.txt"
    path.write_text("".join(random.Random(0).choices(LETTERS, k=length)), "utf-8")
    return path


def set_up(package: Part, path: Path, **options: Any) -> Any:
    """The data of a file."""
    datamodule = package("data").TextDataModule(path=str(path), **options)
    datamodule.setup("fit")
    return datamodule


def codes_of(text: str, tokens: str, alphabet: str) -> list[int]:
    """The codes of a text, one character after the other."""
    if tokens == "bytes":
        return list(text.encode())
    return [sorted(set(alphabet)).index(character) for character in text]


def rejection(package: Part, path: Path, **options: Any) -> str:
    """The sentence with which a file or an option is rejected."""
    with pytest.raises(package("errors").UserError) as raised:
        set_up(package, path, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(("tokens", "block_size"), CASES)
def test_every_held_out_code_is_predicted_once_from_what_precedes_it(
    package: Part, tmp_path: Path, tokens: str, block_size: int
) -> None:
    """A character that is counted twice, left out or seen would falsify bits per character."""
    path = write_text(tmp_path)
    text = path.read_text("utf-8")
    data = set_up(package, path, tokens=tokens, block_size=block_size, batch_size=5)
    # 0.05 and 0.1 of 400.
    for loader, part in ((data.val_dataloader(), [340, 360]), (data.test_dataloader(), [360, 400])):
        before, after = (codes_of(text[:end], tokens, text) for end in part)
        position = len(before)
        for x, y in (pair for batch in loader for pair in zip(*batch, strict=True)):
            assert len(x) == block_size
            for place in (y != -100).nonzero().flatten().tolist():
                context = x[: place + 1].tolist()
                assert y[place] == after[position]
                assert context == after[position - len(context) : position]
                assert len(context) > block_size // 2 or len(context) == block_size
                position += 1
        assert position == len(after)


def test_training_never_sees_held_out_text(package: Part, tmp_path: Path) -> None:
    """Windows begin at random, anywhere in the training part and nowhere behind it."""
    text = "".join(chr(0x4E00 + number) for number in range(400))  # each character once
    (tmp_path / "text.txt").write_text(text, "utf-8")
    data = set_up(package, tmp_path / "text.txt", block_size=16, batch_size=8)
    torch.manual_seed(0)
    begins, seen = set(), set()
    for _ in range(30):
        for x, y in data.train_dataloader():
            assert torch.equal(x, x[:, :1] + torch.arange(16))
            assert torch.equal(y, x + 1)
            begins |= set(x[:, 0].tolist())
            seen |= set(y.flatten().tolist())
    assert seen == set(range(1, 340))
    assert len(begins) > 250


def test_a_split_never_cuts_through_a_character(package: Part, tmp_path: Path) -> None:
    """Its bytes would be counted on one side and the character on the other."""
    (tmp_path / "text.txt").write_text("😀" * 100, "utf-8")
    data = set_up(package, tmp_path / "text.txt", tokens="bytes", block_size=8)
    for loader, count in ((data.val_dataloader(), 5), (data.test_dataloader(), 10)):
        scored = [int(code) for _, y in loader for code in y[y != -100]]
        assert bytes(scored).decode() == "😀" * count


def test_text_of_other_systems_is_read(package: Part, tmp_path: Path) -> None:
    """Windows editors write a byte order mark and other line ends."""
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbf" + b"one\r\ntwo\r\n" * 50)
    assert set_up(package, path, block_size=8).characters == "\nenotw"


def test_pythons_help_is_the_default(package: Part) -> None:
    """No download, and enough text to train on."""
    data = package("data").TextDataModule()
    data.setup("fit")
    assert len(data.datasets["test"].codes) > 300_000
    assert {"\n", "a", "Z", "_"} <= set(data.characters)


def test_unusable_files_and_options_get_one_sentence(package: Part, tmp_path: Path) -> None:
    """Each says what is wrong and what to do."""
    good, bad = write_text(tmp_path), tmp_path / "bad.txt"
    assert "There is no file" in rejection(package, tmp_path / "none.txt")
    assert "cannot be read: Is a directory" in rejection(package, tmp_path)
    for content, message in (
        (b"", "is empty"),
        ("für".encode("latin-1") * 99, "is not UTF-8 (byte 2): convert it"),
        (b"a" * 100, "100 characters, too few"),
        (b"a", "1 characters, too few"),
    ):
        bad.write_bytes(content)
        assert message in rejection(package, bad)
    for options, message in (
        ({"tokens": "words"}, "data.tokens must be characters or bytes, not 'words'."),
        ({"block_size": 1}, "data.block_size must be an integer of at least 2, not 1."),
        ({"block_size": 340}, "for data.block_size=340 in training: use a longer text."),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "use a longer text."),
        ({"test_fraction": 0.001}, "too few for a validation and a test part"),
    ):
        assert message in rejection(package, good, **options)
