"""Where the time goes: Lightning's profilers, with their top costs in the log.

The whole report and the traces lie in the run's folder; `configs/profiler/` chooses.
"""

import logging
import math
import re
import time
from collections import Counter, defaultdict
from contextlib import nullcontext
from pathlib import Path
from types import CodeType

import torch
from pytorch_lightning import profilers
from pytorch_lightning.profilers import Profiler
from torch.profiler import ProfilerAction

log = logging.getLogger(__name__)

SHOWN = 10
LONGEST_NAME = 90
Cost = tuple[str, float, int]  # what, seconds in all, calls


def log_top_costs(profiler: Profiler, costs: list[Cost]) -> None:
    """Write the largest costs of a stage into the log, as a short table."""
    if not costs:
        return
    top = sorted(costs, key=lambda cost: cost[1], reverse=True)[:SHOWN]
    rows = [f"{seconds:10.3f}  {calls:7d}  {shorten(what)}" for what, seconds, calls in top]
    report = Path(str(profiler.dirpath)) / profiler._prepare_filename()
    table = "\n".join([f"{'seconds':>10}  {'calls':>7}  what", *rows])
    log.info("top costs; all of them in %s\n%s", report, table)


def shorten(name: str) -> str:
    """A name without the settings that Lightning writes into those of its callbacks."""
    return re.sub(r"\{.*\}", "", name)[:LONGEST_NAME]


class NoProfiler(profilers.PassThroughProfiler):
    """Measures nothing, at less cost than Lightning's that measures nothing.

    Lightning asks for a context around every hook of every callback, and its own makes a generator
    for each: a twentieth of the time of a small network's steps.
    """

    _nothing: nullcontext[None] = nullcontext()

    def profile(self, action_name: str) -> nullcontext[None]:
        """The same empty context for every action."""
        return self._nothing


class SimpleProfiler(profilers.SimpleProfiler):
    """Seconds of every hook and every part of the training loop; inner ones count in outer ones."""

    def summary(self) -> str:
        """The whole report; the top costs go to the log."""
        durations = self.recorded_durations.items()
        log_top_costs(self, [(what, math.fsum(s), len(s)) for what, s in durations])
        return super().summary()

    def teardown(self, stage: str | None) -> None:
        """Forget the stage: the test's report is not to repeat the fit's."""
        super().teardown(stage)
        self.recorded_durations.clear()
        self.start_time = time.perf_counter()


class AdvancedProfiler(profilers.AdvancedProfiler):
    """Seconds of every Python function, by the part of the training loop that called it."""

    def summary(self) -> str:
        """The whole report; the top costs go to the log, without the functions called in turn."""
        seconds: dict[str, float] = defaultdict(float)
        calls: Counter[str] = Counter()
        for profile in self.profiled_actions.values():
            for entry in profile.getstats():
                name = name_of(entry.code)
                seconds[name] += entry.inlinetime
                calls[name] += entry.callcount
        log_top_costs(self, [(name, seconds[name], calls[name]) for name in seconds])
        return super().summary()


def name_of(code: CodeType | str) -> str:
    """Name of a function and, unless it is built in, the line where it stands."""
    if isinstance(code, str):
        return code
    return f"{code.co_name} ({Path(code.co_filename).name}:{code.co_firstlineno})"


class PyTorchProfiler(profilers.PyTorchProfiler):
    """Seconds of every operation on CPU and GPU for the first batches, and a trace of them.

    Lightning's waits for five batches of a kind, and either dies or records the whole run where
    there are fewer. This one counts batches of training and validation together.

    Args:
        dirpath: folder of the report and the trace.
        filename: part of their names.
        batches: how many are recorded; the one before them warms up.
        row_limit: operations in the report.
    """

    def __init__(self, dirpath: str, filename: str, batches: int = 10, row_limit: int = 50) -> None:
        super().__init__(
            dirpath=dirpath, filename=filename, row_limit=row_limit, on_trace_ready=self._keep
        )
        self.batches = batches
        self._report = ""
        self._costs: list[Cost] = []
        # In place of Lightning's schedule, which begins with another wait for each kind of batch.
        self._schedule = None
        self._profiler_kwargs["schedule"] = self._action

    def _action(self, batch: int) -> ProfilerAction:
        trainer = self._lightning_module.trainer if self._lightning_module else None
        first = 0 if trainer is not None and trainer.fast_dev_run else 1
        if batch < first:
            return ProfilerAction.WARMUP
        if batch < first + self.batches - 1:
            return ProfilerAction.RECORD
        if batch == first + self.batches - 1:
            return ProfilerAction.RECORD_AND_SAVE
        return ProfilerAction.NONE

    def _keep(self, recording: torch.profiler.profile) -> None:
        operations = recording.key_averages()
        self._report = operations.table(sort_by=self._sort_by_key, row_limit=self._row_limit)
        self._costs = [
            (op.key, (op.self_cpu_time_total + op.self_device_time_total) / 1e6, op.count)
            for op in operations
            # Other entries are the steps around the operations.
            if not op.key.startswith(("[pl]", "ProfilerStep"))
        ]
        trace = Path(str(self.dirpath)) / self._prepare_filename(extension=".trace.json.gz")
        trace.parent.mkdir(parents=True, exist_ok=True)
        recording.export_chrome_trace(str(trace))

    def _cache_functions_events(self) -> None:
        """Nothing: all that is needed was kept when the recording was ready."""

    def summary(self) -> str:
        """The whole report; the top costs go to the log, without the operations called in turn."""
        super().summary()  # ends a recording in progress
        log_top_costs(self, self._costs)
        report, self._report, self._costs = self._report, "", []
        return report
