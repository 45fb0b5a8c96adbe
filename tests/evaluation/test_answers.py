"""What predict.py writes and serve.py answers: no digit is lost, no answer mixed up or invented."""

import asyncio
import csv
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ..support.template_package import Part

# The dev group has it; an environment made by hand may lack it.
pytest.importorskip("fastapi")

OPTIONS: dict[str, Any] = {
    "net": {"name": "mlp", "width": 16, "depth": 1},
    "optimizer": {},
    "scheduler": {},
}


def write(path: Path, header: list[str], rows: list[list[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def model_of(package: Part, path: Path, target: str, **options: Any) -> Any:
    """An untrained model of a table; its answers differ from row to row like a trained one's."""
    data = package("data").CSVDataModule(str(path), target, **options)
    data.setup()
    torch.manual_seed(1)
    name = "Regressor" if data.task == "regression" else "Classifier"
    return getattr(package("models"), name)(**OPTIONS, **data.describe()).eval()


def table(folder: Path, target: str = "price", mean: float = 0, std: float = 1) -> Path:
    """A table with a number, a category, a flag and a target that is a number."""
    rng = np.random.default_rng(0)
    rows = [
        [i / 4, "uvw"[i % 3], ("true", "false")[i % 2], repr(float(mean + std * rng.normal()))]
        for i in range(60)
    ]
    return write(folder / "table.csv", ["a", "cat", "flag", target], rows)


@pytest.fixture(scope="module")
def model(package: Part, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A regressor of columns a, cat and flag."""
    return model_of(package, table(tmp_path_factory.mktemp("table")), "price")


def ask(package: Part, model: Any, body: bytes | str | list[Any]) -> tuple[int, Any]:
    """Status and content of the server's answer to `POST /predict`."""
    content = json.dumps(body).encode() if isinstance(body, list) else body
    content = content.encode() if isinstance(content, str) else content
    app = package("serving").build_app(model, batch_size=256, max_bytes=1_000_000)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}
    asyncio.run(app(scope | {"query_string": b"", "http_version": "1.1"}, receive, send))
    return sent[0]["status"], json.loads(b"".join(part.get("body", b"") for part in sent[1:]))


def predict(package: Part, model: Any, path: Path) -> list[dict[str, str]]:
    """The table that predict.py writes for a file or folder, without starting it."""
    prediction = package("prediction")
    inputs = package("data.inputs").read_inputs(model.hparams["preprocessing"], path)
    inputs, outputs = prediction.run_model(model, inputs, 256)
    written = path.with_name("predictions.csv")
    prediction.write_table(written, inputs, model, outputs)
    with written.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# Digits


def test_written_values_read_back_unchanged(package: Part, tmp_path: Path) -> None:
    """Six digits make all predictions around 1,700,000,000 one and the same."""
    path = table(tmp_path, mean=1.7e9, std=600)
    model = model_of(package, path, "price")
    written = [float(row["price"]) for row in predict(package, model, path)]
    x = package("data.inputs").read_inputs(model.hparams["preprocessing"], path).x
    with torch.no_grad():
        standardised = model(x).numpy().astype(np.float64)
    values = standardised * model.hparams["target_std"] + model.hparams["target_mean"]
    np.testing.assert_array_equal(written, values)
    assert len(set(written)) > 50
    rows = [{"a": i / 4, "cat": "uvw"[i % 3], "flag": i % 2 == 0} for i in range(60)]
    status, answers = ask(package, model, rows)
    assert (status, [row["price"] for row in answers]) == (200, written)


def test_written_probabilities_read_back_unchanged(package: Part, tmp_path: Path) -> None:
    """A probability of 3e-9 is not zero, and 0.99999997 is not one."""
    path = table(tmp_path)
    model = model_of(package, path, "flag", drop=["price"])
    with torch.no_grad():
        model.net.layers[-1].weight *= 100  # as sure as a trained model
    rows = predict(package, model, path)
    x = package("data.inputs").read_inputs(model.hparams["preprocessing"], path).x
    with torch.no_grad():
        expected = model(x).numpy()
    for place, name in enumerate(("false", "true")):
        written = np.array([row[f"p({name})"] for row in rows])
        np.testing.assert_array_equal(written.astype(np.float32), expected[:, place])
        # No more digits than float32 has.
        assert max(len(text.partition("e")[0].strip("0.")) for text in written) <= 10
    assert expected.min() < 1e-6


def test_prediction_that_is_no_number_is_an_error(package: Part, tmp_path: Path) -> None:
    """JSON has no NaN: the server would end the request with status 500."""
    model = model_of(package, table(tmp_path), "price")
    prediction = package("prediction")
    x = torch.zeros(3, *model.hparams["input_shape"])
    x[1] = float("nan")
    inputs = package("data.inputs").Inputs(["a", "b", "c"], x, [0, 1, 2], {})
    inputs, outputs = prediction.run_model(model, inputs, 2)
    _, rows = prediction.table_of(model, inputs, outputs)
    assert [row[1] is None for row in rows] == [False, True, False]
    assert [row[-1] for row in rows] == [None, "the prediction is not a finite number", None]
    with torch.no_grad():
        model.net.layers[-1].bias.fill_(float("inf"))
    status, answer = ask(package, model, [{"a": 1, "cat": "u", "flag": True}])
    assert (status, answer["detail"]) == (422, "row 1: the prediction is not a finite number")


# Names


@pytest.mark.parametrize("target", ["error", "input", "unknown", "prediction", "price"])
def test_target_of_any_name_has_a_column_of_its_own(
    package: Part, tmp_path: Path, target: str
) -> None:
    """With two columns called `error`, the answer was {"input": "row 1", "error": null}."""
    path = table(tmp_path, target, mean=100)
    model = model_of(package, path, target)
    column = target if target in ("prediction", "price") else f"{target}_predicted"
    predict(package, model, path)
    header = (tmp_path / "predictions.csv").read_text().splitlines()[0]
    assert header == f"input,{column},unknown,error"
    status, (answer,) = ask(package, model, [{"a": 1, "cat": "u", "flag": True}])
    assert (status, list(answer)) == (200, ["input", column, "unknown", "error"])
    assert answer["input"] == "row 1" and 90 < answer[column] < 110 and answer["error"] is None


def test_classes_of_any_name_have_columns_of_their_own(package: Part, tmp_path: Path) -> None:
    """Classes called like a column, or like each other, must not overwrite anything."""
    path = write(tmp_path / "t.csv", ["a", "error"], [[i, "ab"[i % 2]] for i in range(40)])
    model = model_of(package, path, "error")
    model.output_names = ["error", "error"]
    status, (answer,) = ask(package, model, [{"a": 3}])
    assert (status, list(answer)) == (
        200,
        ["input", "prediction", "p(error)", "p(error)_2", "error"],
    )
    assert answer["p(error)"] + answer["p(error)_2"] == pytest.approx(1)
    assert (answer["prediction"], answer["error"]) == ("error", None)


# Unknown categories


def test_unknown_categories_are_reported(
    package: Part, model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A word never seen in training goes through an untrained weight, which nobody notices."""
    prediction = package("prediction")
    x = torch.randn(3, *model.hparams["input_shape"])
    told = {1: "cat='x'"}
    inputs = package("data.inputs").Inputs(["line 2", "line 3", "line 4"], x, [0, 1, 2], {}, told)
    inputs, outputs = prediction.run_model(model, inputs, 2)
    columns, rows = prediction.table_of(model, inputs, outputs)
    place = columns.index("unknown")
    assert [row[place] for row in rows] == [None, "cat='x'", None]
    with caplog.at_level(logging.WARNING):
        prediction.warn_of(inputs.names, inputs.unknown, prediction.UNKNOWN, "unknown")
    assert caplog.messages == [
        "1 of 3 inputs hold a value that training never saw: line 3; see the column `unknown`"
    ]


def test_exported_file_says_what_becomes_of_unknown_categories(package: Part, model: Any) -> None:
    """Whoever runs the file encodes the rows, and has nothing else to read."""
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name)
    described = json.loads(package("exporting").describe(model)["unknown_categories"])
    assert "'<column>=?' to 1" in described
    assert {"cat=?", "flag=?"} < set(model.hparams["preprocessing"]["features"])


# The body of a request


GOOD: dict[str, Any] = {"a": 1, "cat": "u", "flag": True}
# A row as JSON, and what its answer says.
ROWS_WITH_ERRORS = {
    "another key": ('{"aa": 1, "cat": "u", "flag": true}', "no column 'a' (null"),
    "a missing key": ('{"a": 1, "flag": true}', "no column 'cat' (null"),
    "no key": ("{}", "the object is empty"),
    "equal keys": ('{"a": 1, "cat": "u", "flag": true, "a": 5}', "column 'a' occurs twice"),
    "equal trimmed keys": ('{"a": 1, " a": 5, "cat": "u", "flag": true}', "'a' occurs twice"),
    "equal unused keys": ('{"a":1,"cat":"u","flag":true,"z":1,"z ":1}', "'z' occurs twice"),
    "a list": ('{"a": [1], "cat": "u", "flag": true}', "'a' holds a list or an object"),
    "an object": ('{"a": 1, "cat": {"u": 1}, "flag": true}', "'cat' holds a list or an object"),
    "an empty list": ('{"a": 1, "cat": [], "flag": true}', "'cat' holds a list or an object"),
    "a word": ('{"a": "one", "cat": "u", "flag": true}', "'a' holds 'one'"),
    "a flag": ('{"a": true, "cat": "u", "flag": true}', "'a' holds 'true'"),
    "infinity": ('{"a": 1e999, "cat": "u", "flag": true}', "'a' holds 'inf"),
}


@pytest.mark.parametrize("name", ROWS_WITH_ERRORS)
def test_faulty_row_is_an_error_and_leaves_its_neighbours_alone(
    package: Part, model: Any, name: str
) -> None:
    """Columns were the union over the request, so a misspelt one was filled with the median."""
    row, words = ROWS_WITH_ERRORS[name]
    status, (alone,) = ask(package, model, [GOOD])
    assert status == 200
    for body in (f"[{json.dumps(GOOD)},{row}]", f"[{row},{json.dumps(GOOD)}]"):
        status, answers = ask(package, model, body)
        assert status == 200
        good, bad = sorted(answers, key=lambda answer: answer["error"] is not None)
        assert good["price"] == pytest.approx(alone["price"], rel=1e-4, abs=1e-6)
        assert (list(good), good["error"]) == (list(alone), None)
        assert bad["price"] is None
        assert words in bad["error"] and "\n" not in bad["error"]
        assert {good["input"], bad["input"]} == {"row 1", "row 2"}
    status, answer = ask(package, model, row)
    assert status == 422
    assert answer["detail"].startswith("row 1: ") and words in answer["detail"]
    assert "delimiter" not in answer["detail"]


NO_JSON = ["", "{", '{"a": NaN}', '[{"a": Infinity}]', '{"a": -Infinity}', "[{'a': 1}]"]
NO_TABLE = ["[]", "1", "null", '"a"', "[1]", '[{"a": 1}, null]', "[[1, 2]]", "[[]]"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        *((body, "is not JSON") for body in NO_JSON),
        *((body, "is not a table") for body in NO_TABLE),
    ],
)
def test_other_bodies_are_refused(package: Part, model: Any, body: str, words: str) -> None:
    """NaN and Infinity are words of Python, not of JSON; null is what a missing value is."""
    status, answer = ask(package, model, body)
    assert status == 422
    assert words in answer["detail"] and "a list of objects" in answer["detail"]


def test_null_is_a_missing_value(package: Part, model: Any) -> None:
    """An empty cell of a file and null are answered alike; the key must be there."""
    status, answers = ask(package, model, [GOOD | {"a": None}, GOOD | {"a": ""}, GOOD])
    assert status == 200
    assert answers[0]["price"] == pytest.approx(answers[1]["price"], rel=1e-6)
    assert answers[0]["price"] != pytest.approx(answers[2]["price"], rel=1e-6)


def test_keys_that_the_model_does_not_know_are_ignored(package: Part, model: Any) -> None:
    """A table with an id is answered by predict.py as well."""
    status, answers = ask(package, model, [GOOD, GOOD | {"id": "x", "more": [1, {"a": 2}]}])
    assert status == 200
    assert answers[0]["price"] == pytest.approx(answers[1]["price"], rel=1e-6)


def test_equivalent_values_are_answered_alike(package: Part, tmp_path: Path) -> None:
    """JSON's true arrived as "True" and matched no category of a column of true and false."""
    rows = [[("1", "2", "3.5")[i % 3], ("true", "false")[i % 2], i % 7 / 7] for i in range(60)]
    path = write(tmp_path / "t.csv", ["size", "flag", "price"], rows)
    model = model_of(package, path, "price", categorical=["size", "flag"])
    read = package("serving").read_body
    alike = [
        [
            '{"size": 2, "flag": true}',
            '{"size": 2.0, "flag": true}',
            '{"size": "2", "flag": "true"}',
        ],
        [
            '{"size": 3.5, "flag": false}',
            '{"size": 3.50, "flag": "false"}',
            '{"flag":false,"size":35e-1}',
        ],
    ]
    for bodies in alike:
        x = [read(model.hparams["preprocessing"], body.encode()).x for body in bodies]
        assert all(torch.equal(other, x[0]) for other in x)
        # Both are categories of the training part: neither is in the place of unknown ones.
        assert x[0].sum() == 2
        assert x[0][0, -1] == 0


def test_long_integers_keep_their_digits(package: Part, tmp_path: Path) -> None:
    """As a float, 2**60 + 1 is 2**60, and the answer would be that for another customer."""
    ids = (2**60, 2**60 + 1)
    path = write(tmp_path / "t.csv", ["id", "price"], [[ids[i % 2], i / 7] for i in range(60)])
    model = model_of(package, path, "price", categorical=["id"])
    body = json.dumps([{"id": number} for number in ids]).encode()
    x = package("serving").read_body(model.hparams["preprocessing"], body).x
    assert x[:, :2].tolist() == [[1, 0], [0, 1]]
