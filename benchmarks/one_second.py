"""What a sweep adds to its trials: 200 of one second on two workers, which take at least 100 s.

`make bench SUBJECTS=one_second` starts our sweeper as a user of any Hydra application does, with
its default search and with random search, and Ray Tune, if it is installed, with its own default,
random search. The trials are real processes that sleep. `one_second:trials=20` is shorter, and
`one_second:ray`, `one_second:tpe` and `one_second:random` measure one of the three.
"""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from .common import ROOT, Project, Took, baked_project, environment, print_table, time_command
from .contenders.one_second import AT_ONCE

TRIALS = 200


def install(project: Project, folder: Path) -> None:
    """Put the library and its configs where the wheel does."""
    for part in ("workbench", "hydra_plugins"):
        shutil.copytree(project.root / part, folder / part)
    configs = folder / "workbench" / "sweeps" / "configs" / "hydra" / "sweeper"
    shutil.copytree(project.root / "configs" / "hydra" / "sweeper", configs)
    shutil.copy(ROOT / "wheel" / "workbench.yaml", configs)


def ours(project: Project, sampler: str, trials: int, folder: Path) -> tuple[Took, float]:
    """A sweep: the whole command, and from the first start of a trial to the last end."""
    install(project, folder / "library")
    shutil.copy(ROOT / "benchmarks" / "contenders" / "one_second.py", folder / "app.py")
    options = [f"hydra.sweeper.n_trials={trials}", f"hydra.sweeper.workers={AT_ONCE}"]
    options += [f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.study_name=study"]
    command = (sys.executable, "app.py", "-m", "hydra/sweeper=workbench", "+x=interval(-5,5)")
    took = time_command((*command, *options), folder, {"PYTHONPATH": str(folder / "library")})
    journal = str(folder / "multirun" / "study" / "journal.log")
    storage = JournalStorage(JournalFileBackend(journal))
    done = optuna.load_study(study_name=None, storage=storage).get_trials()
    if [trial.state.name for trial in done] != ["COMPLETE"] * trials:
        sys.exit(f"error: not all of {len(done)} trials are complete.")
    starts = [trial.datetime_start or datetime.max for trial in done]
    ends = [trial.datetime_complete or datetime.min for trial in done]
    return took, (max(ends) - min(starts)).total_seconds()


def ray_tune(trials: int, folder: Path) -> tuple[Took, float]:
    """Ray Tune, with workers of usual priority: the whole command, and its `fit`."""
    module = "benchmarks.contenders.one_second"
    output = folder / "output.txt"
    script = f'exec "$0" -m {module} {trials} {folder}/ray > {output}'
    command = ("sh", "-c", script, sys.executable)
    took = time_command(command, ROOT, {"RAY_worker_niceness": "0"})
    (seconds,) = re.findall(r"^seconds: (.+)$", output.read_text("utf-8"), re.MULTILINE)
    return took, float(seconds)


def main(words: Sequence[str]) -> None:
    """Measure and print."""
    options = dict(word.split("=") for word in words if "=" in word)
    trials = int(options.get("trials", TRIALS))
    names = [word for word in words if "=" not in word] or ["tpe", "random", "ray"]
    rows = []
    with baked_project() as project:
        print(environment(), flush=True)
        for name in names:
            if name == "ray" and find_spec("ray") is None:
                print("Ray Tune is left out: ray is not installed.", flush=True)
                continue
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place)
                is_ray = name == "ray"
                took, phase = (
                    ray_tune(trials, folder) if is_ray else ours(project, name, trials, folder)
                )
            least = trials / AT_ONCE
            label = "Ray Tune, random" if is_ray else f"ours, {name}"
            row = [f"{took.wall:.1f}", f"{phase:.1f}", f"{100 * (phase / least - 1):+.1f} %"]
            rows.append([label, *row, f"{100 * (took.wall / least - 1):+.1f} %", f"{took.cpu:.1f}"])
            print(" ".join(rows[-1]), file=sys.stderr, flush=True)
    title = f"{trials} trials of one second on {AT_ONCE} workers, at least {trials / AT_ONCE:g} s"
    header = ["sweep", "command, s", "trials, s", "trials, excess", "command, excess", "CPU, s"]
    print_table(title, header, rows)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main(sys.argv[1:])
