"""As much of a W&B server as the client needs to begin a run and send it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@contextmanager
def wandb_server() -> Iterator[ThreadingHTTPServer]:
    """A server on a free port of this machine; `end` lets it go away before."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        end(server)


def end(server: ThreadingHTTPServer) -> None:
    """Let a server go away, as often as one likes."""
    server.shutdown()
    server.server_close()


def answer(query: str, variables: dict[str, Any]) -> dict[str, Any]:
    """What the server says to a GraphQL query; to those that do not matter here nothing."""
    someone = {"id": "someone", "name": "someone", "username": "someone", "entity": "someone"}
    if "upsertBucket" in query:
        name, project = variables["name"], variables["project"]
        bucket = {"id": name, "name": name, "displayName": name, "config": "{}"}
        bucket |= {"project": {"id": project, "name": project, "entity": someone}}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}
    if "viewer" in query:
        return {"viewer": someone | {"flags": "{}", "teams": {"edges": []}}}
    return {}


class Handler(BaseHTTPRequestHandler):
    """Answers every request at once, and closes the line: none outlives the server."""

    def do_POST(self) -> None:
        """A query, or a part of the run's files."""
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        reply: dict[str, Any] = {"exitcode": None, "limits": {}}
        if self.path == "/graphql":
            asked = json.loads(body)
            reply = {"data": answer(asked["query"], asked.get("variables") or {})}
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(reply).encode())

    def log_message(self, *args: Any) -> None:
        """Nothing on the terminal."""
