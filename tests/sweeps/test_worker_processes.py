"""The processes of trials: how the sweep waits for them, and what they inherit."""

import json
import multiprocessing
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ..conftest import BakedProject
from ..support.template_package import Part

INHERITED = """
import json, os, sys
from pathlib import Path
import psutil
import demo
from workbench.sweeps.processes import start_server
from workbench.sweeps.workers import Workers, run_alone

start_server()
found = run_alone(Workers(1), Path(sys.argv[1]), os.getenv, "GLIBC_TUNABLES")
servers = psutil.Process().children(recursive=True)
started = {child.environ().get("GLIBC_TUNABLES") for child in servers}
print(json.dumps([found, os.environ.get("GLIBC_TUNABLES"), sorted(map(str, started))]))
"""

PREPARED = """
import json, logging
import torch
seed, state = torch.initial_seed(), torch.get_rng_state()
import demo
import workbench.sweeps.preload
from hydra.core.hydra_config import HydraConfig

root = logging.getLogger()
same = [torch.initial_seed() == seed, torch.equal(torch.get_rng_state(), state)]
found = [root.level, root.handlers, HydraConfig.initialized(), torch.cuda.is_initialized()]
print(json.dumps([same, found]), flush=True)
"""


def close_and_linger(line: Any, release: Any) -> None:
    """As a process that frees its memory after its last message."""
    line.close()
    release.wait()


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="processes cannot be forked"
)
def test_sweep_sleeps_until_a_process_has_ended(package: Part) -> None:
    """Otherwise it would take the core of another trial, each time that one ends."""
    module = package("sweeps.workers")
    context = multiprocessing.get_context("fork")
    (here, there), release = context.Pipe(), context.Event()
    process = context.Process(target=close_and_linger, args=(there, release))
    process.start()
    there.close()
    workers = module.Workers(1)
    workers.running[0] = module.TrialProcess(0, 0, [], process, here)
    threading.Timer(0.5, release.set).start()
    waits = 0
    while not release.is_set():
        events = list(workers.wait(timeout=60))
        waits += 1
    # Once for the end of the line, and then for that of the process.
    assert waits <= 3
    while not events:
        events = list(workers.wait(timeout=60))
    assert isinstance(events[0], module.Ended)


def test_preparations_leave_nothing_behind(demo: BakedProject) -> None:
    """Trials without a seed must not depend on them, nor write their log twice."""
    done = demo.run("python", "-c", PREPARED)
    same, found = json.loads(done.stdout.splitlines()[-1])
    assert same == [True, True]
    assert found == [30, [], False, False]  # 30 is WARNING


@pytest.mark.skipif(sys.platform != "linux", reason="an option of the GNU C library")
@pytest.mark.parametrize("own", [None, "glibc.malloc.perturb=0"])
def test_huge_pages_are_for_the_server_only(
    own: str | None, demo: BakedProject, tmp_path: Path
) -> None:
    """The commands that a trial starts keep the options of the user."""
    variables: dict[str, Any] = {} if own is None else {"GLIBC_TUNABLES": own}
    done = demo.run("python", "-c", INHERITED, str(tmp_path / "run.log"), **variables)
    in_trial, in_sweep, in_server = json.loads(done.stdout.splitlines()[-1])
    assert in_trial == in_sweep == own
    if own is None:  # the library ends its copy of the variable after the first option
        assert "glibc.malloc.hugetlb=1" in in_server
