"""Environment variables from the file `.env` of a project, such as keys and passwords."""

import io
import os
from pathlib import Path

from .errors import UserError

FILE = ".env"
# Byte order marks of UTF-16, which PowerShell writes.
UTF_16 = (b"\xff\xfe", b"\xfe\xff")

_added: dict[str, str] = {}


def load(root: Path) -> None:
    """Set the variables of the file that the environment does not have yet.

    Raises:
        UserError: the file exists, and python-dotenv is not installed.
    """
    path = root / FILE
    if not path.is_file():
        return
    try:
        # Imported here: most projects have no such file.
        from dotenv import load_dotenv
    except ImportError as error:
        raise UserError(
            f"{path} needs the package python-dotenv: run `uv sync` or `pip install python-dotenv`."
        ) from error
    known = set(os.environ)
    load_dotenv(stream=io.StringIO(_decode(path.read_bytes())))
    _added.update({name: os.environ[name] for name in set(os.environ) - known})


def added() -> dict[str, str]:
    """The variables of this process that were set from the file."""
    return dict(_added)


def _decode(content: bytes) -> str:
    if content.startswith(UTF_16):
        return content.decode("utf-16")
    # Other bytes reach the environment unchanged, as in a shell.
    return content.decode("utf-8-sig", "surrogateescape")
