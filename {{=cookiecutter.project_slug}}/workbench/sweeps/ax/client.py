"""An Ax client that proposes points and prunes trials.

Every command builds it anew from the study, its only source. `ax.json` is an export for Ax's own
tools, and nothing reads it.
"""

import logging
import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UserError, first_line
from ..space import Parameter, Space, text
from ..types import Objective, State, TrialRecord, Value
from . import PRUNER, SAMPLER

if TYPE_CHECKING:
    from ax.api.client import Client
    from plotly.graph_objects import Figure as Plot

log = logging.getLogger(__name__)

# Names of metrics that Ax reads as such; it may take any other for a formula or a function.
PLAIN_METRIC = re.compile(r"(?!.*__)[A-Za-z]\w*(/\w+)+", re.ASCII)


@dataclass(frozen=True)
class Proposal:
    """A point, and the index of the trial that the client created for it."""

    index: int
    params: dict[str, Value]


class AxClient:
    """An Ax client for a study.

    Args:
        space: what varies.
        objectives: what is optimised.
        limits: metrics and the upper bound of each.
        sampler: the options of Ax as the sampler.
        pruner: the options of the pruner, which need not be Ax.
        seed: of the proposals.

    Raises:
        UserError: Ax cannot search this space for these objectives.
    """

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        limits: Mapping[str, float],
        sampler: Mapping[str, Any],
        pruner: Mapping[str, Any],
        seed: int | None,
    ) -> None:
        self.space = space
        self.objectives = objectives
        self.seed = seed
        self._names = ax_names([*(objective.metric for objective in objectives), *limits])
        # By trial numbers of the study: the client's indices, the trials that have ended for it.
        self._indices: dict[int, int] = {}
        self._told: set[int] = set()
        self._steps: set[tuple[int, int]] = set()
        self._client = make_client(space, objectives, limits, sampler, pruner, seed)

    def propose(self) -> Proposal | None:
        """A new point; None if Ax finds none, as in an exhausted space."""
        from ax.utils.common.random import with_rng_seed

        try:
            with _quiet(), with_rng_seed(self.seed):
                ((index, values),) = self._client.get_next_trials(1).items()
        except Exception as error:
            log.warning("Ax proposes no point (%s): the next one is random", first_line(error))
            return None
        return Proposal(index, self.space.sample(lambda p: _from_ax(p, values[p.key])))

    def link(self, number: int, proposal: Proposal) -> None:
        """Identify a trial of the study with a proposal."""
        self._indices[number] = proposal.index

    def withdraw(self, proposal: Proposal) -> None:
        """Abandon a proposal that no trial uses."""
        self._client.mark_trial_abandoned(proposal.index)

    def catch_up(self, records: Sequence[TrialRecord]) -> None:
        """Attach the trials of the study, including those of other commands."""
        with _quiet():
            for record in records:
                if record.number not in self._told and self._knows(record):
                    self._learn_end(record)

    def should_stop(self, number: int, step: int, value: float) -> bool:
        """Attach a value of a running trial; True if Ax prunes the trial."""
        with _quiet():
            self._learn_step(number, step, value)
            return self._client.should_stop_trial_early(self._indices[number])

    def export(self, path: Path) -> None:
        """Write a file that Ax's own tools load; readers never see an incomplete one."""
        partial = path.with_suffix(f".{os.getpid()}")
        self._client.save_to_json_file(str(partial))
        partial.replace(path)

    def analyses(self) -> Iterator[tuple[str, str, "Plot"]]:
        """Titles, captions and plots: sensitivity, slices, contours and cross-validation."""
        from ax.analysis.plotly import CrossValidationPlot, PlotlyAnalysisCard, TopSurfacesAnalysis

        names = [self._names[objective.metric] for objective in self.objectives]
        wanted = [TopSurfacesAnalysis(metric_name=name) for name in names]
        with _quiet():
            cards = self._client.compute_analyses([*wanted, CrossValidationPlot()], display=False)
        for card in cards:
            for leaf in card.flatten():
                if isinstance(leaf, PlotlyAnalysisCard):
                    yield self._readable(leaf.title), leaf.subtitle, leaf.get_figure()

    def _readable(self, title: str) -> str:
        """A title with the metrics' own names."""
        for metric, name in self._names.items():
            title = title.replace(name, metric)
        return title

    def _knows(self, record: TrialRecord) -> bool:
        """Whether the client has this trial; one whose point is complete is attached."""
        if record.number not in self._indices:
            if record.state is State.WAITING or not self._is_whole(record.params):
                return False
            values = {
                p.key: _to_ax(p, record.params.get(p.key, p.first())) for p in self.space.parameters
            }
            self._indices[record.number] = self._client.attach_trial(values)
        return True

    def _learn_end(self, record: TrialRecord) -> None:
        if record.state is State.RUNNING:
            return
        index = self._indices[record.number]
        for step, value in record.steps.items():
            self._learn_step(record.number, step, value)
        if record.state is State.FINISHED:
            values = zip(self.objectives, record.values, strict=True)
            metrics = record.metrics | {objective.metric: value for objective, value in values}
            known = {
                self._names[name]: metrics[name] for name in sorted(self._names.keys() & metrics)
            }
            self._client.complete_trial(index, known)
        elif record.state is State.PRUNED and record.steps:
            self._client.mark_trial_early_stopped(index)
        else:
            # A failed trial could be proposed again, and would fail again.
            self._client.mark_trial_abandoned(index)
        self._told.add(record.number)

    def _learn_step(self, number: int, step: int, value: float) -> None:
        # A trial that resumes from a checkpoint reports its earlier epochs again.
        if (number, step) not in self._steps and math.isfinite(value):
            self._steps.add((number, step))
            data = {self._names[self.objectives[0].metric]: value}
            self._client.attach_data(self._indices[number], data, progression=step)

    def _is_whole(self, params: Mapping[str, Value]) -> bool:
        """Whether every parameter that exists has its value."""
        return all(p.key in params for p in self.space.parameters if p.exists(params))


