"""The names of backbones, `<library>/<name>`, and what is said when one cannot be had."""

import importlib
import os
from enum import StrEnum
from types import ModuleType

from ...errors import UserError, first_line, nearest


class Library(StrEnum):
    """A library of pretrained networks."""

    TORCHVISION = "torchvision"
    TIMM = "timm"
    HF = "hf"  # transformers, whose names are those of the Hugging Face Hub or local folders


PACKAGES = {Library.TORCHVISION: "torchvision", Library.TIMM: "timm", Library.HF: "transformers"}


def parse(backbone: str) -> tuple[Library, str]:
    """Split a name such as "timm/resnet18" into the library and its own name.

    Raises:
        UserError: there is no such library, or nothing after its name.
    """
    library, _, name = str(backbone).partition("/")
    if library not in list(Library):
        raise UserError(
            f"model.backbone={backbone} does not begin with the name of a library; "
            f"{nearest(library, [f'{each}/' for each in Library])}"
        )
    if not name:
        raise UserError(f"model.backbone={backbone} names a library without a network in it.")
    return Library(library), os.path.expanduser(name)  # noqa: PTH111  # most are not paths


def import_package(library: Library) -> ModuleType:
    """The package of a library.

    Raises:
        UserError: it is not installed.
    """
    package = PACKAGES[library]
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"model.backbone={library}/... needs the package {package} ({first_line(error)}): "
            f"install it with `uv sync --extra {package}` or `pip install {package}`."
        ) from error


def unknown(library: Library, name: str, known: list[str]) -> UserError:
    """The error for a name that a library does not have."""
    return UserError(f"{PACKAGES[library]} has no network {name!r}; {nearest(name, known)}")


def not_available(
    backbone: str,
    command: str,
    error: Exception,
    instead: str = "give a file or null as model.weights",
) -> UserError:
    """The error for something that is neither in a library's cache nor can be downloaded.

    Args:
        backbone: its full name.
        command: fetches it into the cache.
        error: what the library raised.
        instead: what else the user can do.
    """
    return UserError(
        f"{backbone} is not in the cache and cannot be downloaded ({first_line(error)}): run "
        f"`{command}` with internet access, or {instead}."
    )
