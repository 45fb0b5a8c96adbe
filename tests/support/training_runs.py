"""Trains, evaluates and predicts with a baked project, as its owner does on the command line."""

import csv
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..conftest import BakedProject

# Two commands run side by side on two cores; a GPU would change the numbers.
ON_CPU = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@dataclass(frozen=True)
class TrainedRun:
    """The folder of a run and what the run printed."""

    folder: Path
    printed: subprocess.CompletedProcess[str]

    @property
    def manifest(self) -> dict[str, Any]:
        """What `run.json` holds."""
        content: dict[str, Any] = json.loads((self.folder / "run.json").read_text("utf-8"))
        return content

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Metrics of the best epoch, the last epoch and the test."""
        metrics: dict[str, dict[str, float]] = self.manifest["metrics"]
        return metrics

    @property
    def log(self) -> str:
        """The text of `run.log`."""
        return (self.folder / "run.log").read_text("utf-8")

    def checkpoint(self, name: str = "best") -> Path:
        """The file of the "best" or the "last" checkpoint."""
        return self.folder / "checkpoints" / f"{name}.ckpt"

    def saved(self, name: str = "best") -> dict[str, Any]:
        """The content of a checkpoint, read without running what is in it."""
        import torch

        content: dict[str, Any] = torch.load(self.checkpoint(name), weights_only=True)
        return content


def script(
    project: "BakedProject",
    *command: str,
    check: bool = True,
    python_path: str = "",
    is_warm: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run an entry point: `script(project, "train.py", "seed=0")`.

    Args:
        project: the project.
        command: the words after `python`.
        check: fail the test if the command fails.
        python_path: folders to import from besides.
        is_warm: whether it runs in a fork of a process that has done the heavy imports, which
            saves seconds; not for tests of the start itself.
    """
    variables = ON_CPU | ({"PYTHONPATH": python_path} if python_path else {})
    if is_warm:
        return project.run_warm(*command, check=check, **variables)
    return project.run("python", *command, check=check, **variables)


def run_all(project: "BakedProject", *commands: tuple[str, ...]) -> list[str]:
    """Run entry points: `run_all(project, ("train.py", "seed=0"), ("evaluate.py", ...))`.

    Returns:
        For each command the sentence with which it was refused, "" if it succeeded.
    """
    return [ended_with(script(project, *command, check=False)) for command in commands]


def ended_with(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of an error, "" if the command succeeded."""
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""


def train(
    project: "BakedProject", folder: Path, *options: str, python_path: str = ""
) -> TrainedRun:
    """Run train.py and return what it left."""
    place = f"hydra.run.dir={folder}"
    done = script(project, "train.py", place, *options, python_path=python_path)
    return TrainedRun(folder, done)


def evaluate(
    project: "BakedProject", checkpoint: Path, folder: Path, *options: str
) -> dict[str, float]:
    """Run evaluate.py and return the metrics it wrote."""
    script(project, "evaluate.py", f"ckpt_path={checkpoint}", f"hydra.run.dir={folder}", *options)
    report = json.loads((folder / "metrics.json").read_text("utf-8"))
    metrics: dict[str, float] = report["metrics"][report["split"]]
    return metrics


def predict(
    project: "BakedProject", checkpoint: Path, inputs: Path, folder: Path
) -> list[dict[str, str]]:
    """Run predict.py and return the rows of the table it wrote."""
    table = folder / "predictions.csv"
    script(
        project,
        "predict.py",
        f"ckpt_path={checkpoint}",
        f"input={inputs}",
        f"output={table}",
        f"hydra.run.dir={folder}",
    )
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def is_same(one: Any, other: Any) -> bool:
    """Whether two contents of checkpoints are equal to the last bit."""
    import torch

    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other)


def changed_layers(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """The layers of the network whose weights or statistics differ in two checkpoints."""
    names = [n for n in before if n.startswith("net.") and not is_same(before[n], after[n])]
    return {name.split(".")[1] for name in names}
