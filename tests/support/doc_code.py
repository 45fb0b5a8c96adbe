"""The code in the documentation: taken out, put where it says, and run."""

import re
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
# What is typed on a command line and not a word of the text, such as `uv` alone.
PROGRAMS = "cruft export git grep make pip python ray ruff sbatch srun tensorboard uv uvx".split()
COMMAND = re.compile(rf"(?!uv run$)({'|'.join(PROGRAMS)}) .+")
SCRIPT = re.compile(r"\w+\.py .+")
OPTIONS = re.compile(r"'?[+~]*[a-z_]+([./][a-z_<>]+)*=.+")
# The file that a block belongs to ends the text before it: `my_project/models/gan.py`:
FILE = re.compile(r"`([^`\s]+)`:\s*\Z")


@dataclass(frozen=True)
class Block:
    """A block of code in a Markdown file.

    Attributes:
        language: after the backticks.
        code: the lines.
        file: path in the project, "" where none is named.
        heading: the last one of the second level before the block.
    """

    language: str
    code: str
    file: str
    heading: str


def read_blocks(path: Path) -> list[Block]:
    """Return all blocks of a Markdown file, in their order."""
    text = path.read_text(encoding="utf-8")
    blocks = []
    for match in BLOCK.finditer(text):
        before = text[: match.start()]
        file = FILE.search(before)
        headings = ["", *re.findall(r"^## (.*)$", before, re.MULTILINE)]
        blocks.append(Block(match[1], match[2], file[1] if file else "", headings[-1]))
    return blocks


def read_commands(path: Path) -> dict[str, bool]:
    """Return all commands of a Markdown file, in their order, and whether a block has them."""
    found: dict[str, bool] = {}
    for block in read_blocks(path):
        lines = block.code.splitlines()
        if block.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        elif block.language != "bash":
            continue
        found |= {re.sub(r"\s+# .*", "", line): True for line in lines if line.strip()}
    for span in read_spans(path):
        if SCRIPT.fullmatch(span):
            span = f"python {span}"
        if COMMAND.fullmatch(span):
            found.setdefault(span, False)
    return found


def read_options(path: Path) -> list[str]:
    """Return what the text of a Markdown file has as `a.b=value`, or as several of these."""
    return [span for span in read_spans(path) if OPTIONS.fullmatch(span)]


def read_spans(path: Path) -> list[str]:
    """Return all code in the text of a Markdown file, blocks left out."""
    return SPAN.findall(FENCED.sub("", path.read_text(encoding="utf-8")))


def apply_edit(text: str, edit: str) -> str:
    """Return the text after a diff without line numbers, whose other lines must be there.

    Raises:
        ValueError: a line that the diff keeps or removes is not in the text.
    """
    lines, place = text.splitlines(), 0
    for mark, line in ((entry[0], entry[1:]) for entry in edit.splitlines()):
        if mark == "+":
            lines.insert(place, line)
            place += 1
            continue
        place = lines.index(line, place)
        if mark == "-":
            del lines[place]
        else:
            place += 1
    return "\n".join(lines) + "\n"
