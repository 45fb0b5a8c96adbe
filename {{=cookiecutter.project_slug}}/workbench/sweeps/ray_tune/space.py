"""Converts the search space and its points to those of Ray Tune, and back."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..space import Parameter, Space, text
from ..types import Value

# The key for the index of a point of a grid.
POINT = "point"


@dataclass(frozen=True)
class TuneSpace:
    """Converts points to Ray Tune's configs and back.

    A parameter with a step is represented by the number of steps, so that every algorithm keeps to
    them. A conditional parameter is in every config, but only in those points that it exists in.

    Args:
        space: what varies.
        points: all configurations of the sweep, or None if an algorithm proposes them.
        exponents: represent logarithmic parameters by their logarithm, for algorithms that only
            support linear scales.
    """

    space: Space
    points: list[dict[str, Value]] | None = None
    exponents: bool = False

    def distributions(self) -> dict[str, Any]:
        """Ray Tune's `param_space`."""
        from ray import tune

        if self.points is not None:
            return {POINT: tune.grid_search(list(range(len(self.points))))}
        return {parameter.key: self._distribution(parameter) for parameter in self.space.parameters}

    def params_of(self, config: Mapping[str, Any]) -> dict[str, Value]:
        """The point of a config, clipped to the space."""
        if self.points is not None:
            return self.points[config[POINT]]
        return self.space.sample(lambda parameter: self._value(parameter, config[parameter.key]))

    def config_of(self, params: Mapping[str, Value]) -> dict[str, Any]:
        """The config of a point, which may be incomplete."""
        keys = {parameter.key: parameter for parameter in self.space.parameters}
        return {key: self._entry(keys[key], value) for key, value in params.items()}

    def bounds(self, key: str) -> list[float]:
        """The bounds of a numeric parameter in a config."""
        (parameter,) = (p for p in self.space.parameters if p.key == key)
        if _is_counted(parameter):
            return [0, len(parameter.points()) - 1]
        return [self._entry(parameter, parameter.low), self._entry(parameter, parameter.high)]

    def inside(self, config: dict[str, Any]) -> dict[str, Any]:
        """A config that an algorithm has changed, clipped to the space."""
        values = {p.key: self._value(p, config[p.key]) for p in self.space.parameters}
        return config | self.config_of(values)

    def _distribution(self, parameter: Parameter) -> Any:
        from ray import tune

        if parameter.choices is not None:
            # As texts: 1, 1.0 and true compare equal.
            return tune.choice(list(parameter.by_text))
        low, high = self.bounds(parameter.key)
        if _is_counted(parameter):
            return tune.randint(0, round(high) + 1)
        is_log = parameter.log and not self.exponents
        if parameter.is_integer and not self.exponents:
            draw = tune.lograndint if is_log else tune.randint
            return draw(round(low), round(high) + 1)
        return (tune.loguniform if is_log else tune.uniform)(low, high)

    def _entry(self, parameter: Parameter, value: Value) -> Any:
        if parameter.choices is not None:
            return text(value)
        number = float(value)
        if _is_counted(parameter):
            assert parameter.step is not None
            return round((number - parameter.low) / parameter.step)
        if parameter.log and self.exponents:
            return math.log10(number)
        return round(number) if parameter.is_integer else number

    def _value(self, parameter: Parameter, entry: Any) -> Value:
        if parameter.choices is not None:
            # Some algorithms return NumPy's strings.
            return parameter.by_text[str(entry)]
        low, high = self.bounds(parameter.key)
        number = min(max(float(entry), low), high)
        if _is_counted(parameter):
            return parameter.points()[round(number)]
        if parameter.log and self.exponents:
            number = min(max(10**number, parameter.low), parameter.high)
        return round(number) if parameter.is_integer else number


def _is_counted(parameter: Parameter) -> bool:
    """Whether a config has the number of steps in place of the value."""
    return parameter.step is not None and not (parameter.is_integer and parameter.step == 1)
