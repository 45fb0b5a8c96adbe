"""Texts as input: files, and one that is part of Python."""

from pathlib import Path

from ..errors import UserError


def read_text(path: Path) -> str:
    """The content of a UTF-8 file, with Unix line ends and without a byte order mark.

    Raises:
        UserError: the file cannot be read, is empty, or is not UTF-8.
    """
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"There is no file {path}.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 (byte {error.start + 1}): convert it, for example with "
            "iconv -f latin1 -t utf-8."
        ) from error
    if not text:
        raise UserError(f"{path} is empty.")
    return text


def python_help() -> str:
    """The texts of Python's `help()` on topics such as "for": 465,000 characters in Python 3.11."""
    from pydoc_data.topics import topics

    return "".join(topics.values())
