"""serve.py: a real server on a free port gives the answers of predict.py."""

import csv
import io
import json
import pickle
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from sklearn.datasets import load_diabetes, load_digits

from ..conftest import BakedProject, start_warm
from ..support.training_runs import ON_CPU, TrainedRun, run_all
from ..support.warm_client import WarmProcess

# The dev group has them; an environment made by hand may lack them.
for name in ("fastapi", "uvicorn"):
    pytest.importorskip(name)


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: WarmProcess
    address: str

    def ask(self, path: str, body: bytes | None = None) -> tuple[int, Any]:
        """Status and content of an answer."""
        request = urllib.request.Request(f"{self.address}{path}", data=body)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


@contextmanager
def serving(demo: BakedProject, run: TrainedRun, folder: Path) -> Iterator[Server]:
    """Start a server and stop it with Ctrl-C."""
    options = ("port=0", f"ckpt_path={run.checkpoint()}", f"hydra.run.dir={folder}")
    process = start_warm("serve.py", *options, cwd=demo.root, **ON_CPU)
    (address,) = re.findall(r"answering on (http://\S+) until", process.read_until(" until Ctrl-C"))
    yield Server(process, address)
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=300)[0]
    assert "Traceback" not in rest
    assert process.returncode == 0


@pytest.fixture(scope="module")
def servers(
    demo: BakedProject,
    digits: TrainedRun,
    diabetes: TrainedRun,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Server]]:
    folder = tmp_path_factory.mktemp("servers")
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(serving(demo, run, folder / name))
            for name, run in (("digits", digits), ("diabetes", diabetes))
        }


@dataclass(frozen=True)
class Tables:
    """What predict.py wrote, and what the commands answered."""

    rows: list[dict[str, str]]
    pictures: list[dict[str, str]]
    answers: list[str]


def picture_of(number: int) -> bytes:
    """A digit as a PNG file."""
    pixels = (load_digits().images[number] * 255 / 16).round().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def patients() -> list[dict[str, Any]]:
    """Rows of a table: one has a text for a number, one misses a value."""
    data = load_diabetes(scaled=False)
    rows: list[dict[str, Any]] = [
        dict(zip(data.feature_names, row.tolist(), strict=True)) for row in data.data[:5]
    ]
    rows[1]["bmi"] = "heavy"
    rows[3]["bp"] = None
    return rows


