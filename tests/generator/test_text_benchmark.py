"""The n-grams beside which the language model is measured: a wrong one would flatter it."""

import math
import random

import pytest

from benchmarks.text import NGrams, compressed_bits, quoted

LETTERS = "abcd"


@pytest.fixture(scope="module")
def text() -> str:
    """Random letters, three quarters of them equal to the one two places before."""
    rng, text = random.Random(0), "ab"
    for _ in range(20_000):
        text += text[-2] if rng.random() < 0.75 else rng.choice(LETTERS)
    return text


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_add_up_to_one(text: str, order: int) -> None:
    """Otherwise their bits mean nothing."""
    model = NGrams(text[:200], order, len(LETTERS))
    for context in ("aaaa", "abcd", "dcba", "abab"):
        assert sum(model.probability(context, letter) for letter in LETTERS) == pytest.approx(1)


def test_bits_are_the_entropy_of_the_source(text: str) -> None:
    """From order 3 on, which sees two places before; of two letters, almost guessing."""
    likely, other = 0.75 + 0.25 / 4, 0.25 / 4
    entropy = -likely * math.log2(likely) - 3 * other * math.log2(other)
    before, after = text[:15_000], text[15_000:]
    assert NGrams(before, 3, 4).bits(before, after) == pytest.approx(entropy, abs=0.04)
    assert NGrams(before, 2, 4).bits(before, after) == pytest.approx(2, abs=0.04)


def test_kneser_ney_of_two_letters_is_as_in_the_paper() -> None:
    """By hand: bigrams ab, ba, ac, ca once each except ab and ba, which occur twice."""
    model = NGrams("abacaba", 2, 3)
    # Counts: ab 2, ba 2, ac 1, ca 1; so both discounts are 2 / (2 + 2 * 2) and 1 for the letters,
    # of which b and c have one predecessor, a has two: once 2, twice 1.
    discount, lowest = 2 / (2 + 2 * 2), 2 / (2 + 2 * 1)
    of_b = (1 - lowest) / 4 + lowest * 3 / 4 / 3
    expected = (2 - discount) / 3 + discount * 2 / 3 * of_b
    assert model.probability("a", "b") == pytest.approx(expected)


def test_a_copy_costs_a_compressor_almost_nothing(text: str) -> None:
    """And random letters cost what they must."""
    import lzma

    assert compressed_bits(lzma.compress, text, text[:5000]) < 0.1
    assert quoted(text, text[:5000]) == 1
    assert quoted(text, "e" * 100) == 0
    assert quoted(text, text[:60] + "e" * 40) == 0.6
