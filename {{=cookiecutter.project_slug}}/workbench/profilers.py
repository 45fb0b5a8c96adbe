"""Lightning's profilers, with their top costs in the log.

The full report and the traces are written to the run's directory; `configs/profiler/` chooses.
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
from torch.autograd import DeviceType
from torch.profiler import ProfilerAction

log = logging.getLogger(__name__)

SHOWN = 10
LONGEST_NAME = 90
Cost = tuple[str, float, int]  # name, total seconds, number of calls


def log_top_costs(profiler: Profiler, costs: list[Cost]) -> None:
    """Log a short table of the largest costs of a stage."""
    if not costs:
        return
    top = sorted(costs, key=lambda cost: cost[1], reverse=True)[:SHOWN]
    rows = [f"{seconds:10.3f}  {calls:7d}  {shorten(what)}" for what, seconds, calls in top]
    report = Path(str(profiler.dirpath)) / profiler._prepare_filename()
    table = "\n".join([f"{'seconds':>10}  {'calls':>7}  what", *rows])
    log.info("top costs; the full report is %s\n%s", report, table)


def shorten(name: str) -> str:
    """A name without the arguments that Lightning includes for its callbacks."""
    return re.sub(r"\{.*\}", "", name)[:LONGEST_NAME]


class NoProfiler(profilers.PassThroughProfiler):
    """Lightning's PassThroughProfiler without its overhead.

    Lightning enters a context around every hook of every callback, and its own profiler creates a
    generator for each, which takes 5 % of the time of training a small network.
    """

    _nothing: nullcontext[None] = nullcontext()

    def profile(self, action_name: str) -> nullcontext[None]:
        """The same empty context for every action."""
        return self._nothing


class SimpleProfiler(profilers.SimpleProfiler):
    """Seconds of every hook and every part of the training loop, nested ones included."""

    def summary(self) -> str:
        """The full report; the top costs are logged."""
        durations = self.recorded_durations.items()
        log_top_costs(self, [(what, math.fsum(s), len(s)) for what, s in durations])
        return super().summary()

    def teardown(self, stage: str | None) -> None:
        """Reset: the test's report must not repeat the fit's."""
        super().teardown(stage)
        self.recorded_durations.clear()
        self.start_time = time.perf_counter()


class AdvancedProfiler(profilers.AdvancedProfiler):
    """Seconds of every Python function, grouped by the part of the training loop that calls it."""

    def summary(self) -> str:
        """The full report; the top costs are logged, each without the functions it calls."""
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
    """Name of a function and, unless it is built in, its file and line."""
    if isinstance(code, str):
        return code
    return f"{code.co_name} ({Path(code.co_filename).name}:{code.co_firstlineno})"


class PyTorchProfiler(profilers.PyTorchProfiler):
    """Seconds of every operation on CPU and GPU in the first batches, and a trace of them.

    Lightning's waits for five batches of a kind, and crashes or records the whole run if there are
    fewer. This one counts batches of training and validation together.

    Args:
        dirpath: directory of the report and the trace.
        filename: part of their names.
        batches: number of recorded batches; the one before them is for warm-up.
        row_limit: operations in the report.
    """

    def __init__(self, dirpath: str, filename: str, batches: int = 10, row_limit: int = 50) -> None:
        super().__init__(
            dirpath=dirpath, filename=filename, row_limit=row_limit, on_trace_ready=self._keep
        )
        self.batches = batches
        self._report = ""
        self._costs: list[Cost] = []
        # Replaces Lightning's schedule, which starts with a wait for each kind of batch.
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
            # The other entries enclose the operations, or are the kernels that these have started,
            # whose time is the operation's.
            if not op.key.startswith(("[pl]", "ProfilerStep")) and op.device_type == DeviceType.CPU
        ]
        trace = Path(str(self.dirpath)) / self._prepare_filename(extension=".trace.json.gz")
        trace.parent.mkdir(parents=True, exist_ok=True)
        recording.export_chrome_trace(str(trace))

    def _cache_functions_events(self) -> None:
        """Nothing: the results were stored when the recording was complete."""

    def summary(self) -> str:
        """The full report; the top costs are logged, each without the operations it calls."""
        super().summary()  # ends a recording
        log_top_costs(self, self._costs)
        report, self._report, self._costs = self._report, "", []
        return report
