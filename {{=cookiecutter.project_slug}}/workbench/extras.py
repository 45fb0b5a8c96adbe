"""Packages that only some commands need."""

from importlib.util import find_spec

from .errors import UserError

# What the extras of pyproject.toml bring that is imported here.
PACKAGES = {
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "serve": ("fastapi", "uvicorn"),
}


def check_extra(script: str, extra: str) -> None:
    """Refuse a command whose packages are missing, before anything heavy is imported.

    Raises:
        UserError: at least one of them is not installed.
    """
    missing = [name for name in PACKAGES[extra] if find_spec(name) is None]
    if missing:
        raise UserError(
            f"{script} needs {', '.join(missing)}: install what is missing with "
            f"`uv sync --extra {extra}` or `pip install {' '.join(missing)}`."
        )
