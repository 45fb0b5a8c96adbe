"""The engines of sweeps and the clusters that trials run on, found where their files are.

Nothing imports an engine by name. The entry `engine` of `configs/hydra/sweeper/<name>.yaml` holds
its module, and a cluster is a module `<name>_cluster` next to this file. Each can be deleted,
together with its configs.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Protocol, cast

from omegaconf import OmegaConf

from ..checks import is_integer, require
from ..errors import UserError
from ..project import project
from .figures import Figure
from .settings import Settings
from .space import Space
from .types import Next, Trial, TrialOutcome, TrialRecord, Verdict
from .workers import AnyWorkers

SUFFIX = "_cluster"


class Record(Protocol):
    """The trials of a sweep on disk."""

    def is_finished(self) -> bool:
        """Whether all trials have ended, including those of other commands on the same study."""

    def records(self) -> list[TrialRecord]:
        """All trials so far."""

    def figures(self) -> Iterable[Figure]:
        """Figures for the report that only this engine can draw."""

    def ended_by(self) -> str | None:
        """Which budget ends the sweep, as a clause; None if no budget is used up."""

    def close(self) -> None:
        """Release the study; called once at the end."""

    def remember(self, name: str, value: dict[str, Any]) -> None:
        """Store a value in the study."""

    def recall(self, name: str) -> dict[str, Any]:
        """A stored value; empty if there is none."""


class Search(Record, Protocol):
    """Proposes trials and judges them while they run."""

    def ask(self, worker: str) -> Trial | None:
        """The next trial; None if there is none to start at present."""

    def report(self, number: int, step: int, value: float) -> Verdict:
        """Record the first objective, `step` counted from 1; PRUNE if the trial is unpromising."""

    def repeat(self, number: int, first: int, last: int) -> None:
        """A resumed trial is about to repeat these reports of an earlier attempt."""

    def trained(self) -> int:
        """The number of epochs that all trials of the study have trained and reported."""

    def tell(self, number: int, outcome: TrialOutcome) -> Next:
        """Record how a trial ended, and decide whether its configuration is tried again."""

    def tick(self) -> None:
        """Called every few seconds, even while nothing happens."""


class Engine(ABC):
    """What the plan of a sweep depends on. A module of an engine has an instance, `ENGINE`.

    Attributes:
        name: the option `hydra/sweeper=<name>` selects this engine.
        sweep: the full name of the class that runs a sweep, a `Sweep`.
        cluster: the cluster that all trials run on, for engines that have no workers of their own.
        samplers: the samplers that no other engine has.
        pruners: the pruners that no other engine has.
        keeps_algorithms: a study continues only with its sampler, its pruner and its `n_trials`.
    """

    name: str
    sweep: str
    cluster: str | None = None
    samplers: Sequence[str] = ()
    pruners: Sequence[str] = ()
    keeps_algorithms: bool = False

    @abstractmethod
    def check(self, settings: Settings, space: Space, folds: int | None) -> None:
        """Find what cannot work, without slow imports.

        Raises:
            UserError: a package is missing, or a setting is invalid or not supported.
        """

    @abstractmethod
    def automatic_pruner(self, sampler: str) -> str:
        """The pruner that `hydra/sweeper/pruner=auto` selects for a search."""

    def changes_options(self, settings: Settings) -> bool:
        """Whether the options of a trial change while it trains."""
        return False

    def trial_options(self, settings: Settings) -> list[str]:
        """Options to add to the config of every trial."""
        return []


class Cluster(Protocol):
    """Machines that run trials: what a module named `<name>_cluster` consists of."""

    def connect(self, address: str | None) -> None:
        """Join the cluster.

        Raises:
            UserError: a package is missing, or the cluster cannot be joined.
        """

    def gpu_count(self) -> int:
        """The number of GPUs of all nodes."""

    def room(self, cpus: float, gpus: float) -> int:
        """How many trials of this size run at once.

        Raises:
            UserError: there is no room for a single one.
        """

    def make_workers(
        self, count: int, cpus: float, gpus: float, folder: Path, packages: Sequence[str]
    ) -> AnyWorkers:
        """Start workers, which import `packages` and write to the sweep's `folder`."""


