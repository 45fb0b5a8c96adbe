"""The search space: the options that a sweep varies, in Hydra's sweep grammar.

A file such as `configs/search_space/default.yaml` serves many models, so its entries are dropped
where they have no meaning for the chosen model. An option that the command varies is never dropped:
where it has no meaning, the command is rejected.
"""

import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    IntervalSweep,
    Override,
    Quote,
    QuotedString,
    RangeSweep,
    Transformer,
)
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from ..errors import UserError, nearest
from .types import Value

log = logging.getLogger(__name__)

# Config groups whose files have options of their own.
GROUPS = ("callbacks", "data", "model", "optimizer", "scheduler")

# One varied config group and one of its choices, all other groups having their first choice; empty
# if all of them have.
Place = tuple[()] | tuple[str, str]
# Keys and values of other parameters.
Conditions = tuple[tuple[str, tuple[str, ...]], ...]
# A word that Hydra reads as a string; the exceptions are keywords.
WORD = re.compile(r"(?!(?:null|true|false|nan|inf)$)[a-z_][\w./-]*", re.I)


@dataclass(frozen=True)
class Parameter:
    """An option that a sweep varies: one of `choices`, or a number from `low` to `high`.

    Attributes:
        key: an option such as `optimizer.lr`, or a config group such as `model`.
        choices: the values to choose from; None for a number.
        low: the minimum.
        high: the maximum, inclusive.
        step: the spacing of the numbers; None for a continuous range.
        log: whether the number is sampled on a logarithmic scale.
        is_integer: whether the number is an integer.
        is_group: whether the option chooses a config file.
        when: conditions on other parameters, all of which must hold for this one to exist.
        is_optional: whether it is dropped where the model has no such option or never reads it, as
            entries of a file are.
    """

    key: str
    choices: tuple[Value, ...] | None = None
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    is_integer: bool = False
    is_group: bool = False
    when: Conditions = ()
    is_optional: bool = field(default=False, repr=False, compare=False)

    @property
    def typed(self) -> str:
        """The values of the parameter, in the grammar of the command line."""
        if self.choices is not None:
            words = ",".join(self.by_text)
            space = words if len(self.choices) > 1 else f"choice({words})"
        elif self.step is not None:
            numbers = (self.low, round(self.high + self.step, 12), self.step)
            kind = int if self.is_integer else float
            space = "range({},{},{})".format(*map(kind, numbers))
        else:
            space = f"interval({self.low:g},{self.high:g})"
            space = f"int({space})" if self.is_integer else space
            space = f"tag(log,{space})" if self.log else space
        conditions = [f" when {key}={','.join(values)}" for key, values in self.when]
        return space + " and".join(conditions)

    @property
    def by_text(self) -> dict[str, Value]:
        """The choices by their texts, which distinguish 1, 1.0 and true where == does not."""
        return {text(choice): choice for choice in self.choices or ()}

    def exists(self, params: Mapping[str, Value]) -> bool:
        """Whether the conditions hold for these values of other parameters."""
        return all(key in params and text(params[key]) in values for key, values in self.when)

    def points(self) -> list[Value]:
        """All values, in order; a UserError if the range is continuous."""
        if self.choices is not None:
            return list(self.choices)
        if self.step is None:
            raise UserError(
                f"A grid needs discrete values, and {self.key} is any number from {self.low:g} to "
                f"{self.high:g}: write {self.key}=range(start,stop,step) or a list of values."
            )
        count = round((self.high - self.low) / self.step) + 1
        values = [self.low + self.step * index for index in range(count)]
        # 0.1 + 2 * 0.1 is not exactly 0.3.
        return [round(value) if self.is_integer else round(value, 12) for value in values]

    def first(self) -> Value:
        """Some value, to try the config with."""
        if self.choices is not None:
            return self.choices[0]
        return round(self.low) if self.is_integer else self.low


@dataclass(frozen=True)
class Space:
    """All parameters, each after those that it depends on."""

    parameters: tuple[Parameter, ...]

    def sample(self, pick: Callable[[Parameter], Value]) -> dict[str, Value]:
        """A configuration: a value from `pick` for every parameter that exists."""
        params: dict[str, Value] = {}
        for parameter in self.parameters:
            if parameter.exists(params):
                params[parameter.key] = pick(parameter)
        return params

    def grid(self) -> list[dict[str, Value]]:
        """Every configuration once, the last parameter varying fastest."""
        rows = product(*(parameter.points() for parameter in self.parameters))
        points: dict[tuple[str, ...], dict[str, Value]] = {}
        for row in rows:
            values = dict(zip(self.parameters, row, strict=True))
            # Values of a parameter that does not exist give the same configuration again.
            point = self.sample(values.__getitem__)
            points.setdefault(tuple(options_of(point)), point)
        return list(points.values())

    def without(self, keys: Collection[str]) -> "Space":
        """The space without these parameters and those that depend on them."""
        left = self.parameters
        dropped = set(keys)
        while gone := {p.key for p in left if p.key in dropped or {k for k, _ in p.when} & dropped}:
            dropped |= gone
            left = tuple(p for p in left if p.key not in dropped)
        return Space(left)

    def only_when(self, conditions: Mapping[str, Conditions]) -> "Space":
        """The space with further conditions, by key of the parameter."""
        more = {p.key: replace(p, when=p.when + conditions.get(p.key, ())) for p in self.parameters}
        return Space(tuple(_in_order(more)))

    def with_texts(self, params: Mapping[str, Value]) -> dict[str, Value]:
        """A configuration with choices as texts, as studies store them."""
        choosing = {p.key for p in self.parameters if p.choices is not None}
        return {key: text(value) if key in choosing else value for key, value in params.items()}

    def with_values(self, params: Mapping[str, Value]) -> dict[str, Value]:
        """A configuration of texts with the values that they stand for."""
        known = {parameter.key: parameter.by_text for parameter in self.parameters}
        return {key: known.get(key, {}).get(text(value), value) for key, value in params.items()}


