"""How many workers one sweep serves: its real loop, study and journal with simulated workers.

On the simulated clock every worker reports once a second, and a trial sends ten reports. Measured
is the time of the sweep's own process, on the clock and on the processor: for each report, and for
each trial apart from its reports. One second divided by the time of a trial, spread over its
reports, is the number of workers that one process serves; on the clock, most of it is the wait for
the disk. `make bench SUBJECTS=scale:journal:1000` measures one storage with 1,000 workers;
`trials=2000`, `sampler=random` and `pruner=percentile` are options. Of many trials, only the last
are simulated; the study holds the others from the beginning.
"""

import heapq
import logging
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from .common import Project, Took, baked_project, environment, print_table
from .simulation import METRIC, read_options, search_class

REPORTS = 10
# Of a trial that was paused or pruned before the simulation.
FIRST_REPORTS = 3
TRIALS = 10_000
WORKERS = (10, 100, 1000)
# Trials that are simulated, beside one per worker.
SIMULATED = 200
# With databases, fewer trials are enough: they keep nothing in memory.
STORAGES = {"journal": TRIALS, "sqlite": 500, "grpc": 500}


@dataclass
class Busy:
    """A trial on a simulated worker."""

    worker: int
    repeats_to: int
    step: int = 0
    value: float = 0.0
    started: float = field(default_factory=time.monotonic)


class SimulatedWorkers:
    """Workers on a simulated clock that report once a second and end when they are told to.

    Implements the protocol `AnyWorkers` of the library.

    Args:
        project: the project.
        count: of the workers.

    Attributes:
        clock: seconds since the start.
        reports: how many were sent.
        spent: time between a report and its answer, of all reports.
    """

    def __init__(self, project: Project, count: int) -> None:
        self.count = count
        self.running: dict[int, Busy] = {}
        self.clock, self.reports, self.spent = 0.0, 0, Took(0.0, 0.0)
        self._messages = project.library("sweeps.workers")
        self._types = project.library("sweeps.types")
        self._idle = list(range(count))
        # Time and number of the trial of each event that is to come.
        self._events: list[tuple[float, int]] = []
        self._ended: dict[int, str] = {}
        # Reports of the trials that are paused.
        self._paused: dict[int, int] = {}
        self._sent = now()

    def free_worker(self) -> int | None:
        """An idle worker."""
        return self._idle[0] if self._idle else None

    def name(self, worker: int) -> str:
        """A worker's name."""
        return f"{worker}"

    def start(self, number: int, log: Path, function: Callable[..., Any], *args: Any) -> None:
        """Occupy a worker; nothing is run."""
        worker = heapq.heappop(self._idle)
        folders: Sequence[Path] = args[-1]
        repeats_to = self._paused.pop(int(folders[-1].name), 0) if len(folders) > 1 else 0
        self.running[number] = Busy(worker, repeats_to)
        # Workers do not report in step with each other.
        first = self.clock + (scattered(number) if self.clock == 0 else 1)
        heapq.heappush(self._events, (first, number))

    def answer(self, number: int, answer: Any) -> None:
        """Train for another second, repeat a report of before a pause, or end."""
        self.spent = plus(self.spent, minus(now(), self._sent))
        verdicts, busy = self._types.Verdict, self.running[number]
        if answer is verdicts.PAUSE:
            self._ended[number], self._paused[number] = "paused", busy.step
        elif answer is not verdicts.CONTINUE:
            self._ended[number] = "pruned"
        elif busy.step == REPORTS:
            self._ended[number] = "finished"
        after = 0 if number in self._ended or busy.step < busy.repeats_to else 1
        heapq.heappush(self._events, (self.clock + after, number))

    def kill(self, number: int, outcome: Any) -> None:
        """Not used: no trial is late."""

    def wait(self, timeout: float) -> Iterator[Any]:
        """The next event."""
        if not self._events:
            return
        self.clock, number = heapq.heappop(self._events)
        busy = self.running[number]
        if number in self._ended:
            outcome = self._types.TrialOutcome(
                self._types.State(self._ended.pop(number)), {METRIC: busy.value}
            )
            del self.running[number]
            heapq.heappush(self._idle, busy.worker)
            yield self._messages.Ended(number, outcome)
            return
        busy.step += 1
        busy.value = max(busy.value, scattered(REPORTS * number + busy.step))
        self.reports += 1
        self._sent = now()
        repeats_to = busy.repeats_to if busy.step <= busy.repeats_to else 0
        yield self._messages.Progress(
            number, busy.step, busy.value, busy.step == REPORTS, repeats_to
        )

    def close(self) -> None:
        """Nothing to release."""


