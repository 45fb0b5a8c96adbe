"""Starts TensorBoard and asks it what a browser would ask."""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

Ask = Callable[..., Any]
ANSWER_SECONDS = 60
# Past a proxy that the environment may name: the server is on this machine.
DIRECTLY = build_opener(ProxyHandler({}))


@contextmanager
def serve(folder: Path) -> Iterator[Ask]:
    """Ask a server: `ask("text/tags")`, or with a body as the table of hyperparameters wants it."""
    # Port 0: one that is free, which the server names.
    options = ("--logdir", str(folder), "--host", "127.0.0.1", "--port", "0")
    with (
        tempfile.NamedTemporaryFile("w+") as file,
        subprocess.Popen(
            (sys.executable, "-m", "tensorboard.main", *options), stdout=file, stderr=file
        ) as server,
    ):
        try:
            output = Path(file.name)
            address = wait_for(lambda: re.search(r"http://127\.0\.0\.1:\d+/", output.read_text()))

            def ask(plugin: str, body: dict[str, Any] | None = None, **query: str) -> Any:
                return answer(f"{address[0]}data/{plugin}?{urlencode(query)}", body)

            yield ask
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


def rows(ask: Ask, metric: str, order: str) -> list[dict[str, Any]]:
    """The rows of the HPARAMS table, sorted by a metric."""
    asked = {
        "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
        "colParams": [{"metric": {"tag": metric, "group": ""}, "order": order}],
        "startIndex": 0,
        "sliceSize": 100,
    }
    found: list[dict[str, Any]] = ask("plugin/hparams/session_groups", asked)["sessionGroups"]
    return found
