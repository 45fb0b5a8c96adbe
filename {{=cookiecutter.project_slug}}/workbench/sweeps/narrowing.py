"""Leaves out of a search space what has no meaning for the chosen model.

A file such as `configs/search_space/default.yaml` serves many models. An option that the command
itself varies is never left out: where it has no meaning, the command is refused.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .space import Parameter, Space, text

log = logging.getLogger(__name__)

# Groups whose files have options of their own.
GROUPS = ("callbacks", "data", "model", "optimizer", "scheduler")

# A config group that varies and one of its choices, all other groups having their first choice;
# empty where all of them have.
Place = tuple[()] | tuple[str, str]


def places(groups: Sequence[Parameter]) -> dict[Place, dict[str, Any]]:
    """The choices of every place."""
    first = {group.key: group.first() for group in groups}
    found: dict[Place, dict[str, Any]] = {(): first}
    for group in groups:
        for choice in group.points()[1:]:
            found[group.key, text(choice)] = first | {group.key: choice}
    return found


def leave_out_missing(space: Space, compose: Callable[[list[str]], DictConfig]) -> Space:
    """The space without the options that do not exist in the config.

    Args:
        space: what varies.
        compose: makes the config from options such as ["model=mlp"].
    """
    optional = [p for p in space.parameters if p.is_optional and _is_of_a_group(p)]
    if not optional:
        return space
    groups = [parameter for parameter in space.parameters if parameter.is_group]
    exists: dict[str, set[Place]] = {parameter.key: set() for parameter in optional}
    for place, chosen in places(groups).items():
        config = compose([f"{key}={choice}" for key, choice in chosen.items()])
        for key in exists:
            if _has(config, key):
                exists[key].add(place)
    return leave_out(space, groups, exists, "the config has no such option")


def leave_out(
    space: Space, groups: Sequence[Parameter], exists: Mapping[str, Set[Place]], why: str
) -> Space:
    """The space without options that exist nowhere; one that exists in some places varies there.

    Args:
        space: what varies.
        groups: those of its parameters that make the places.
        exists: for some options, the places where they exist.
        why: what is to be said of the options in the log.
    """
    gone = [key for key, known in exists.items() if not known]
    if gone:
        log.info("left out of the search space (%s): %s", why, ", ".join(gone))
    by_key = {parameter.key: parameter for parameter in space.parameters}
    conditions = {}
    for key, known in exists.items():
        found = list(_conditions(by_key[key], groups, known))
        for group, choices in found:
            log.info("%s varies with %s=%s alone (%s)", key, group, ",".join(choices), why)
        conditions[key] = tuple(found)
    return space.only_when(conditions).without(gone)


def _conditions(
    parameter: Parameter, groups: Sequence[Parameter], known: Set[Place]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The choices with which a parameter exists, where it does not with all."""
    asked = [key for key, _ in parameter.when]
    for group in groups:
        first, *others = map(text, group.points())
        choices = [first] if () in known else []
        choices += [choice for choice in others if (group.key, choice) in known]
        is_partial = 0 < len(choices) <= len(others)
        if is_partial and group.key not in asked:
            yield group.key, tuple(choices)
            if () not in known:
                return


def _is_of_a_group(parameter: Parameter) -> bool:
    group, _, option = parameter.key.partition(".")
    return group in GROUPS and bool(option) and not parameter.is_group


def _has(config: DictConfig, key: str) -> bool:
    """Whether an option exists, with whatever value."""
    path, _, name = key.rpartition(".")
    node = OmegaConf.select(config, path)
    if isinstance(node, DictConfig):
        return name in node.keys()  # noqa: SIM118 - `in` overlooks an option that is still missing
    return OmegaConf.select(config, key) is not None
