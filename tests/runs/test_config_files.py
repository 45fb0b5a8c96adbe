"""Config files mean what OmegaConf makes of them, although a faster parser reads them."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from omegaconf import OmegaConf

from ..support.template_package import Part


def read(package: Part, folder: Path, text: str) -> Any:
    (folder / "data").mkdir()
    (folder / "data" / "own.yaml").write_text(text, "utf-8")
    source = FileConfigSource("test", f"file://{folder}")
    return package("config_headers").load_config(source, "data/own").config


@pytest.mark.parametrize(
    "text",
    [
        "a: 1e3\nb: .5\nc: 1_000\nd: 017\ne: 0o17\nf: 1:30\ng: -1.\n",
        "a: 2020-01-01\nb: yes\nc: ~\nd: +.inf\ne: 'it''s'\n",
        "a: &a {b: 1}\nc: *a\nd:\n  <<: *a\n",
        "a: ${x.y}\nb: {c:1, d: http://x}\ne: a#b\nf: [g, h: i]\n",
        "a: é ☃\nb: |\n  c\n  d\ne: >\n  f\n  g\n",
        "",
        "# nothing\n",
        "word\n",
        "- 1\n- b\n",
    ],
)
def test_values_keep_their_types(package: Part, tmp_path: Path, text: str) -> None:
    """The parser alone would take 1e3 for a string and 2020-01-01 for a date."""
    found = read(package, tmp_path, text)
    expected = OmegaConf.load(tmp_path / "data" / "own.yaml")
    assert type(found) is type(expected)
    assert repr(found) == repr(expected)


@pytest.mark.parametrize("text", ["a: 1\na: 2\n", "a: [1\n", "a: b: c\n", "a: @b\n"])
def test_mistakes_are_described_alike(package: Part, tmp_path: Path, text: str) -> None:
    """The parser alone accepts a key that occurs twice, and names fewer causes."""
    with pytest.raises(yaml.YAMLError) as found:
        read(package, tmp_path, text)
    with pytest.raises(yaml.YAMLError) as expected:
        OmegaConf.load((tmp_path / "data" / "own.yaml").open(encoding="utf-8"))
    assert str(found.value) == str(expected.value)
