"""Labelled texts; delete this file together with `data/text_csv.py` and `nets/text_encoder.py`."""

import csv
from pathlib import Path

import pytest
from model_checks import ModelChecks

TEXTS = [
    "an old tree",
    "two old\ntrees, and more",
    "äöü — 😀",
    "a",
    "much longer than the others " * 4,
]


class TestTextEncoder(ModelChecks):
    """On texts of different lengths."""

    options: tuple[str, ...] = ("experiment=text_csv", "data.target=label")

    @pytest.fixture(autouse=True)
    def _write_texts(self, tmp_path: Path) -> None:
        path = tmp_path / "texts.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = [
                (text, f"class {i % 2}", i + number / 7)
                for number in range(16)
                for i, text in enumerate(TEXTS)
            ]
            csv.writer(file).writerows([("text", "label", "value"), *rows])
        self.config = (*self.options, f"data.path={path}", "data.text=text", "data.max_length=64")


class TestTextRegressor(TestTextEncoder):
    """The same network with values as targets."""

    options = (
        "experiment=text_csv",
        "data.target=value",
        "data.task=regression",
        "model=text_regressor",
        "objective.metric=val/loss",
        "objective.mode=min",
    )
