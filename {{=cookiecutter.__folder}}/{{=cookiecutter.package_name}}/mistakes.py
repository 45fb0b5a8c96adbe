"""What Hydra's, OmegaConf's and Lightning's errors mean to the person who gave the command."""

import difflib
import errno
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
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

from .errors import UserError, first_line, nearest

# A file where a folder should be, no permission, a disk that is full or cannot be written.
UNWRITABLE = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}

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
            return f"The config value {error.full_key} is wrong: {first_line(error)}."
        case InstantiationException():
            return _not_built(error)
        case ValueError() if "Config group override" in str(error):
            return "A group takes the name of one of its files; ~experiment leaves a group out."
        case OSError() if error.errno in UNWRITABLE and error.filename:
            return (
                f"{error.filename} cannot be written or read ({error.strerror}): choose another "
                "folder with paths.log_dir=... or hydra.run.dir=..."
            )
        case _ if type(error).__name__ == "MisconfigurationException":
            return f"{first_line(error)}."
    return None


def _missing_choice(error: MissingConfigException) -> str:
    group, _, choice = str(error.missing_cfg_file).rpartition("/")
    choices = [path.stem for path in (CONFIGS / group).glob("*.yaml")]
    if not choices:
        return f"There is no {group}={choice}, and no folder {group} in configs/."
    if not group:
        return f"There is no config {choice!r}; {nearest(choice, choices)}"
    return f"There is no {group}={choice}; {nearest(choice, choices)}"


def _wrong_key(error: ConfigCompositionException) -> str:
    message = first_line(error)
    key = message.split("'")[1] if message.count("'") >= 2 else ""
    if "--multirun" in str(error):
        return f"{key} has several values: add -m to try them all."
    if not key:
        return message
    known = _known_keys(key)
    if not difflib.get_close_matches(key, known):
        # All of them would fill a screen.
        known = _beside(key, known) or {name.partition(".")[0] for name in known}
    return f"There is no option {key!r}; {nearest(key, known)}"


def _beside(key: str, known: set[str]) -> set[str]:
    """The options in the place where the wrong one was looked for."""
    place = key.rpartition(".")[0]
    return {name for name in known if place and name.rpartition(".")[0] == place}


def _known_keys(wrong: str) -> set[str]:
    """All keys of the config that the command would give without the wrong one."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    given = [word for word in sys.argv[1:] if not word.startswith("-") and wrong not in word]
    # Values that vary, and second mistakes, are no config: then the command without them.
    for overrides in (given, []):
        GlobalHydra.instance().clear()
        with suppress(HydraException), initialize_config_dir(str(CONFIGS), version_base="1.3"):
            of_hydra = wrong.startswith("hydra.")
            config = compose(Path(sys.argv[0]).stem, overrides, return_hydra_config=of_hydra)
            return set(_keys(OmegaConf.to_container(config), ""))
    return set()


def _keys(node: Any, prefix: str) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_":
                continue
            yield f"{prefix}{key}"
            yield from _keys(value, f"{prefix}{key}.")


def _not_built(error: BaseException) -> str | None:
    """What the first of the causes that is a mistake means."""
    cause = error.__cause__
    return None if cause is None else explain(cause) or _not_built(cause)
