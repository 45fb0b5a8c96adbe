"""Errors of Hydra, OmegaConf and Lightning, explained to the user in one sentence."""

import difflib
import errno
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
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
from .project import project
from .shell import option as option_with

# A file in place of a folder, missing permissions, a full or read-only disk.
UNWRITABLE = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}

# OmegaConf puts this, after the class of the error, before the message of a resolver.
BY_RESOLVER = " raised while resolving interpolation: "


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
            return _unreadable(error.override or "", str(error))
        case MissingMandatoryValue():
            return f"{error.full_key} has no value: add {error.full_key}=... to the command."
        case OmegaConfBaseException():
            # Without the way in which OmegaConf came across it.
            raised, _, reason = first_line(error).rpartition(BY_RESOLVER)
            if raised == UserError.__name__:
                return f"{reason}."
            return f"The config value {error.full_key} is wrong: {reason.rstrip('.')}."
        case InstantiationException() if "`_target_` field" in str(error):
            return (
                "A part of the config has lost its _target_: choose a group as in hydra/sweeper=ax."
            )
        case InstantiationException():
            return _not_built(error)
        case HydraException():
            return f"{first_line(error)}."
        case ValueError() if "Config group override" in str(error):
            return (
                "A group takes the name of one of its files, as in model=cnn; model.net.width=64 "
                "sets a single value, and ~experiment leaves a group out."
            )
        case ValueError() if "`val_check_interval`" in str(error):
            return f"{first_line(error).partition('. ')[0].replace('`', '')}."
        case yaml.MarkedYAMLError() if error.problem_mark is not None:
            mark = error.problem_mark
            return f"{mark.name} cannot be read as YAML: {error.problem} (line {mark.line + 1})."
        case OSError() if error.filename and error.errno in UNWRITABLE:
            return (
                f"{error.filename} cannot be written or read ({error.strerror}): choose another "
                "folder with paths.log_dir=... or hydra.run.dir=..."
            )
        case _ if type(error).__name__ == "MisconfigurationException":
            return with_device_hint(first_line(error))
    return None


def with_device_hint(reason: str) -> str:
    """Lightning's message; if there is no such device, with a hint what to do about it."""
    no_device = "backend found" in reason or "is not available" in reason
    hint = "; trainer=auto uses what this machine has" if no_device else ""
    return f"{reason}{hint}."


def _unreadable(option: str, reason: str) -> str:
    key, equals, value = option.partition("=")
    if "Unknown function" in reason:
        return (
            f"The option {option!r} calls a function that does not exist: write choice(a,b), "
            "range(start,stop,step), interval(low,high) or tag(log,interval(low,high))."
        )
    how = "write it as key=value, without spaces"
    if option.endswith(".ckpt"):
        how = "write ckpt_path= before it"
    elif equals and value:
        # An opening quote without a closing one is not part of the value.
        quoted = option_with(key, value if value.count('"') % 2 == 0 else value.replace('"', ""))
        how = f"close the bracket or quote in its value, or put it into quotes: {quoted}"
    return f"The option {option!r} cannot be read: {how}."


def _missing_choice(error: MissingConfigException) -> str:
    group, _, choice = str(error.missing_cfg_file).rpartition("/")
    choices = [path.stem for path in (project().configs / group).glob("*.yaml")]
    if not choices:
        return f"There is no {group}={choice}, and no folder {group} in configs/."
    if not group:
        return f"There is no config {choice!r}; {nearest(choice, choices)}"
    return f"There is no {group}={choice}; {nearest(choice, choices)}"


def _wrong_key(error: ConfigCompositionException) -> str:
    message = first_line(error)
    key = message.split("'")[1] if message.count("'") >= 2 else ""
    if "--multirun" in str(error):
        comma = re.fullmatch(r"[^=]+=-?\d+,\d+", key)
        hint = ", or write decimals with a point" if comma else ""
        return f"{key} has several values: add -m to run them all{hint}."
    if varied := re.match(r"Sweeping over Hydra's .* : '([^=]+)=", message):
        return f"{varied[1]} cannot vary in a sweep, as it is a setting of Hydra: give one value."
    if again := re.search(r"Multiple values for (\w+)|(\w+) appears more than once", message):
        group = again[1] or again[2]
        return (
            f"{group} is chosen twice: write {group}=... without a + in a command, and "
            f"`override /{group}: ...` in a file."
        )
    if message.startswith("In '"):
        return _wrong_file(message)
    if not key:
        return f"{message}."
    if message.startswith("Could not append"):
        return f"{key} exists already: write {key}=... without the +."
    if value := re.match(r"Could not delete .* is (.*) and not (.*)", message):
        return f"{key} is {value[1]}, not {value[2]}: write ~{key} to remove it."
    if key in ("data.folds", "data.fold"):
        return (
            "The datamodule of this command has no cross-validation: add folds and fold to its "
            "arguments and its config, and split with fold_splits of workbench.data.splits."
        )
    known = _known_keys(key)
    if namesakes := _namesakes(key, known):
        return f"There is no option {key!r}; did you mean {namesakes[0]!r}?"
    if not difflib.get_close_matches(key, known):
        # All options would fill a screen.
        known = _beside(key, known) or {name.partition(".")[0] for name in known}
    return f"There is no option {key!r}; {nearest(key, known)}"


def _wrong_file(message: str) -> str:
    """Explain what is wrong with the defaults of a config file."""
    _, file, reason = message.split("'", 2)
    key = reason.split("'")[1] if "'" in reason else ""
    if "@" in key:
        hint = "begin it with the line: # @package _global_."
    else:
        groups = [path.name for path in project().configs.iterdir() if path.is_dir()]
        hint = nearest(key, groups)
    return f"configs/{file}.yaml cannot choose {key.partition('@')[0]!r}; {hint}"


def _namesakes(key: str, known: set[str]) -> list[str]:
    """Options whose last part was given, such as `lr` for `optimizer.lr`."""
    if "." in key:
        return []
    lasts = {name: name.rpartition(".")[2] for name in sorted(known, key=_depth)}
    close = difflib.get_close_matches(key, lasts.values(), n=1, cutoff=0.7)
    return [name for name, last in lasts.items() if [last] == close]


def _depth(name: str) -> tuple[int, str]:
    return name.count("."), name


def _beside(key: str, known: set[str]) -> set[str]:
    """The options beside the wrong one, or else those beside its parents."""
    place = key.rpartition(".")[0]
    beside = {name for name in known if place and name.rpartition(".")[0] == place}
    return beside or (_beside(place, known) if place else set())


def _known_keys(wrong: str) -> set[str]:
    """All keys of the config that the command composes without the wrong option."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    given = [word for word in sys.argv[1:] if not word.startswith("-") and wrong not in word]
    # The varied values of a sweep, or a second mistake, cannot be composed: then without options.
    for overrides in (given, []):
        GlobalHydra.instance().clear()
        with (
            suppress(HydraException),
            initialize_config_dir(str(project().configs), version_base="1.3"),
        ):
            of_hydra = wrong.startswith("hydra.") or "-m" in sys.argv
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
    """Explain the first cause that is a mistake, and name the part of the config."""
    cause = error.__cause__
    if cause is None:
        return None
    sentence = explain(cause) or _not_built(cause)
    part = re.search(r"^full_key: (\S+)$", str(error), re.MULTILINE)
    if sentence and part and not isinstance(cause, UserError | InstantiationException):
        return f"{part[1]}: {sentence}"
    return sentence