def make_client(
    space: Space,
    objectives: Sequence[Objective],
    limits: Mapping[str, float],
    sampler: Mapping[str, Any],
    pruner: Mapping[str, Any],
    seed: int | None,
) -> "Client":
    """A new Ax client; the arguments are those of `AxClient`.

    Raises:
        UserError: Ax cannot search this space for these objectives.
    """
    load_ax()
    from ax.api.client import Client

    client, sampler = Client(), SAMPLER | dict(sampler)
    signs = {"max": "", "min": "-"}
    names = ax_names([*(objective.metric for objective in objectives), *limits])
    try:
        with _quiet():
            client.configure_experiment(
                [_config(parameter) for parameter in space.parameters],
                parameter_constraints=sampler["parameter_constraints"],
            )
            client.configure_optimization(
                ", ".join(
                    signs[objective.mode] + names[objective.metric] for objective in objectives
                ),
                [f"{names[metric]} <= {limit}" for metric, limit in limits.items()],
            )
            client.configure_generation_strategy(
                method=sampler["method"],
                initialization_budget=sampler["initialization_budget"],
                initialization_random_seed=seed,
                # Many workers must not wait for the first trials to end.
                allow_exceeding_initialization_budget=True,
            )
            _set_early_stopping(client, names[objectives[0].metric], pruner)
    except Exception as error:
        raise UserError(f"Ax does not accept this search: {first_line(error)}.") from error
    return client


def ax_names(metrics: Iterable[str]) -> dict[str, str]:
    """Names for the metrics that Ax, which parses formulas of them, does not misread."""
    names: dict[str, str] = {}
    for metric in metrics:
        word = re.sub(r"[\W_]+", "_", metric.encode("ascii", "replace").decode()).strip("_")
        name = metric if PLAIN_METRIC.fullmatch(metric) else f"metric/{word or 'x'}"
        while name in names.values() and metric not in names:
            name += "x"
        names.setdefault(metric, name)
    return names


def _set_early_stopping(client: "Client", metric: str, pruner: Mapping[str, Any]) -> None:
    """Let the client prune trials, if it is the pruner."""
    from ax.early_stopping.strategies import PercentileEarlyStoppingStrategy

    if pruner["name"] != "ax":
        return
    options = {name: value for name, value in (PRUNER | dict(pruner)).items() if name != "name"}
    # Without the metric, nothing would ever be stopped.
    strategy = PercentileEarlyStoppingStrategy(metric_signatures=[metric], **options)
    client.set_early_stopping_strategy(strategy)


def _config(parameter: Parameter) -> Any:
    """Ax's config of a parameter."""
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    values = _values(parameter)
    if values is None:
        return RangeParameterConfig(
            parameter.key,
            bounds=(parameter.low, parameter.high),
            parameter_type="int" if parameter.is_integer else "float",
            scaling="log" if parameter.log else "linear",
        )
    kind: Any = type(values[0]).__name__
    return ChoiceParameterConfig(parameter.key, values, kind, is_ordered=kind != "str")


def _values(parameter: Parameter) -> list[Any] | None:
    """The choices, of one type; None if the parameter is an interval."""
    points: list[Value]
    if parameter.choices is not None:
        points = list(parameter.choices)
    elif parameter.low == parameter.high:
        points = [parameter.first()]
    elif parameter.step is None or (parameter.is_integer and parameter.step == 1):
        return None
    else:
        points = parameter.points()
    # 1 and 1.0 are two choices, and one number.
    if any(isinstance(point, str) for point in points) or len(set(points)) < len(points):
        return [text(point) for point in points]
    kinds = {type(point) for point in points}
    return points if len(kinds) == 1 else [float(point) for point in points]


def _to_ax(parameter: Parameter, value: Value) -> Any:
    values = _values(parameter)
    if values is None:
        return value
    if isinstance(values[0], str):
        return text(value)
    assert not isinstance(value, str)
    return min(values, key=lambda known: abs(known - value))


def _from_ax(parameter: Parameter, value: Any) -> Value:
    values = _values(parameter)
    if values is None:
        # A logarithm and its inverse may exceed the bounds by a rounding error.
        number = min(max(value, parameter.low), parameter.high)
        return round(number) if parameter.is_integer else float(number)
    points = parameter.choices or values
    return points[values.index(_to_ax(parameter, value))]


def load_ax() -> None:
    """Import Ax, which takes seconds, and keep its log of every trial off the console."""
    # It logs the version of SQLAlchemy on import.
    logging.getLogger("ax.storage.sqa_store.with_db_settings_base").disabled = True
    with _quiet():
        import ax.api.client  # noqa: F401
    logging.getLogger("ax").handlers = [logging.NullHandler()]


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the deprecation warnings of Ax's dependencies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
