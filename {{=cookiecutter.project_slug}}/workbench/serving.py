"""Serves the predictions of a checkpoint over HTTP; the answers are those of `predict.py`."""

import json
import logging
import socket
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from omegaconf import DictConfig
from starlette.concurrency import run_in_threadpool

from .config_checks import check_top_level
from .data.images import ImageError, Normalise, read_image, reading_options
from .data.inputs import Inputs, read_rows, warn_of_clipped
from .data.table_file import TableFile, json_cell
from .errors import UserError, first_line, nearest
from .models.supervised import SupervisedModule
from .prediction import UNKNOWN, load_predictor, run_model, table_of
from .runs.logs import capture_everything

log = logging.getLogger(__name__)


def serve(cfg: DictConfig) -> None:
    """Answer requests until Ctrl-C, with the options of `configs/serve.yaml`.

    Raises:
        UserError: the checkpoint holds no classifier or regressor, or the port is taken.
    """
    check_top_level(cfg)
    capture_everything()
    model = load_predictor(cfg.ckpt_path, cfg.trust_config, "serve")
    app = build_app(model, cfg.batch_size, int(cfg.max_megabytes * 1e6))
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    with open_socket(cfg.host, cfg.port) as listening, suppress(KeyboardInterrupt):
        log.info("answering on http://%s:%d until Ctrl-C", cfg.host, listening.getsockname()[1])
        uvicorn.Server(uvicorn.Config(app, log_config=None)).run(sockets=[listening])


def open_socket(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        UserError: there is no such address, or another program listens on it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, TypeError) as error:
        raise UserError(
            f"The server cannot listen on host={host} port={port} ({first_line(error)}): choose "
            "another port, or port=0 for a free one."
        ) from error


def build_app(model: SupervisedModule, batch_size: int, max_bytes: int) -> FastAPI:
    """The application: `GET /health` and `POST /predict`.

    Args:
        model: the model that predicts.
        batch_size: number of rows that are predicted at a time.
        max_bytes: longer requests are rejected.
    """
    app = FastAPI(docs_url=None, redoc_url=None)

    def answer(body: bytes) -> list[dict[str, Any]]:
        try:
            inputs = read_body(model.hparams["preprocessing"], body)
        except UserError as error:
            raise HTTPException(422, str(error)) from error
        inputs, outputs = run_model(model, inputs, batch_size)
        if not inputs.good:
            first = min(inputs.errors)
            raise HTTPException(422, f"{inputs.names[first]}: {inputs.errors[first]}")
        if inputs.unknown:
            log.warning("%d of %d %s", len(inputs.unknown), len(inputs.names), UNKNOWN)
        columns, rows = table_of(model, inputs, outputs)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok", "model": type(model).__name__, "task": model.task}

    @app.post("/predict")
    async def predict(request: Request) -> list[dict[str, Any]]:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > max_bytes:
                raise HTTPException(413, f"A request holds at most {max_bytes / 1e6:g} MB.")
        # In a thread, so that /health answers in the meantime.
        return await run_in_threadpool(answer, bytes(body))

    return app


class Pairs(list[tuple[str, Any]]):
    """Keys and values of a JSON object; a dictionary would keep only the last of equal keys."""


def read_body(preprocessing: dict[str, Any], body: bytes) -> Inputs:
    """Read the inputs in the body of a request: one image, or a JSON list of rows.

    Args:
        preprocessing: that of the datamodule that the model was trained with.
        body: the body.

    Raises:
        UserError: it is not an image or not a table, or a column is missing.
    """
    read = _read_image if preprocessing["kind"] == "image" else _read_rows
    return read(preprocessing, body)


def _read_image(preprocessing: dict[str, Any], body: bytes) -> Inputs:
    """One image, as the bytes of its file."""
    try:
        pixels = read_image(BytesIO(body), *reading_options(preprocessing))
    except ImageError as error:
        sentence = str(error).rstrip(".")
        raise UserError(f"{sentence}: send the bytes of a PNG or JPEG file.") from error
    warn_of_clipped(preprocessing, ["the request"], pixels.unsqueeze(0))
    return Inputs(["image"], Normalise(preprocessing)(pixels.unsqueeze(0)), [0], {})


def _read_rows(preprocessing: dict[str, Any], body: bytes) -> Inputs:
    """A JSON list of objects, one per row: `[{"age": 59, "bmi": null}]`, `[{"review": "Fine"}]`.

    Rows are read independently, and a row that cannot be used has its own error. Only a body that
    is not such a list is rejected as a whole.
    """
    columns = [str(column["name"]) for column in preprocessing["columns"]]
    only_texts = preprocessing["kind"] == "text"
    cells, good, errors = [], [], {}
    rows = _parse(body)
    for position, row in enumerate(rows):
        try:
            cells.append(_cells(row, columns, only_texts))
            good.append(position)
        except ValueError as error:
            errors[position] = str(error)
    names = [f"row {number}" for number in range(1, len(rows) + 1)]
    if not good:
        return Inputs(names, torch.empty(0), [], errors)
    table = TableFile.from_rows(Path("The request"), columns, cells, list(range(1, len(cells) + 1)))
    read = read_rows(preprocessing, table)
    return Inputs(
        names,
        read.x,
        [good[place] for place in read.good],
        errors | {good[place]: error for place, error in read.errors.items()},
        {good[place]: text for place, text in read.unknown.items()},
    )


def _parse(body: bytes) -> list[Pairs]:
    """The objects of a JSON list, or a single object, as pairs, in which keys may repeat.

    Raises:
        UserError: the body is something else.
    """
    try:
        rows = json.loads(body, object_pairs_hook=Pairs, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UserError(
            "The body is not JSON: send a list of objects, one per row, with null for a missing "
            "value."
        ) from error
    rows = [rows] if isinstance(rows, Pairs) else rows
    if not isinstance(rows, list) or not rows or not all(isinstance(row, Pairs) for row in rows):
        raise UserError("The body is not a table: send a list of objects, one per row.")
    return rows


def _refuse_constant(word: str) -> None:
    """Reject NaN and Infinity, which Python reads although JSON does not allow them."""
    raise ValueError(word)


def _cells(row: Pairs, columns: list[str], only_texts: bool) -> list[str]:
    """The cells of a row, in the order of the columns.

    Raises:
        ValueError: a column is missing or occurs twice, or a value is a list or an object, or a
            number where a text is needed.
    """
    values: dict[str, Any] = {}
    for key, value in row:
        name = json_cell(key)
        if name in values:
            raise ValueError(f"column '{name}' occurs twice")
        values[name] = value
    for column in columns:
        if column not in values:
            hint = nearest(column, values) if values else "the object is empty."
            raise ValueError(f"no column '{column}' (null means that a value is missing); {hint}")
        if isinstance(values[column], list):
            raise ValueError(f"column '{column}' holds a list or an object, not a single value")
        # In a file, the text of a number is as it was written.
        if only_texts and not isinstance(values[column], str | None):
            raise ValueError(f"column '{column}' holds a number, true or false, not a text")
    return [json_cell(values[column]) for column in columns]