def scattered(number: int) -> float:
    """A value from 0 to 1, far from that of the next number (the golden ratio's sequence)."""
    return number * (math.sqrt(5) - 1) / 2 % 1


def now() -> Took:
    """The present time, on both clocks."""
    return Took(time.perf_counter(), time.process_time())


def plus(one: Took, other: Took) -> Took:
    """The sum of two times."""
    return Took(one.wall + other.wall, one.cpu + other.cpu)


def minus(one: Took, other: Took) -> Took:
    """The time from the other to the one."""
    return Took(one.wall - other.wall, one.cpu - other.cpu)


@dataclass(frozen=True)
class Cost:
    """What a sweep costs.

    Attributes:
        trial: seconds for each of the last trials that others followed, apart from its reports.
        report: seconds for each report.
        megabytes: of the journal; 0 for other storages.
    """

    trial: Took
    report: Took
    megabytes: float

    def served(self, clock: str) -> float:
        """How many workers that report once a second one process serves."""
        trial, report = (getattr(took, clock) for took in (self.trial, self.report))
        return 1 / (report + trial / REPORTS)


def open_storage(project: Project, name: str, folder: Path, lock: Any, stack: ExitStack) -> Any:
    """A journal as of a sweep, an SQLite file, or such a file behind Optuna's gRPC server."""
    storage = project.library("sweeps.storage")
    if name == "journal":
        return storage.open_journal(folder, lock)
    url = f"sqlite:///{folder}/study.db"
    if name == "sqlite":
        return storage.open_database(url)
    serve = "import optuna, sys; optuna.storages.run_grpc_proxy_server(optuna.storages."
    serve += "get_storage(sys.argv[1]), host='127.0.0.1', port=int(sys.argv[2]))"
    storage.open_database(url)
    process = subprocess.Popen((sys.executable, "-c", serve, url, "13131"))
    stack.callback(process.kill)
    proxy = optuna.storages.GrpcStorageProxy(host="127.0.0.1", port=13131)
    proxy.wait_server_ready(timeout=60)
    return proxy


def make_sweep(
    project: Project,
    folder: Path,
    storage: Any,
    lock: Any,
    trials: int,
    sampler: str,
    pruner: str,
) -> Any:
    """The sweep of a command, as far as its loop needs it, with a study in this storage."""
    types = project.library("sweeps.types")
    searches = project.library("sweeps.optuna_search")
    spaces = project.library("sweeps.space")
    space = spaces.Space(
        (
            spaces.Parameter("optimizer.lr", low=1e-4, high=0.1, log=True),
            spaces.Parameter("model.net.dropout", low=0.0, high=0.5),
            spaces.Parameter("model.net.width", low=8, high=512, log=True, is_integer=True),
        )
    )
    objectives = [types.Objective(METRIC, "max")]
    study = searches.open_study(storage, "scale", objectives)
    options = read_options(project, "pruner", pruner)
    kind = search_class(project, pruner, options, REPORTS)
    search = kind(study, space, objectives, trials, 0, {}, lock)
    search.join(read_options(project, "sampler", sampler), options, 0)
    settings = SimpleNamespace(timeout=None, epochs=None, trial_timeout=None, limits={})
    plan = SimpleNamespace(
        folder=folder,
        n_trials=trials,
        settings=settings,
        objectives=objectives,
        base=SimpleNamespace(is_application=False),
        unit=types.Unit.EPOCH,
    )
    sweep = project.library("sweeps.loop").AskTellSweep(plan)
    sweep.study, sweep.trials = search, {}
    sweep.display = project.library("sweeps.display").Display("scale", METRIC, trials)
    return sweep


