"""What a running TensorBoard answers to the browser: the tables and texts that a user will see."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import BakedProject
from ..support.tensorboard_server import Ask, rows, serve, wait_for
from ..support.training_runs import run_all

# Three runs that differ in what they reach: the first learns next to nothing.
RATES = {"slow": 1e-5, "fast": 3e-3, "middle": 3e-4}
BEST = "hp/best_val_acc"
EPOCHS, BATCHES = 2, 19


@pytest.fixture(scope="module")
def runs(demo: BakedProject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three short runs."""
    folder = tmp_path_factory.mktemp("compared")
    answers = run_all(
        demo,
        *(
            (
                "train.py",
                f"hydra.run.dir={folder / name}",
                f"name={name}",
                f"optimizer.lr={rate}",
                f"trainer.max_epochs={EPOCHS}",
                "scheduler=constant",
                "test=false",
            )
            for name, rate in RATES.items()
        ),
    )
    assert answers == [""] * len(RATES)
    return folder


@pytest.fixture(scope="module")
def ask(runs: Path) -> Iterator[Ask]:
    """Ask a server that has read all runs."""
    with serve(runs) as ask_server:
        wait_for(lambda: is_read(rows(ask_server, BEST, "ORDER_ASC")))
        yield ask_server


def is_read(found: list[dict[str, Any]]) -> bool:
    """Whether the server, which reads while it answers, has come to the end of every run."""
    steps = [value["trainingStep"] for row in found for value in row.get("metricValues", [])]
    return steps == [EPOCHS * BATCHES] * len(RATES)


def expected(runs: Path) -> dict[str, float]:
    """The best validation accuracy of each run, as its manifest tells."""
    return {
        name: json.loads((runs / name / "run.json").read_text())["metrics"]["best"]["val/acc"]
        for name in RATES
    }


def test_table_compares_runs_by_their_best(runs: Path, ask: Ask) -> None:
    """Which of my runs was the best, and with which learning rate?"""
    (column,) = ask("plugin/hparams/experiment", {})["metricInfos"]
    assert column["name"]["tag"] == BEST
    best = expected(runs)
    assert len(set(best.values())) == len(RATES)
    for order in ("ORDER_ASC", "ORDER_DESC"):
        table = {
            row["hparams"]["name"]: (row["metricValues"][0]["value"], row["hparams"])
            for row in rows(ask, BEST, order)
        }
        names = sorted(RATES, key=lambda name: best[name], reverse=order == "ORDER_DESC")
        assert list(table) == names
        for name, (value, hparams) in table.items():
            assert value == pytest.approx(best[name])
            assert hparams["optimizer/lr"] == pytest.approx(RATES[name])


def test_texts_tell_what_ran(ask: Ask) -> None:
    """Months later the TEXT tab alone says what the network, the machine and the options were."""
    tags = ask("plugin/text/tags")["fast/tensorboard"]
    assert {"model/text_summary", "environment/text_summary", "config/text_summary"} <= set(tags)
    texts = {
        tag: ask("plugin/text/text", run="fast/tensorboard", tag=tag)[0]["text"] for tag in tags
    }
    assert "Conv2d(1, 32" in texts["model/text_summary"]
    assert "<td>torch</td>" in texts["environment/text_summary"]
    assert "lr: 0.003" in texts["config/text_summary"]
