"""A checkpoint behind HTTP: the answers are those of `predict.py`."""

import logging
import socket
from contextlib import suppress
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from omegaconf import DictConfig
from starlette.concurrency import run_in_threadpool

from .config_checks import check_top_level
from .data.bodies import read_body
from .errors import UserError, first_line
from .models.supervised import SupervisedModule
from .prediction import UNKNOWN, load_predictor, run_model, table_of
from .runs.logs import capture_everything

log = logging.getLogger(__name__)


def serve(cfg: DictConfig) -> None:
    """Answer requests until Ctrl-C, as `configs/serve.yaml` says.

    Raises:
        UserError: no readable checkpoint of a classifier or regressor, or a port that is taken.
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
    """A socket that listens.

    Raises:
        UserError: there is no such address here, or another program listens on it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, TypeError) as error:
        raise UserError(
            f"Nobody can be answered on host={host} port={port} ({first_line(error)}): choose "
            "another port, or port=0 for one that is free."
        ) from error


def build_app(model: SupervisedModule, batch_size: int, max_bytes: int) -> FastAPI:
    """The application: `GET /health` and `POST /predict`.

    Args:
        model: what answers.
        batch_size: of the rows of one request.
        max_bytes: a longer request is refused.
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
        # In a thread, so that /health is answered meanwhile.
        return await run_in_threadpool(answer, bytes(body))

    return app
