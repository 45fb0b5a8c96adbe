"""The code in the documentation: taken out, put where it says, and run."""

import re
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
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
        heading = re.findall(r"^## (.*)$", before, re.MULTILINE)[-1]
        blocks.append(Block(match[1], match[2], file[1] if file else "", heading))
    return blocks


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
