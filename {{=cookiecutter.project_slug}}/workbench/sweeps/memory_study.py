"""Records as an Optuna study in memory, whatever engine they come from."""

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .space import Parameter, Space, text
from .types import Objective, TrialRecord, Value

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution


def label(name: str) -> str:
    """A text as it shall stand in a figure, where plotly would read tags."""
    return html.escape(name, quote=False)


def make_study(
    records: Sequence[TrialRecord],
    objectives: Sequence[Objective],
    space: Space,
) -> "Study":
    """An Optuna study in memory, of finished trials."""
    import optuna
    from optuna.trial import TrialState, create_trial

    study = optuna.create_study(
        directions=["minimize" if o.mode == "min" else "maximize" for o in objectives]
    )
    study.set_metric_names([label(objective.metric) for objective in objectives])
    known = {parameter.key: parameter for parameter in space.parameters}
    values: dict[str, list[Value]] = {}
    for record in records:
        for key, value in record.params.items():
            values.setdefault(key, []).append(value)
    ranges = {key: _range(known.get(key), found) for key, found in values.items()}
    by_number = {record.number: record for record in records}
    for number in range(max(by_number, default=-1) + 1):
        if number in by_number:
            record = by_number[number]
            trial = create_trial(
                values=record.values,
                params={label(k): _choice(ranges[k], v) for k, v in record.params.items()},
                distributions={label(key): ranges[key] for key in record.params},
                constraints=record.constraints,
            )
        else:
            # Optuna numbers trials by itself: one that is not drawn still takes its place.
            trial = create_trial(state=TrialState.FAIL)
        study.add_trial(trial)
    return study


def _range(parameter: Parameter | None, values: Sequence[Value]) -> "BaseDistribution":
    """What a parameter varied over; trials from elsewhere may lie outside of the space."""
    from optuna import distributions

    if (parameter and parameter.choices) or any(isinstance(value, str) for value in values):
        known = [*(parameter.choices or () if parameter else ()), *values]
        # 1 and 1.0 are two choices, and one number.
        is_ambiguous = len(set(known)) < len(set(map(text, known)))
        if is_ambiguous or any(isinstance(value, str) for value in known):
            known = [label(text(value)) for value in known]
        return distributions.CategoricalDistribution(tuple(dict.fromkeys(known)))
    numbers = [value for value in values if not isinstance(value, str)]
    ends = [*numbers, *((parameter.low, parameter.high) if parameter else ())]
    low, high = min(ends), max(ends)
    is_log = parameter is not None and parameter.log and low > 0
    if all(isinstance(number, int) for number in numbers):
        return distributions.IntDistribution(int(low), int(high), log=is_log)
    return distributions.FloatDistribution(low, high, log=is_log)


def _choice(distribution: "BaseDistribution", value: Value) -> Value:
    """A value as its distribution has it."""
    choices = getattr(distribution, "choices", (0,))
    return label(text(value)) if isinstance(choices[0], str) else value
