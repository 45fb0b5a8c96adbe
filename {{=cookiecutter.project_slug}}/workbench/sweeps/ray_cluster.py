"""Trials on a Ray cluster, by `hydra.sweeper.workers=ray`: the same as on one machine, on any node.

Each slot of the cluster is an actor that has what one machine has: a fork server with all imports,
and a process for each trial. So a trial costs no import, and a crash affects no other trial. The
trials of a node that dies resume on other nodes.

An option: only `ray_tune` imports this module, so it can be deleted, alone or with that folder.
"""

import logging
import os
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import env_file
from ..errors import UserError, first_line
from ..machine import usable_cores
from ..project import project
from .plan import Base
from .processes import start_server
from .types import State, TrialOutcome, Verdict
from .workers import AnyWorkers, Ended, Progress, Workers, run_alone

log = logging.getLogger(__name__)

# Not sent to the nodes, in addition to the files in .gitignore. Only at the root: packages have
# folders of the same names.
EXCLUDED = [
    "/.env",
    "/.git/",
    "/.venv/",
    "/build/",
    "/data/",
    "/logs/",
    "/multirun/",
    "/outputs/",
]
# What a resumed trial needs of an earlier attempt, with every seed and fold: the best as well.
CHECKPOINTS = "**/checkpoints/*.ckpt"
PATIENCE = 5.0  # seconds to connect to an address
LISTEN = 1.0  # seconds between two checks for messages to a slot


@dataclass
class Slot:
    """An actor, and what is known of its node when it is ready: id, name, and shared folder."""

    actor: Any
    ready: Any
    node_id: str | None = None
    node: str | None = None
    is_shared: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether the actor has answered."""
        return self.node_id is not None


@dataclass
class RemoteTrial:
    """A running trial, and the pending call for its next events."""

    worker: int
    folder: Path
    events: Any
    started: float = field(default_factory=time.monotonic)


class RayWorkers:
    """Workers on the nodes of a cluster, with the interface of `Workers`.

    Args:
        count: the maximum number of concurrent trials.
        cpus: the cores of each.
        gpus: the GPUs of each, or a fraction of one.
        folder: of the sweep. Nodes that do not share it send each trial's folder here.
        packages: additional imports of the slots.
    """

    def __init__(
        self, count: int, cpus: float, gpus: float, folder: Path, packages: Sequence[str] = ()
    ) -> None:
        self.count = count
        self.folder = folder
        self.running: dict[int, RemoteTrial] = {}
        self._needs = {"num_cpus": cpus, "num_gpus": gpus, "scheduling_strategy": "SPREAD"}
        self._threads = max(1, int(cpus))
        self._packages = list(packages)
        folder.mkdir(parents=True, exist_ok=True)
        # Nodes on which it exists share this folder.
        self._marker = folder / f".shared-{uuid.uuid4().hex[:8]}"
        self._marker.touch()
        self._slots = [self._new_slot() for _ in range(count)]

    def free_worker(self) -> int | None:
        """The lowest number of a slot that is ready and idle."""
        busy = {running.worker for running in self.running.values()}
        ready = (number for number, slot in enumerate(self._slots) if slot.is_ready)
        return next((number for number in ready if number not in busy), None)

    def name(self, worker: int) -> str:
        """A worker's name, for the report."""
        return f"{worker} on {self._slots[worker].node}"

    def start(self, number: int, log: Path, function: Callable[..., Any], *args: Any) -> None:
        """Run a function in a new process, on any node."""
        worker = self.free_worker()
        assert worker is not None
        slot = self._slots[worker]
        # The last argument: the trial's folder, and those of its earlier attempts.
        earlier = [] if slot.is_shared else args[-1][1:]
        files = {path: _pack(path, CHECKPOINTS) for path in earlier}
        events = slot.actor.start.remote(number, log, function, args, files)
        self.running[number] = RemoteTrial(worker, log.parent, events)

    def answer(self, number: int, answer: Verdict) -> None:
        """Answer a report."""
        self._actor(number).answer.remote(number, answer)

    def kill(self, number: int, outcome: TrialOutcome) -> None:
        """Kill a process and its children, with this outcome."""
        self._actor(number).kill.remote(number, outcome)

    def wait(self, timeout: float) -> Iterator[Progress | Ended]:
        """The next events, after at most `timeout` seconds."""
        import ray

        trials = {running.events: number for number, running in self.running.items()}
        slots = {slot.ready: number for number, slot in enumerate(self._slots) if not slot.is_ready}
        refs = [*trials, *slots]
        if not refs:
            time.sleep(timeout)
            return
        ray.wait(refs, num_returns=1, timeout=timeout)
        for ref in ray.wait(refs, num_returns=len(refs), timeout=0)[0]:
            if ref in trials:
                yield from self._listen(trials[ref])
            else:
                self._welcome(slots[ref])

    def close(self) -> None:
        """Stop all slots, and leave the cluster."""
        import ray

        self._marker.unlink(missing_ok=True)
        ray.shutdown()

    def _listen(self, number: int) -> Iterator[Progress | Ended]:
        import ray

        running = self.running[number]
        try:
            events, files = ray.get(running.events)
        except ray.exceptions.RayTaskError as error:
            raise cannot_start(error) from error
        except ray.exceptions.RayError as error:
            del self.running[number]
            outcome = self._lost(running.worker, error)
            self._slots[running.worker] = self._new_slot()
            yield Ended(number, outcome)
            return
        for event in events:
            if isinstance(event, Ended):
                _unpack(files, running.folder)
                del self.running[number]
            yield event
        if number in self.running:
            running.events = self._actor(number).listen.remote()

    def _lost(self, worker: int, error: Exception) -> TrialOutcome:
        """The outcome of a trial whose slot is gone; a lost node does not count as a crash."""
        import ray

        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        slot = self._slots[worker]
        if slot.node_id not in alive or isinstance(error, ray.exceptions.ActorUnavailableError):
            # Only the connection may be lost, and the trial must not run twice.
            ray.kill(slot.actor)
            return TrialOutcome(State.STOPPED, error=f"its node {slot.node} does not answer")
        reason = first_line(error)
        return TrialOutcome(
            State.FAILED, error=f"its worker on {slot.node} died: {reason}", retry=True
        )

    def _welcome(self, worker: int) -> None:
        """A slot is ready, or has failed to start."""
        import ray

        slot = self._slots[worker]
        try:
            slot.node_id, slot.node, slot.is_shared = ray.get(slot.ready)
        except (ray.exceptions.RayTaskError, ray.exceptions.RuntimeEnvSetupError) as error:
            raise cannot_start(error) from error
        except ray.exceptions.RayError:
            # Its node died before it was ready.
            self._slots[worker] = self._new_slot()
        else:
            shares = "shares" if slot.is_shared else "does not share"
            log.info("worker %s is ready; its node %s this folder", self.name(worker), shares)

    def _new_slot(self) -> Slot:
        import ray

        kind: Any = ray.remote(RemoteWorker)
        actor = kind.options(**self._needs).remote(self._threads, self._marker, env_file.added())
        return Slot(actor, actor.hello.remote(self._packages))

    def _actor(self, number: int) -> Any:
        return self._slots[self.running[number].worker].actor


