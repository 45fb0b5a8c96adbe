"""Writing files so that a reader, or a crash in mid-write, never meets half of one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, partial: str | None = None) -> Iterator[Path]:
    """Yield the path of a partial file, which replaces `path` when the block ends.

    If the block raises, the partial file is removed and `path` stays as it was.

    Args:
        path: the file to write.
        partial: name of the partial file in the same folder; `<name>.partial` by default.
    """
    temporary = path.with_name(partial or f"{path.name}.partial")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write a text as UTF-8, replacing the file in one step."""
    with replacing(path) as partial:
        partial.write_text(text, "utf-8")
