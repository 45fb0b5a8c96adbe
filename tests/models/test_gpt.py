"""The language model: it uses what precedes a character, all of it, and nothing else."""

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import seed_everything

from ..support.small_models import trainer
from ..support.template_package import Part

SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 32, "dropout": 0.0}
LETTERS = "abcd"
# The probability of the letter three places before, and of each other one.
LIKELY, OTHER = 0.91, 0.03
ENTROPY = -(LIKELY * math.log2(LIKELY) + 3 * OTHER * math.log2(OTHER))


def make(package: Part, **options: Any) -> Any:
    """A small model."""
    common = {
        "optimizer": {"name": "AdamW", "lr": 5e-3},
        "scheduler": {"name": "cosine"},
        "characters": LETTERS,
        "block_size": 16,
    }
    seed_everything(0, verbose=False)
    return package("models.gpt").GPT(**common | SIZES | options)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A text whose letters depend on the one three places before and on no other."""
    rng, text = random.Random(0), "abc"
    for _ in range(60_000):
        weights = [LIKELY if letter == text[-3] else OTHER for letter in LETTERS]
        text += rng.choices(LETTERS, weights)[0]
    path = tmp_path / "source.txt"
    path.write_text(text, "utf-8")
    return path


def test_a_later_character_never_changes_an_earlier_prediction(package: Part) -> None:
    """A model that sees what it predicts measures nothing."""
    model = make(package).eval()
    x = torch.randint(4, (3, 16))
    before = model(x)
    for place in range(16):
        changed = x.clone()
        changed[:, place] = (x[:, place] + 1) % 4
        after = model(changed)
        assert torch.equal(after[:, :place], before[:, :place])
        # And every later one depends on it.
        assert (after[:, place:] != before[:, place:]).any(dim=-1).all()


def test_order_matters(package: Part) -> None:
    """Without positions, attention could not tell "ab" from "ba"."""
    model = make(package).eval()
    one, other = (model(torch.tensor([codes]))[0, -1] for codes in ([0, 1, 2], [1, 0, 2]))
    assert not torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(
    ("characters", "codes"), [("".join(map(chr, range(32, 132))), 100), (None, 256)]
)
def test_an_untrained_model_predicts_all_codes_alike(
    package: Part, characters: str | None, codes: int
) -> None:
    """The first loss is that of guessing: large initial weights would make it larger."""
    model = make(package, characters=characters, n_embd=128).eval()
    x = torch.randint(codes, (32, 17))
    loss = model.shared_step((x[:, :-1], x[:, 1:]), "val").item()
    assert loss / math.log(2) == pytest.approx(math.log2(codes), abs=0.1)


def test_the_entropy_of_a_source_is_reached(package: Part, source: Path, tmp_path: Path) -> None:
    """No model gets below it without looking ahead; one that sees a single letter stays at 2 bits.

    The bits of a letter deviate by 1.4, those of 6,000 held-out letters by 0.018 of their mean.
    """
    data = package("data").TextDataModule(path=str(source), block_size=8, batch_size=32)
    model = make(package, block_size=8, optimizer={"name": "AdamW", "lr": 1e-2})
    run = trainer(tmp_path, max_epochs=2)
    run.fit(model, data)
    (tested,) = run.test(model, data, verbose=False)
    assert tested["test/bpc"] == pytest.approx(ENTROPY, abs=0.05)
    assert tested["test/loss"] == pytest.approx(tested["test/bpc"] * math.log(2), rel=1e-5)


def test_invalid_sizes_get_one_sentence(package: Part) -> None:
    """Before anything is built from them."""
    for options, message in (
        ({"n_embd": 33}, "model.n_embd=33 is not divisible by model.n_head=2: "),
        ({"n_head": 0}, "model.n_head must be an integer of at least 1, not 0."),
        ({"n_layer": 1.5}, "model.n_layer must be an integer of at least 1, not 1.5."),
        ({"dropout": 1.0}, "model.dropout must be a number of at least 0 and below 1, not 1.0."),
    ):
        with pytest.raises(package("errors").UserError) as raised:
            make(package, **options)
        assert message in str(raised.value)


def test_biases_and_norms_do_not_decay(package: Part) -> None:
    """And every weight is in one group."""
    model = make(package)
    decayed, free = model.parameter_groups()
    assert "weight_decay" not in decayed
    assert free["weight_decay"] == 0
    names = {id(weight): name for name, weight in model.named_parameters()}
    found = [names[id(weight)] for group in (decayed, free) for weight in group["params"]]
    assert sorted(found) == sorted(names.values())
    assert all(".ln_" in names[id(w)] or names[id(w)].endswith("bias") for w in free["params"])