def make_workers(
    count: int, cpus: float, gpus: float, folder: Path, packages: Sequence[str]
) -> AnyWorkers:
    """Start workers, which import `packages` and write to the sweep's `folder`."""
    return RayWorkers(count, cpus, gpus, folder, packages)


class RemoteWorker:
    """One slot of the cluster, on its node: a single trial at a time.

    Args:
        threads: the number of threads of a trial.
        marker: a file in the sweep's folder, to detect whether this node shares it.
        variables: of the command's `.env`, which is not sent. Passed on like data, because Ray
            writes a runtime environment to its logs.
    """

    def __init__(self, threads: int, marker: Path, variables: Mapping[str, str]) -> None:
        for name, value in variables.items():
            os.environ.setdefault(name, value)
        self.workers = Workers(1)
        self.workers.threads = threads
        self.folder = marker.parent
        # Before any trial: Hydra creates its classes anew when it first searches for plugins, and
        # the old ones could not be pickled.
        self.config_loader = _loader()
        self.is_shared = marker.exists()
        # Folders of earlier attempts that were sent along with a trial.
        self.borrowed: list[Path] = []
        self.place = self.folder if self.is_shared else Path(tempfile.mkdtemp(prefix="sweep-"))

    def hello(self, packages: Sequence[str]) -> tuple[str, str, bool]:
        """Import everything; the node's id and name, and whether it shares the sweep's folder."""
        import ray

        start_server(packages)
        run_alone(self.workers, Path(os.devnull), os.getpid)
        node = ray.get_runtime_context().get_node_id()
        name = next(entry["NodeName"] for entry in ray.nodes() if entry["NodeID"] == node)
        return node, name, self.is_shared

    def start(
        self,
        number: int,
        log: Path,
        function: Callable[..., Any],
        args: Sequence[Any],
        files: dict[Path, dict[str, bytes]],
    ) -> tuple[list[Progress | Ended], dict[str, bytes]]:
        """Start a trial, with the checkpoints of its earlier attempts, and listen to it."""
        self.borrowed = [self._here(path) for path in files]
        for folder, packed in zip(self.borrowed, files.values(), strict=True):
            _unpack(packed, folder)
        self.begin(number, log, function, args)
        return self.listen()

    def begin(
        self, number: int, log: Path, function: Callable[..., Any], args: Sequence[Any]
    ) -> None:
        """Start a trial."""
        self.log = self._here(log)
        self.workers.start(number, self.log, function, *map(self._here, args))

    def listen(self) -> tuple[list[Progress | Ended], dict[str, bytes]]:
        """The events of the next second; with the end of a trial also its files."""
        events = list(self.workers.wait(LISTEN))
        has_ended = any(isinstance(event, Ended) for event in events)
        if self.is_shared or not has_ended:
            return events, {}
        packed = _pack(self.log.parent)
        for folder in (self.log.parent, *self.borrowed):
            shutil.rmtree(folder, ignore_errors=True)
        return events, packed

    def answer(self, number: int, answer: Verdict) -> None:
        """Answer a report."""
        self.workers.answer(number, answer)

    def kill(self, number: int, outcome: TrialOutcome) -> None:
        """End the trial."""
        if number in self.workers.running:
            self.workers.kill(number, outcome)

    def _here(self, value: Any) -> Any:
        """A value with the paths of the command's machine, for this one."""
        if isinstance(value, list):
            return [self._here(item) for item in value]
        if isinstance(value, Path):
            return self.place / value.relative_to(self.folder)
        script = str(project().root / "train.py")
        if isinstance(value, Base) and not Path(value.script).is_relative_to(project().root):
            return replace(value, config_loader=self.config_loader, script=script)
        return value