def add_past(study: optuna.Study, count: int, pruner: str) -> None:
    """Add trials that have ended: a quarter is complete, as with a factor of 4."""
    distributions = {
        "optimizer.lr": FloatDistribution(1e-4, 0.1, log=True),
        "model.net.dropout": FloatDistribution(0.0, 0.5),
        "model.net.width": IntDistribution(8, 512, log=True),
    }
    for number in range(count):
        is_complete = number % 4 == 0
        steps = range(1, (REPORTS if is_complete else FIRST_REPORTS) + 1)
        value = scattered(number)
        params = {"optimizer.lr": 10 ** (-4 + 3 * scattered(number + 1))}
        params |= {"model.net.dropout": scattered(number + 2) / 2}
        params |= {"model.net.width": round(8 * 64 ** scattered(number + 3))}
        attributes: dict[str, Any] = {"holder": "earlier", "metrics": {METRIC: value}}
        if not is_complete and pruner == "promote":
            attributes["paused"] = FIRST_REPORTS
        study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.COMPLETE if is_complete else TrialState.PRUNED,
                value=value,
                params=params,
                distributions=distributions,
                intermediate_values=dict.fromkeys(steps, value),
                user_attrs=attributes,
            )
        )


def measure(
    project: Project, name: str, workers: int, trials: int, sampler: str, pruner: str
) -> Cost:
    """Run a sweep of simulated trials to its end."""
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        lock = project.library("sweeps.storage").FileLock(folder / "study.lock")
        storage = open_storage(project, name, folder, lock, stack)
        sweep = make_sweep(project, folder, storage, lock, trials, sampler, pruner)
        with lock.batch():
            add_past(sweep.study.study, max(0, trials - workers - SIMULATED), pruner)
        simulated = SimulatedWorkers(project, workers)
        log = logging.FileHandler(folder / "sweep.log")
        stack.callback(log.close)
        logging.basicConfig(level=logging.INFO, handlers=[log], force=True)
        # Apart from the reports, after each trial.
        ends = [now()]
        note_end, stop = sweep.note_end, project.library("sweeps.loop").Stop.TIMEOUT

        def note(*args: Any) -> None:
            note_end(*args)
            ends.append(minus(now(), simulated.spent))
            if len(sweep.study.census) >= trials:
                # Nothing is left to ask for.
                sweep.stopped_by = stop

        sweep.note_end = note
        sweep.loop(simulated)
        last = max(1, (len(ends) - workers) // 3)
        late, reports = minus(ends[-workers - 1], ends[-workers - last - 1]), simulated.reports
        journal = folder / "journal.log"
        return Cost(
            trial=Took(late.wall / last, late.cpu / last),
            report=Took(simulated.spent.wall / reports, simulated.spent.cpu / reports),
            megabytes=journal.stat().st_size / 1e6 if journal.is_file() else 0.0,
        )


def main(words: Sequence[str]) -> None:
    """Measure and print: all storages and numbers of workers, or those that are named."""
    options = dict(word.split("=") for word in words if "=" in word)
    names = [word for word in words if word in STORAGES] or list(STORAGES)
    counts = [int(word) for word in words if word.isdigit()] or WORKERS
    sampler, pruner = options.get("sampler", "tpe"), options.get("pruner", "promote")
    with baked_project() as project:
        print(environment(), flush=True)
        rows = []
        for name in names:
            for workers in counts:
                trials = int(options.get("trials", STORAGES[name]))
                trials = max(trials, 2 * workers)
                cost = measure(project, name, workers, trials, sampler, pruner)
                times = [cost.report.cpu, cost.report.wall, cost.trial.cpu, cost.trial.wall]
                row = [name, f"{workers}", f"{trials}"]
                row += [f"{1000 * seconds:.1f}" for seconds in times]
                row += [f"{cost.served('cpu'):.0f}", f"{cost.served('wall'):.0f}"]
                rows.append([*row, f"{cost.megabytes:.0f}" if cost.megabytes else ""])
                print(" ".join(rows[-1]), file=sys.stderr, flush=True)
    header = ["storage", "workers", "trials", "CPU a report, ms", "report, ms", "CPU a trial, ms"]
    header += ["trial, ms", "workers by CPU", "workers on the clock", "journal, MB"]
    print_table(f"Simulated workers, a report a second, {sampler}, {pruner}", header, rows)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main(sys.argv[1:])
