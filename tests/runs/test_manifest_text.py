"""`run.json` as a person reads it: indented, complete and current at every write."""

import json
from pathlib import Path
from typing import Any


def test_every_write_is_what_json_would_indent(package: Any, tmp_path: Path) -> None:
    """A reader would meet outdated entries if a change inside one went unnoticed."""
    layers: list[dict[str, Any]] = [{"name": "net", "shape": [1, 2]}]
    nested: dict[str, Any] = {"layers": layers, "empty": {}, "none": None}
    texts = {"text": 'line\nbreak, "quote", é', "path": Path("a/b"), "number": float("nan")}
    manifest = package("runs.manifest").Manifest(tmp_path, {"config": nested, "texts": texts})
    manifest.begin()
    assert read(tmp_path) == expected(manifest)
    layers.append({"name": "head"})
    manifest.update(status="finished")
    assert read(tmp_path) == expected(manifest)
    assert '"name": "head"' in read(tmp_path)
    with manifest.stage("fit"):
        pass
    manifest.update(metrics={})
    assert json.loads(read(tmp_path))["timings"].keys() == {"fit"}


def read(folder: Path) -> str:
    return (folder / "run.json").read_text("utf-8")


def expected(manifest: Any) -> str:
    return json.dumps(manifest.content, indent=2, default=str) + "\n"
