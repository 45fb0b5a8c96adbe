"""What a running TensorBoard answers to the browser: the tables and texts that a user will see."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from .conftest import BakedProject
from .one_process import run_all

# Three runs that differ in what they reach: the first learns next to nothing.
RATES = {"slow": 1e-5, "fast": 3e-3, "middle": 3e-4}
BEST = "hp/best_val_acc"
Ask = Callable[..., Any]
ANSWER_SECONDS = 60
EPOCHS, BATCHES = 2, 19
# Past a proxy that the environment may name: the server is on this machine.
DIRECTLY = build_opener(ProxyHandler({}))


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
def ask(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Ask a server: `ask("text/tags")`, or with a body as the table of hyperparameters wants it."""
    output = tmp_path_factory.mktemp("server") / "output.txt"
    # Port 0: one that is free, which the server names.
    options = ("--logdir", str(runs), "--host", "127.0.0.1", "--port", "0")
    with (
        output.open("w") as file,
        subprocess.Popen(
            (sys.executable, "-m", "tensorboard.main", *options), stdout=file, stderr=file
        ) as server,
    ):
        try:
            address = wait_for(lambda: re.search(r"http://127\.0\.0\.1:\d+/", output.read_text()))

            def ask_server(plugin: str, body: dict[str, Any] | None = None, **query: str) -> Any:
                return answer(f"{address[0]}data/{plugin}?{urlencode(query)}", body)

            wait_for(lambda: is_read(rows(ask_server, "ORDER_ASC")))
            yield ask_server
        finally:
            server.kill()


def wait_for(look: Callable[[], Any]) -> Any:
    """What `look` finds, once it finds something."""
    for _ in range(10 * ANSWER_SECONDS):
        if found := look():
            return found
        time.sleep(0.1)
    raise TimeoutError(f"nothing after {ANSWER_SECONDS} seconds")


def answer(address: str, body: dict[str, Any] | None) -> Any:
    """Ask as the browser does, and read the JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(address, data, {"Content-Type": "application/json"})
    with DIRECTLY.open(request, timeout=ANSWER_SECONDS) as response:
        return json.load(response)


def rows(ask: Ask, order: str) -> list[dict[str, Any]]:
    """The rows of the HPARAMS table, sorted by the best validation accuracy."""
    asked = {
        "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
        "colParams": [{"metric": {"tag": BEST, "group": ""}, "order": order}],
        "startIndex": 0,
        "sliceSize": 100,
    }
    found: list[dict[str, Any]] = ask("plugin/hparams/session_groups", asked)["sessionGroups"]
    return found


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
            for row in rows(ask, order)
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