def load_engine(module: str) -> Engine:
    """The engine of a module.

    Raises:
        UserError: there is no such module.
    """
    try:
        engine: Engine = import_module(module).ENGINE
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        names = ", ".join(engine.name for engine in installed_engines())
        raise UserError(
            f"hydra.sweeper.engine names {module}, and there is no such module: select an engine "
            f"with hydra/sweeper=<one of {names}>."
        ) from error
    return engine


def installed_engines() -> Iterator[Engine]:
    """The engines of `configs/hydra/sweeper/` whose modules exist."""
    for path in sorted((project().configs / "hydra" / "sweeper").glob("*.yaml")):
        module = OmegaConf.select(OmegaConf.load(path), "engine")
        if module is not None and _exists(module):
            yield load_engine(module)


def check_algorithms(settings: Settings) -> None:
    """Reject a sampler or a pruner that belongs to another engine.

    Raises:
        UserError: it names the engine to select.
    """
    for engine in installed_engines():
        for kind, names in (("sampler", engine.samplers), ("pruner", engine.pruners)):
            name = getattr(settings, kind).get("name")
            if name in names and engine is not load_engine(settings.engine):
                raise UserError(f"hydra/sweeper/{kind}={name} needs hydra/sweeper={engine.name}.")


def clusters() -> list[str]:
    """The names of the clusters that `hydra.sweeper.workers` may be."""
    modules = (module.name for module in iter_modules([str(Path(__file__).parent)]))
    return [name.removesuffix(SUFFIX) for name in modules if name.endswith(SUFFIX)]


def cluster_of(settings: Settings) -> Cluster | None:
    """The cluster that the trials run on; None for this machine's own workers."""
    name, _ = _cluster_and_slots(settings)
    if name is None:
        return None
    return cast(Cluster, import_module(f"{__package__}.{name}{SUFFIX}"))


def slots_of(settings: Settings) -> int | None:
    """How many trials run at once on the cluster; None for as many as there is room for."""
    return _cluster_and_slots(settings)[1]


def check_workers(settings: Settings) -> None:
    """Check `hydra.sweeper.workers` and the settings that depend on it.

    Raises:
        UserError: an invalid number, an unknown cluster, or a setting that has no effect.
    """
    value = settings.workers
    known = clusters()
    name, _ = _cluster_and_slots(settings)
    is_number = value is None or is_integer(value, 1)
    valid = ", ".join(["an integer of at least 1", *known, "or null"])
    require(is_number or name in known, "hydra.sweeper.workers", valid, value)
    if name is not None:
        if name not in known:
            engine = load_engine(settings.engine).name
            raise UserError(f"hydra/sweeper={engine} needs the cluster {name!r}: it is missing.")
        if settings.gpus is not None:
            raise UserError(
                "hydra.sweeper.gpus has no effect on a cluster, which assigns the GPUs itself: "
                "give hydra.sweeper.gpus_per_trial."
            )
        return
    hint = f"hydra.sweeper.workers={known[0]}" if known else "a cluster, and none is installed"
    for option, default in (("address", None), ("cpus_per_trial", 1)):
        if getattr(settings, option) != default:
            raise UserError(f"hydra.sweeper.{option} needs {hint}.")


def _cluster_and_slots(settings: Settings) -> tuple[str | None, int | None]:
    """The cluster's name and the number of trials at once, from a value such as `ray:32`."""
    value = settings.workers
    if isinstance(value, str):
        match = re.fullmatch(r"([^:]+)(?::([1-9]\d*))?", value)
        return (match[1], int(match[2]) if match[2] else None) if match else (value, None)
    return load_engine(settings.engine).cluster, value


def _exists(module: Any) -> bool:
    try:
        return find_spec(str(module)) is not None
    except ModuleNotFoundError:
        return False