def options_of(params: Mapping[str, Value]) -> list[str]:
    """The options of a configuration, as on the command line."""
    return [f"{key}={text(value)}" for key, value in params.items()]


def is_same_point(one: Mapping[str, Value], other: Mapping[str, Value]) -> bool:
    """Whether two configurations have the same values of the same types."""
    return sorted(options_of(one)) == sorted(options_of(other))


def text(value: Value) -> str:
    """A value as text of the command line."""
    return value if isinstance(value, str) else repr(value)


def identity(word: str) -> str:
    """What Hydra reads from a word: the same for a and 'a', different for 1, 1.0, true and '1'."""
    return repr(OverridesParser.create().parse_override(f"x={word}").value())


def typed(value: Any) -> str:
    """A value in the grammar of the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return "[" + ",".join(map(typed, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{typed(key)}:{typed(entry)}" for key, entry in value.items()) + "}"
    if not isinstance(value, str):
        return repr(value)
    try:
        is_plain = bool(value) and (bool(WORD.fullmatch(value)) or identity(value) == repr(value))
    except HydraException:
        is_plain = False
    return value if is_plain else QuotedString(value, Quote.single).with_quotes()


def parse_space(
    search_space: Mapping[str, Any], arguments: list[str], config_loader: ConfigLoader
) -> tuple[Space, list[str]]:
    """Read the search spaces of the command line and of the config; the former takes precedence.

    Args:
        search_space: from `configs/search_space/`.
        arguments: all options of the command.
        config_loader: knows the config groups.

    Returns:
        The space, and the options of the command that do not vary.

    Raises:
        UserError: an invalid line, or a condition on an option that does not vary.
    """
    parser = OverridesParser.create(config_loader=config_loader)
    fixed: list[str] = []
    found: dict[str, Parameter] = {}
    given = set()
    for argument in arguments:
        override = _parse(parser, argument)
        given.add(override.key_or_group)
        if override.is_sweep_override():
            found[override.get_key_element()] = _parameter(override, argument, config_loader)
        else:
            fixed.append(argument)
    for key, entry in search_space.items():
        entry = entry if isinstance(entry, Mapping) else {"space": entry}
        if unknown := sorted(set(entry) - {"space", "when"}):
            hint = nearest(unknown[0], ["space", "when"])
            if not hint.endswith("?"):
                hint = f"write an option as one word, such as {key}.{unknown[0]}: choice(...)."
            raise UserError(f"search_space: {key} has an unknown key {unknown[0]!r}; {hint}")
        # An option of the command takes precedence over the file.
        if key in given:
            continue
        line = f"{key}={_as_grammar(entry.get('space'))}"
        override = _parse(parser, line)
        if not override.is_sweep_override():
            raise UserError(
                f"search_space: {line} has a single value: write choice(a,b), "
                "interval(low,high), tag(log,interval(low,high)) or range(start,stop,step)."
            )
        conditions = tuple(_conditions(key, entry.get("when")))
        parameter = _parameter(override, line, config_loader)
        found[key] = replace(parameter, when=conditions, is_optional=True)
    return Space(tuple(_in_order(found))), fixed


def _parse(parser: OverridesParser, line: str) -> Override:
    try:
        return parser.parse_overrides([line])[0]
    except HydraException as error:
        lines = [line for line in str(error).splitlines() if not line.startswith("See ")]
        reason = lines[-1].strip().rstrip(".")
        raise UserError(f"The option {line!r} cannot be read: {reason}.") from error


def _parameter(override: Override, line: str, config_loader: ConfigLoader) -> Parameter:
    if override.package is not None:
        raise UserError(f"{line}: a sweep cannot vary a group at another package (@).")
    key = override.get_key_element()
    value = override.value()
    is_group = bool(config_loader.get_group_options(override.key_or_group))
    if isinstance(value, IntervalSweep):
        return _interval(key, value, line)
    if isinstance(value, RangeSweep) and not value.shuffle:
        return _range(key, value, line)
    texts = override.sweep_string_iterator()
    elements: Iterator[Any] = override.sweep_iterator(transformer=Transformer.identity)
    # Without duplicates.
    choices: dict[str, Value] = {}
    for element, word in zip(elements, texts, strict=True):
        choices.setdefault(identity(word), word if is_group else _choice(element, word))
    if not choices:
        raise UserError(f"{line} matches no choice.")
    if is_group:
        known = config_loader.get_group_options(override.key_or_group)
        for choice in choices.values():
            if choice not in known:
                raise UserError(f"There is no {key}={choice}; {nearest(str(choice), known)}")
    return Parameter(key, choices=tuple(choices.values()), is_group=is_group)


def _choice(element: Any, word: str) -> Value:
    """A number, or the text of any other value."""
    if isinstance(element, bool):
        return word.lower()
    return element if isinstance(element, int | float) else word


def _interval(key: str, value: IntervalSweep, line: str) -> Parameter:
    low, high = value.start, value.end
    if low is None or high is None or low > high:
        raise UserError(f"{line}: the start of an interval must not exceed its end.")
    for tag in sorted(value.tags - {"log"}):
        raise UserError(f"{line}: unknown tag {tag!r}; the only tag is log.")
    log = "log" in value.tags
    if log and low <= 0:
        raise UserError(f"{line}: a logarithmic interval must start above 0.")
    is_integer = isinstance(low, int) and isinstance(high, int)
    step = 1.0 if is_integer and not log else None
    return Parameter(key, low=low, high=high, step=step, log=log, is_integer=is_integer)


def _range(key: str, value: RangeSweep, line: str) -> Parameter:
    start, stop, step = value.start, value.stop, value.step
    if step == 0:
        raise UserError(f"{line}: the step of a range must not be 0.")
    points = list(value.range())
    if start is None or stop is None or not points:
        raise UserError(f"{line}: this range is empty.")
    low, high = min(points), max(points)
    is_integer = all(isinstance(point, int) for point in points)
    return Parameter(key, low=low, high=high, step=abs(step), is_integer=is_integer)


def _as_grammar(entry: Any) -> str:
    if isinstance(entry, list):
        words = ",".join(map(typed, entry))
        # Unlike choice(), a list of several values may contain null.
        return words if len(entry) > 1 else f"choice({words})"
    return str(entry)


def _conditions(key: str, when: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    for condition in [] if when is None else when if isinstance(when, list) else [when]:
        other, _, values = str(condition).partition("=")
        if not values:
            raise UserError(f"search_space: {key}: write when: other_key=value, not {condition!r}.")
        yield other.strip(), tuple(value.strip() for value in values.split(","))


def _in_order(found: dict[str, Parameter]) -> Iterator[Parameter]:
    """The parameters, each after those that it depends on; otherwise in the given order."""
    for parameter in found.values():
        for key, values in parameter.when:
            if key not in found:
                raise UserError(
                    f"search_space: {parameter.key} depends on {key}, which does not vary: give it "
                    "several values, or remove `when`."
                )
            known = [text(choice) for choice in found[key].choices or ()]
            for value in values:
                if value not in known:
                    raise UserError(
                        f"search_space: {parameter.key} depends on {key}={value}, which is not a "
                        f"choice; {nearest(value, known)}"
                    )
    done: set[str] = set()
    while len(done) < len(found):
        ready = [
            parameter
            for key, parameter in found.items()
            if key not in done and all(other in done for other, _ in parameter.when)
        ]
        if not ready:
            circle = ", ".join(key for key in found if key not in done)
            raise UserError(f"search_space: these parameters depend on each other: {circle}.")
        yield from ready
        done.update(parameter.key for parameter in ready)


def places(groups: Sequence[Parameter]) -> dict[Place, dict[str, Any]]:
    """The chosen configs of every place."""
    first = {group.key: group.first() for group in groups}
    found: dict[Place, dict[str, Any]] = {(): first}
    for group in groups:
        for choice in group.points()[1:]:
            found[group.key, text(choice)] = first | {group.key: choice}
    return found


def leave_out_missing(space: Space, compose: Callable[[list[str]], DictConfig]) -> Space:
    """The space without optional parameters that do not exist in the config."""
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
    """The space without options that exist nowhere, others limited to the places where they exist.

    Args:
        space: of the command.
        groups: the config groups among its parameters.
        exists: the places where an option exists, for some of the options.
        why: the reason, for the log.
    """
    gone = [key for key, known in exists.items() if not known]
    if gone:
        log.info("dropped from the search space (%s): %s", why, ", ".join(gone))
    by_key = {parameter.key: parameter for parameter in space.parameters}
    conditions = {}
    for key, known in exists.items():
        found = list(_partial_conditions(by_key[key], groups, known))
        for group, choices in found:
            log.info("%s varies only with %s=%s (%s)", key, group, ",".join(choices), why)
        conditions[key] = tuple(found)
    return space.only_when(conditions).without(gone)


def _partial_conditions(
    parameter: Parameter, groups: Sequence[Parameter], known: Set[Place]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Conditions on groups where a parameter exists with some of the choices only."""
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
    """Whether an option exists, even if its value is null or missing."""
    path, _, name = key.rpartition(".")
    node = OmegaConf.select(config, path)
    if isinstance(node, DictConfig):
        return name in node.keys()  # noqa: SIM118 - `in` ignores missing values
    return OmegaConf.select(config, key) is not None