def connect(address: str | None, cores: float | None = None) -> None:
    """Join a cluster, or start one on this machine.

    Args:
        address: `auto` or `host:port`; None for this machine.
        cores: the number of cores to use on this machine; None for all.

    Raises:
        UserError: Ray is missing, or the cluster does not exist or refuses the connection.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "hydra.sweeper.workers=ray needs Ray: install it with `uv sync --extra ray` or "
            "`pip install 'ray[tune]'`."
        ) from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Slots without a GPU must not see any.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    # Relative paths must mean the same in a trial of Ray Tune.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    if address is not None and ":" in address:
        _check_answers(address)
    shipped = {"working_dir": str(project().root), "excludes": EXCLUDED}
    where = (
        {"address": address, "runtime_env": shipped}
        if address
        else {"address": "local", "num_cpus": cores or usable_cores()}
    )
    try:
        ray.init(**where, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = first_line(error)
        raise UserError(f"The Ray cluster {address} cannot be joined: {reason}.") from error
    except OSError as error:
        # Its programs are damaged or must not be run, which has nothing to do with our folders.
        raise UserError(
            f"Ray cannot be started ({error.filename}: {error.strerror}): install it again."
        ) from error


def room(cpus: float, gpus: float) -> int:
    """The number of trials of this size that fit on the cluster.

    Raises:
        UserError: none does.
    """
    import ray

    count = 0
    for node in ray.nodes():
        has = node["Resources"] if node["Alive"] else {}
        by_gpus = has.get("GPU", 0) / gpus if gpus else float("inf")
        count += int(min(has.get("CPU", 0) / cpus, by_gpus) + 1e-9)
    if count == 0:
        raise UserError(
            f"No node of the cluster has {cpus:g} cores and {gpus:g} GPUs: lower "
            "hydra.sweeper.cpus_per_trial or hydra.sweeper.gpus_per_trial."
        )
    return count


def check_shared(marker: Path) -> None:
    """Check that every node shares the sweep's folder, which contains `marker`.

    Raises:
        UserError: one does not.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    sees: Any = ray.remote(num_cpus=0)(os.path.exists)
    answers = {}
    for node in ray.nodes() if len(ray.nodes()) > 1 else []:
        if node["Alive"]:
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            answers[node["NodeName"]] = sees.options(scheduling_strategy=here).remote(str(marker))
    for name, answer in answers.items():
        if not ray.get(answer):
            raise UserError(
                f"The node {name} does not share {marker.parent}, and Ray Tune needs a folder that "
                "all nodes share: set hydra.sweep.dir to one, or use hydra/sweeper=optuna "
                "hydra.sweeper.workers=ray."
            )


def gpu_count() -> int:
    """The number of GPUs of all nodes."""
    import ray

    return int(ray.cluster_resources().get("GPU", 0))


def _check_answers(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"Nothing answers at {address}, which hydra.sweeper.address names: start the cluster "
            "with `ray start --head`, or give address=auto on one of its nodes."
        ) from error


def cannot_start(error: Exception) -> UserError:
    """The error of a slot that could not start."""
    reason = str(error).strip().splitlines()[-1]
    return UserError(f"The workers on the cluster cannot start: {reason}")


def _loader() -> Any:
    """A loader for the configs that were sent with the code."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    with initialize_config_dir(str(project().configs), version_base="1.3"):
        return GlobalHydra.instance().config_loader()


def _pack(folder: Path, pattern: str = "**/*") -> dict[str, bytes]:
    """The contents of the files in a folder, by relative paths."""
    files = (path for path in folder.glob(pattern) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _unpack(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
