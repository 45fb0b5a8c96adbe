"""The website of the documentation, built with every warning as an error."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ..conftest import ROOT

SITE = ROOT / "scripts" / "site.py"
TOOLS = ("zensical", "mkdocstrings")


def load_script() -> object:
    spec = importlib.util.spec_from_file_location("site_script", SITE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_lead_to_pages_or_to_the_repository() -> None:
    """A link that works on GitHub and not on the website is only noticed by readers."""
    site = load_script()
    sources = list(site.source_pages())  # type: ignore[attr-defined]
    page = ROOT / "docs" / "recipes" / "gan.md"
    text = "[a](../features.md#x) [b](../../README.md) ![c](../images/loss.png) [d](../../tests)"
    found = site.relink(text, page, sources, "https://host/owner/name")  # type: ignore[attr-defined]
    assert found == (
        "[a](../features.md#x) [b](../index.md) ![c](../images/loss.png) "
        "[d](https://host/owner/name/tree/main/tests)"
    )
    with pytest.raises(SystemExit, match=r"links to \.\./nothing\.md, which does not exist"):
        site.relink("[e](../nothing.md)", page, sources, None)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_website_has_every_page(tmp_path: Path) -> None:
    """A page that no menu leads to, or a reference that lacks a module."""
    if any(importlib.util.find_spec(tool) is None for tool in TOOLS):
        pytest.skip("zensical or mkdocstrings is not installed: see docs/requirements.txt")
    variables = os.environ | {"GITHUB_SERVER_URL": "https://host", "GITHUB_REPOSITORY": "a/b"}
    command = [sys.executable, str(SITE)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = ROOT / "build" / "site"
    navigation = json.dumps(tomllib.loads((folder / "zensical.toml").read_text())["project"]["nav"])
    pages = {path.relative_to(folder / "docs").as_posix() for path in folder.rglob("docs/**/*.md")}
    assert pages == set(re.findall(r'"([\w/.-]+\.md)"', navigation))
    library = next(ROOT.glob("{{*")) / "workbench"
    modules = {path.stem for path in library.iterdir() if path.stem[0] not in "_."}
    built = {path.name for path in (folder / "html" / "reference").iterdir()}
    assert built == modules - {"py"}
    features = (folder / "html" / "features" / "index.html").read_text("utf-8")
    assert re.search(r'<img [^>]*src="[^"]*images/activations.png"', features)
    assert (folder / "html" / "images" / "activations.png").is_file()
