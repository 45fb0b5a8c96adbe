"""What Hydra's, OmegaConf's and Lightning's errors mean to the person who gave the command."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from .errors import UserError, nearest

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def explain(error: BaseException) -> str | None:
    """One sentence about a mistake in the command or a config; None for anything else."""
    match error:
        case UserError():
            return str(error)
        case MissingConfigException():
            return _missing_choice(error)
        case ConfigCompositionException():
            return _wrong_key(error)
        case OverrideParseException():
            return f"The option {error.override!r} cannot be read: write it as key=value."
        case MissingMandatoryValue():
            return f"{error.full_key} has no value: add {error.full_key}=... to the command."
        case OmegaConfBaseException():
            return f"The config value {error.full_key} is wrong: {_first_line(error)}."
        case InstantiationException() if error.__cause__ is not None:
            return _not_built(error.__cause__)
        case PermissionError() | NotADirectoryError() if error.filename:
            return (
                f"{error.filename} cannot be written or read ({error.strerror}): choose another "
                "folder with paths.log_dir=... or hydra.run.dir=..."
            )
        case _ if type(error).__name__ == "MisconfigurationException":
            return f"{_first_line(error)}."
    return None


def _missing_choice(error: MissingConfigException) -> str:
    group, _, choice = str(error.missing_cfg_file).rpartition("/")
    choices = [path.stem for path in (CONFIGS / group).glob("*.yaml")]
    if not group:
        return f"There is no config {choice!r}; {nearest(choice, choices)}"
    return f"There is no {group}={choice}; {nearest(choice, choices)}"


def _wrong_key(error: ConfigCompositionException) -> str:
    message = _first_line(error)
    key = message.split("'")[1] if message.count("'") >= 2 else ""
    return f"There is no option {key!r}; {nearest(key, _known_keys(key))}" if key else message


def _known_keys(wrong: str) -> set[str]:
    """All keys of the config that the command would give without the wrong one."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    overrides = [a for a in sys.argv[1:] if not a.startswith("-") and wrong not in a]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            config = compose(Path(sys.argv[0]).stem, overrides)
    except HydraException:
        return set()  # a second mistake: the first is told without a suggestion
    return set(_keys(OmegaConf.to_container(config), ""))


def _keys(node: Any, prefix: str) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from _keys(value, f"{prefix}{key}.")


def _not_built(cause: BaseException) -> str | None:
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return explain(cause)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
