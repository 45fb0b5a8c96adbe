"""The language of pages, comments and messages: standard terms, and lines that fit a screen.

Only what a regular expression can find is tested here; a "part" may be a split or not.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ..conftest import ROOT, Bake
from ..support.doc_code import FENCED

TEMPLATE = ROOT / "{{=cookiecutter.project_slug}}"
LIMIT = 120
# What to write instead of each expression.
TERMS = {
    r"pictures?": "image or plot",
    r"training aids?": "callback",
    r"whole numbers?": "integer",
    r"goes? on with|going on with|goes on (?:to|in|past)": "resume or continue",
    r"g(?:ives?|ave|iven|iving) (?:\w+ ){0,3}up": "prune or abort",
    r"shares? of|a share": "fraction",
    r"so many": "the number of",
    r"cut off": "interrupted",
    r"(?:each|every|first|all) points?|points? to try": "configuration",
    r"(?:got|gets?|getting) better": "improve",
    r"(?:steps?|batches|rows?|lines?|files?|process) an? (?:epoch|core|sample|run|subject)": "per",
    r"known weakness(?:es)?": "vulnerability",
    r"(?:may|shall) be to blame|to blame": "explains",
    r"these alone": "only these",
    r"is felt": "negligible",
    r"was seen to": "verified",
    r"half characters?": "lone surrogate",
    r"bakes? a project": "generate",
}
BANNED = {re.compile(rf"\b(?:{old})\b", re.IGNORECASE): new for old, new in TERMS.items()}
COMMENT = re.compile(r"(?:^|(?<=\s))#+(?: |$)(.*)", re.MULTILINE)

MARKDOWN = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "{{=*/*.md")
    for path in ROOT.glob(pattern)
)
# Their tables compare five columns.
WIDE_TABLES = {"docs/comparison.md"}


def comments(path: Path) -> str:
    """The comments of a YAML or TOML file, a script or a Dockerfile."""
    return "\n".join(COMMENT.findall(path.read_text("utf-8")))


def whole(path: Path) -> str:
    """All text of a file."""
    return path.read_text("utf-8")


# What is read of each kind of file, and which files they are.
KINDS: dict[str, tuple[Callable[[Path], str], list[Path]]] = {
    "configs": (comments, sorted((TEMPLATE / "configs").rglob("*.yaml"))),
    "clusters and CI": (
        comments,
        [
            *(ROOT / ".github").rglob("*.yml"),
            *(TEMPLATE / ".github").rglob("*{%=*"),
            *TEMPLATE.glob("*gitlab-ci*"),
            *TEMPLATE.glob("clusters/*"),
        ],
    ),
    "files of the project": (
        comments,
        [
            *(TEMPLATE / name for name in ("pyproject.toml", "Dockerfile", ".env.example")),
            *TEMPLATE.glob("scripts/*"),
        ],
    ),
    "make": (whole, [ROOT / "Makefile"]),
    "prompts": (whole, [ROOT / "cookiecutter.json"]),
    "python": (whole, [*TEMPLATE.rglob("*.py"), *(ROOT / "hooks").glob("*.py")]),
}


def find_banned(text: str) -> list[str]:
    """What to change in a text, also where a phrase is wrapped."""
    text = " ".join(text.split())
    return [
        f"{match[0]!r} in {text[max(0, match.start() - 30) : match.end() + 30]!r}: write {new}"
        for old, new in BANNED.items()
        for match in old.finditer(text)
    ]


@pytest.mark.parametrize("name", MARKDOWN)
def test_pages_use_the_terms_of_the_field(name: str) -> None:
    assert find_banned((ROOT / name).read_text("utf-8")) == []


@pytest.mark.parametrize("kind", KINDS)
def test_comments_use_the_terms_of_the_field(kind: str) -> None:
    read, paths = KINDS[kind]
    assert paths
    found = {path.relative_to(ROOT).as_posix(): find_banned(read(path)) for path in paths}
    assert {name: terms for name, terms in found.items() if terms} == {}


def too_long(text: str, tables: bool = True) -> list[str]:
    """Lines above the limit, code blocks and what cannot be wrapped excepted.

    Args:
        text: of a Markdown file.
        tables: whether rows of tables count.
    """
    return [
        line
        for line in FENCED.sub("", text).splitlines()
        if len(line) > LIMIT
        and (tables or not line.startswith("|"))
        # A URL, which no line break may divide.
        and len(max(re.split(r"\s", line), key=len)) < LIMIT - 20
    ]


@pytest.mark.parametrize("name", [n for n in MARKDOWN if not n.startswith("{{=")])
def test_lines_of_pages_fit(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert too_long(text, tables=name not in WIDE_TABLES) == []


def test_lines_of_a_project_fit(bake: Bake) -> None:
    """The template's pages contain Jinja, so the lines of a generated project are measured."""
    project = bake()
    for path in project.root.glob("*.md"):
        assert too_long(path.read_text("utf-8")) == [], path.name


def test_phrases_are_found_across_lines() -> None:
    assert find_banned("a share\nof the samples") != []
    assert find_banned("Machines share one disk. It goes on.") == []
    assert too_long(f"{'word ' * 30}\n```\n{'word ' * 30}\n```\n") == ["word " * 30]
