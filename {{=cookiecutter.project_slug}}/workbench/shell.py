"""Options that users can copy, quoted for Hydra and for the shell."""

import re
import shlex
from pathlib import Path

# What Hydra reads literally; everything else needs quotes.
PLAIN = re.compile(r"[A-Za-z0-9_/.+@%:-]+")


def option(key: str, value: str | Path | list[str]) -> str:
    """An option as it is typed, such as `'ckpt_path="my runs/last.ckpt"'`."""
    text = f"[{','.join(map(as_text, value))}]" if isinstance(value, list) else as_text(value)
    return shlex.quote(f"{key}={text}")


def resume_options(ckpt_path: str) -> list[str]:
    """The options with which other processes of a DDP run, started as commands, resume as well."""
    return [f"ckpt_path={as_text(ckpt_path)}", "weights_from=null"]


def as_text(value: object) -> str:
    """A value that Hydra reads as text, quoted if it would read anything else."""
    text = str(value)
    if PLAIN.fullmatch(text) and not _is_other_type(text):
        return text
    # Backslashes are only special before a quote.
    escaped = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), text)
    return f'"{escaped}"'


def _is_other_type(value: str) -> bool:
    """Whether Hydra reads a number, a boolean or null."""
    try:
        float(value)
    except ValueError:
        return value.lower() in ("null", "true", "false")
    return True
