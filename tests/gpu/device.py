"""Runs commands of a project on the GPU, in forks of a process that has not initialized CUDA."""

import atexit
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from types import MappingProxyType
from typing import Any

from ..conftest import BakedProject, own_environment, passed
from ..support.sweeps import Swept, sweep_command
from ..support.training_runs import TrainedRun, is_same
from ..support.warm_client import WarmServer

# GPU_TESTS_DEVICE=cpu tries on any machine what these tests do, except what needs CUDA.
DEVICE = os.environ.get("GPU_TESTS_DEVICE") or (
    "cuda" if Path("/dev/nvidiactl").exists() else "none"
)
IS_GPU = DEVICE == "cuda"
TRAINER = "trainer=gpu" if IS_GPU else "trainer=cpu"
# Modules that the commands import: callbacks and data.
PARTS = Path(__file__).resolve().parent / "parts"
SECONDS = 120.0 if IS_GPU else 900.0  # for one command


NO_MORE: Mapping[str, str] = MappingProxyType({})
# For a command that is to find no GPU.
HIDDEN: Mapping[str, str] = MappingProxyType({"CUDA_VISIBLE_DEVICES": ""})


def variables(more: Mapping[str, str] = NO_MORE) -> dict[str, str]:
    """The environment of a command; unlike in other tests, PYTHONPATH holds needed packages."""
    places = [str(PARTS), os.environ.get("PYTHONPATH", "")]
    given = own_environment() | {
        "OMP_NUM_THREADS": os.environ.get("GPU_TESTS_THREADS", "2"),
        "PYTHONPATH": os.pathsep.join(filter(None, places)),
    }
    return given | dict(NO_MORE if IS_GPU else HIDDEN) | dict(more)


SERVER = WarmServer(variables(), imports_projects=True)
atexit.register(SERVER.close)


def command(
    project: BakedProject, *words: str, check: bool = True, more: Mapping[str, str] = NO_MORE
) -> "CompletedProcess[str]":
    """Run a script of the project, or `-c code`.

    Args:
        project: the project.
        words: those after `python`.
        check: fail the test if the command fails.
        more: further environment variables.
    """
    done = SERVER.run(
        words, project.root, variables(dict(more) | {"PWD": str(project.root)}), SECONDS
    )
    return passed(done) if check else done


def train(
    project: BakedProject,
    folder: Path,
    *options: str,
    check: bool = True,
    more: Mapping[str, str] = NO_MORE,
) -> TrainedRun:
    """Run train.py on the GPU and return what it left."""
    words = ("train.py", f"hydra.run.dir={folder}", TRAINER, *options)
    return TrainedRun(folder, command(project, *words, check=check, more=more))


def evaluate(
    project: BakedProject,
    run: TrainedRun,
    folder: Path,
    *options: str,
    more: Mapping[str, str] = NO_MORE,
) -> dict[str, float]:
    """The metrics that evaluate.py writes."""
    words = ("evaluate.py", f"ckpt_path={run.checkpoint()}", f"hydra.run.dir={folder}", *options)
    command(project, *words, more=more)
    found: dict[str, float] = json.loads((folder / "metrics.json").read_text("utf-8"))["metrics"][
        "test"
    ]
    return found


def sweep(project: BakedProject, folder: Path, *options: str, check: bool = True) -> Swept:
    """Run a sweep on the GPU to its end."""
    done = command(project, *sweep_command(folder, TRAINER, *options), check=check)
    return Swept(folder, done.stdout + done.stderr)


@dataclass(frozen=True)
class Interrupted:
    """The same training in one go, and interrupted and resumed."""

    whole: TrainedRun
    resumed: TrainedRun

    def differences(self) -> list[str]:
        """The parts of the two last checkpoints that are not equal to the last bit."""
        one, other = self.whole.saved("last"), self.resumed.saved("last")
        parts = ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers")
        different = [part for part in parts if not is_same(one[part], other[part])]
        return different + [
            f"metrics of {part}"
            for part, metrics in self.whole.metrics.items()
            if metrics != self.resumed.metrics.get(part)
        ]


def interrupt(project: BakedProject, folder: Path, batch: int, *options: str) -> Interrupted:
    """Train in one go; then interrupt by Ctrl-C at a batch and resume elsewhere."""
    whole = train(project, folder / "whole", *options)
    send = f"+callbacks.send={{_target_:gpu_parts.Interrupt,batch:{batch}}}"
    first = train(project, folder / "first", *options, send, check=False)
    assert first.printed.returncode == 130, first.printed.stdout + first.printed.stderr
    steps, planned = (run.saved("last")["global_step"] for run in (first, whole))
    assert 0 < steps < planned
    resumed = train(project, folder / "resumed", *options, f"ckpt_path={first.checkpoint('last')}")
    return Interrupted(whole, resumed)


def json_of(done: "CompletedProcess[str]") -> Any:
    """What the last line of the output says."""
    return json.loads(done.stdout.strip().splitlines()[-1])