@pytest.fixture(scope="module")
def tables(
    servers: dict[str, Server],
    demo: BakedProject,
    digits: TrainedRun,
    diabetes: TrainedRun,
    tmp_path_factory: pytest.TempPathFactory,
) -> Tables:
    folder = tmp_path_factory.mktemp("tables")
    (folder / "pictures").mkdir()
    for number in range(3):
        (folder / "pictures" / f"{number}.png").write_bytes(picture_of(number))
    with (folder / "patients.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(patients()[0]))
        writer.writeheader()
        writer.writerows(patients())
    (folder / "code.ckpt").write_bytes(pickle.dumps(print))
    serve = ("serve.py", f"ckpt_path={digits.checkpoint()}", f"hydra.run.dir={folder / 'run'}")

    def predict(run: TrainedRun, name: str) -> tuple[str, ...]:
        output = f"output={folder / name}-table.csv"
        places = (f"input={folder / name}", output, f"hydra.run.dir={folder / 'run'}")
        return ("predict.py", f"ckpt_path={run.checkpoint()}", *places)

    answers = run_all(
        demo,
        predict(digits, "pictures"),
        predict(diabetes, "patients.csv"),
        ("serve.py", f"ckpt_path={folder / 'code.ckpt'}", f"hydra.run.dir={folder / 'run'}"),
        (*serve, f"port={servers['digits'].address.rpartition(':')[2]}"),
        (*serve, "port=100000"),
    )

    def read(name: str) -> list[dict[str, str]]:
        with (folder / f"{name}-table.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    return Tables(read("patients.csv"), read("pictures"), answers)


def as_table(answer: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """An answer without the names of the inputs, which a request does not have."""
    return [{key: value for key, value in row.items() if key != "input"} for row in answer]


def numbers_of(rows: list[dict[str, str]], *texts: str) -> list[dict[str, Any]]:
    """A table that predict.py wrote, as JSON would hold it."""
    return [
        {
            key: (value or None) if key in texts or not value else float(value)
            for key, value in row.items()
            if key != "input"
        }
        for row in rows
    ]


def assert_alike(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Equal but for rounding: predict.py adds up a batch of another size in another order."""
    for row, other in zip(found, expected, strict=True):
        assert list(row) == list(other)
        for name, value in row.items():
            if isinstance(value, float):
                assert value == pytest.approx(other[name], rel=1e-4, abs=1e-7)
            else:
                assert value == other[name]


def test_rows_are_answered_as_by_predict(servers: dict[str, Server], tables: Tables) -> None:
    """Two ways to ask one model must not give two answers."""
    status, answer = servers["diabetes"].ask("/predict", json.dumps(patients()).encode())
    assert status == 200
    assert [row["input"] for row in answer] == [f"row {number}" for number in range(1, 6)]
    assert_alike(as_table(answer), numbers_of(tables.rows, "error"))
    assert [bool(row["error"]) for row in answer] == [False, True, False, False, False]


def test_picture_is_answered_as_by_predict(servers: dict[str, Server], tables: Tables) -> None:
    """The same picture, the same class and probabilities."""
    for number, row in enumerate(numbers_of(tables.pictures, "prediction", "error")):
        assert row["prediction"] == str(number)
        status, (answer,) = servers["digits"].ask("/predict", picture_of(number))
        assert (status, answer.pop("input")) == (200, "image")
        assert_alike([answer], [row])


def test_health_tells_what_is_served(servers: dict[str, Server]) -> None:
    """A load balancer asks this, and whoever wonders which of two servers it is."""
    assert servers["digits"].ask("/health") == (
        200,
        {"status": "ok", "model": "Classifier", "task": "classification"},
    )


BAD_ROW = json.dumps([patients()[1]]).encode()
BAD_REQUESTS: dict[str, tuple[str, bytes | None, int, str]] = {
    "no JSON": ("diabetes", b"{", 422, "is not JSON"),
    "a picture": ("diabetes", b"\x89PNG\xff", 422, "is not JSON"),
    "deep": ("diabetes", b"[" * 100_000, 422, "is not JSON"),
    "numbers": ("diabetes", b"[1, 2]", 422, "is not a table"),
    "nothing": ("diabetes", b"[]", 422, "is not a table"),
    "other columns": ("diabetes", b'[{"agee": 1}]', 422, "no column 'age'"),
    "half a character": ("diabetes", b'[{"\\ud800": "\\ud800"}]', 422, "no column 'age'"),
    "a bad cell": ("diabetes", BAD_ROW, 422, "row 1: column 'bmi' holds 'heavy'"),
    "rows": ("digits", BAD_ROW, 422, "not an image file of a known format"),
    "an empty body": ("digits", b"", 422, "not an image file of a known format"),
    "half a picture": ("digits", picture_of(0)[:60], 422, "truncated"),
    "too much": ("digits", bytes(16_000_001), 413, "at most 16 MB"),
    "the wrong verb": ("digits", None, 405, "Not Allowed"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_bad_request_gets_one_sentence(servers: dict[str, Server], name: str) -> None:
    """What others send must neither end the server nor show them its insides."""
    model, body, status, words = BAD_REQUESTS[name]
    found, answer = servers[model].ask("/predict", body)
    assert (found, list(answer)) == (status, ["detail"])
    assert words in answer["detail"]
    assert "\n" not in answer["detail"] and "Error" not in answer["detail"]
    assert servers[model].ask("/health")[0] == 200


def test_only_this_machine_may_ask(servers: dict[str, Server]) -> None:
    """A server without a password must not be open to the network unless told to."""
    process = psutil.Process(servers["digits"].process.pid)
    listening = [c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {c.laddr.ip for c in listening} == {"127.0.0.1"}
    assert socket.AF_INET6 not in {c.family for c in listening}


def test_checkpoint_with_code_is_refused(tables: Tables) -> None:
    """Whoever downloads a checkpoint to serve it must not run what is in it."""
    assert tables.answers[:2] == ["", ""]
    assert "cannot be read as a checkpoint" in tables.answers[2]


@pytest.mark.parametrize("number", [3, 4])
def test_port_that_cannot_be_had_is_told(tables: Tables, number: int) -> None:
    """A second server on a port would otherwise end in a number of lines and no advice."""
    assert tables.answers[number].startswith("error: The server cannot listen on host=127.0.0.1")
    assert "port=0" in tables.answers[number]
