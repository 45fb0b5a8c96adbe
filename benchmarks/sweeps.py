"""What sweeps cost: start-up, trials a minute, what pruning saves, and how a study grows.

Parts can be named: `make bench SUBJECTS=sweeps:pruning`, or `sweeps:engines:ours:in_line` for
some of the engines. Every engine trains with the same options, so that ratios compare what is
around the training. All commands have one thread a process, or they would fight for the cores.
"""

import compileall
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend

from .common import ROOT, Project, baked_project, environment, print_table, spread
from .contenders.one_trial import LRS, METRIC, OPTIONS, WIDTHS
from .lcbench import lcbench

TRIALS, EPOCHS = 16, 3
STEADY_TRIALS = 120
PRUNED_TRIALS, SEEDS = 20, range(5)
SIZES = (10, 100, 1000, 5000, 10_000)
TIMED_ASKS = 15
CONTENDERS = ROOT / "build" / "contenders"
SLOWEST = 600  # seconds, after which a contender is left out
QUIET = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": ""}
WITHOUT_PRUNING = "hydra/sweeper/pruner=none"
SPACE = (
    f"optimizer.lr=tag(log,interval({LRS[0]},{LRS[1]}))",
    f"optimizer.weight_decay=tag(log,interval({LRS[0]},{LRS[1]}))",
    f"model.net.width={','.join(map(str, WIDTHS))}",
    "model.net.dropout=interval(0.0,0.5)",
)


class LeftOutError(Exception):
    """A contender cannot be measured, for the reason given."""


@dataclass(frozen=True)
class Engine:
    """A way to run the trials of a sweep.

    Attributes:
        what: in words.
        packages: what it needs beyond the project's packages.
        command: the command line, for an interpreter, a project and a new folder.
        times: how often it is measured; once only where a sweep takes minutes.
    """

    what: str
    command: Callable[[str, Path, Path], list[str]]
    packages: tuple[str, ...] = ()
    times: int = 5


def ours(python: str, project: Path, folder: Path, *options: str) -> list[str]:
    """Our own sweep, on two workers."""
    place = (f"hydra.sweep.dir={folder}", "hydra.sweeper.study_name=study")
    return [
        *(python, "train.py", "-m", "model=mlp", "trainer=cpu", "hydra.sweeper.workers=2"),
        *place,
        *options,
    ]


def ours_in_full(python: str, project: Path, folder: Path) -> list[str]:
    """Our own sweep of the comparison."""
    options = (f"trainer.max_epochs={EPOCHS}", f"hydra.sweeper.n_trials={TRIALS}", WITHOUT_PRUNING)
    return ours(python, project, folder, *options)


def contender(module: str) -> Callable[[str, Path, Path], list[str]]:
    """The command of a module of `benchmarks.contenders`."""

    def command(python: str, project: Path, folder: Path) -> list[str]:
        words = (f"benchmarks.contenders.{module}", f"{TRIALS}", f"{EPOCHS}", f"{folder}")
        return [python, "-m", *words]

    return command


def hydra_sweeper(*options: str) -> Callable[[str, Path, Path], list[str]]:
    """The command of Hydra's own Optuna sweeper."""

    def command(python: str, project: Path, folder: Path) -> list[str]:
        use_hydras_own_sweeper(project)
        words = (f"hydra.sweep.dir={folder}", f"hydra.sweeper.n_trials={TRIALS}")
        ways = ("hydra.sweeper.direction=maximize", "hydra.sweeper.n_jobs=2")
        length = f"trainer.max_epochs={EPOCHS}"
        return [python, "train.py", "-m", *OPTIONS, length, *words, *ways, *SPACE, *options]

    return command


HYDRA = (
    "hydra-core==1.4.0rc3",
    "hydra-optuna-sweeper==1.4.0rc3",
    "hydra-joblib-launcher==1.4.0rc3",
)
ENGINES = {
    "in_line": Engine("Optuna in one process, in line", contender("in_line")),
    "ours": Engine("train.py -m, with test and report", ours_in_full),
    "hydra": Engine("hydra-optuna-sweeper, one at a time", hydra_sweeper(), HYDRA, times=1),
    "joblib": Engine(
        "hydra-optuna-sweeper, joblib, 2 at once",
        hydra_sweeper("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
        HYDRA,
        times=1,
    ),
    "spawned": Engine("a process spawned per trial, 2 at once", contender("spawned"), times=1),
    "ray": Engine("Ray Tune, default", contender("ray_tune"), ("ray[tune]",), times=1),
}
# Wall time of ours may be at most so many times that of the engine.
GOALS = {"in_line": 1.0, "spawned": 1 / 8, "ray": 1 / 8}


def engines(project: Project, names: Sequence[str]) -> None:
    """The wall time of the same trials with every engine, start-up included."""
    chosen = {name: ENGINES[name] for name in names or ENGINES}
    found: dict[str, list[float]] = {}
    reasons = []
    # Compiled files are there in every run but the first; the copies take them along.
    compileall.compile_dir(project.root, quiet=1)
    for turn in range(max(engine.times for engine in chosen.values())):
        for name, engine in chosen.items():
            if turn >= engine.times or len(found.get(name, ())) < turn:
                continue
            try:
                seconds = wall_time(project, engine)
                found.setdefault(name, []).append(seconds)
            except LeftOutError as error:
                reasons.append(f"{engine.what}: left out, {error}")
    base = statistics.median(found["in_line"]) if "in_line" in found else None
    own = statistics.median(found["ours"]) if "ours" in found else None
    rows = []
    for name, measured in found.items():
        median = statistics.median(measured)
        goal = GOALS.get(name)
        met = "" if goal is None or own is None else "yes" if own <= goal * median else "NO"
        ratios = [f"{median / part:.2f}" if part else "" for part in (base, own)]
        rows.append([ENGINES[name].what, f"{len(measured)}", spread(measured, 1), *ratios, met])
    header = ["engine", "runs", "seconds", "to in line", "to ours", "goal of ours met"]
    print_table(f"{TRIALS} trials of {EPOCHS} epochs of digits, start-up included", header, rows)
    print("\n".join(reasons))


def wall_time(project: Project, engine: Engine) -> float:
    """Seconds of one sweep."""
    python = interpreter(engine.packages)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        shutil.copytree(project.root, copy)
        command = engine.command(python, copy, Path(folder) / "runs")
        start = time.perf_counter()
        run(command, copy, Path(folder))
        return time.perf_counter() - start


def run(command: Sequence[str], project: Path, home: Path) -> None:
    """Run a command in a project.

    Raises:
        LeftOutError: it failed.
    """
    path = os.pathsep.join((str(ROOT), str(project)))
    # What an engine keeps in the user's home is not to stay there.
    surroundings = os.environ | QUIET | {"PYTHONPATH": path, "HOME": str(home)}
    surroundings.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        done = subprocess.run(
            command,
            cwd=project,
            env=surroundings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SLOWEST,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LeftOutError(f"it took more than {SLOWEST} seconds") from error
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines() or ["without a word"]
        raise LeftOutError(f"it failed: {lines[-1]}")


def interpreter(packages: Sequence[str]) -> str:
    """An interpreter with these packages and otherwise those of this one.

    Raises:
        LeftOutError: they cannot be installed.
    """
    if not packages:
        return sys.executable
    folder = CONTENDERS / packages[-1].partition("[")[0].partition("=")[0]
    python = folder / "bin" / "python"
    ready = folder / ".ready"
    if not ready.is_file():
        own = ROOT / "build" / "tools" / "bin" / "uv"
        uv = str(own) if own.is_file() else shutil.which("uv")
        if uv is None:
            raise LeftOutError("there is no uv to install it with")
        frozen = folder.with_suffix(".txt")
        CONTENDERS.mkdir(parents=True, exist_ok=True)
        listed = (uv, "pip", "freeze", "--python", sys.executable)
        frozen.write_text(subprocess.run(listed, capture_output=True, text=True).stdout, "utf-8")
        install = (uv, "pip", "install", "--quiet", "--python", str(python))
        for command in (
            (uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)),
            (*install, "--requirements", str(frozen)),
            (*install, "--prerelease", "allow", *packages),
        ):
            if subprocess.run(command, capture_output=True, check=False).returncode:
                raise LeftOutError(f"{' '.join(packages)} cannot be installed")
        ready.touch()
    return str(python)


def use_hydras_own_sweeper(project: Path) -> None:
    """Take our sweeper out of a project: the names of the two are the same."""
    shutil.rmtree(project / "hydra_plugins")
    shutil.rmtree(project / "configs" / "hydra" / "sweeper")
    for file in (project / "configs").rglob("*.yaml"):
        lines = file.read_text("utf-8").splitlines(keepends=True)
        kept = [line for line in lines if "search_space:" not in line]
        file.write_text("".join(kept), "utf-8")


def steady(project: Project, names: Sequence[str]) -> None:
    """One-epoch trials a minute, from the first trial's end to the last one's."""
    options = ("trainer.max_epochs=1", f"hydra.sweeper.n_trials={STEADY_TRIALS}", WITHOUT_PRUNING)
    trials = swept(project, *options)
    ends = sorted(trial.datetime_complete for trial in trials if trial.datetime_complete)
    a_minute = 60 * (len(ends) - 1) / (ends[-1] - ends[0]).total_seconds()
    rows = [[f"{len(ends)}", f"{a_minute:.0f}", "500", "yes" if a_minute >= 500 else "NO"]]
    header = ["trials", "a minute", "at least", "met"]
    print_table("One-epoch trials on 2 workers, once they are running", header, rows)


ON_RAY = {
    "optuna": (),
    "optuna, workers=ray": ("hydra.sweeper.workers=ray:2",),
    "ray": ("hydra/sweeper=ray", "hydra/sweeper/sampler=tpe"),
}
TIMES_ON_RAY = 3
GOAL_ON_RAY = 2.5


def on_ray(project: Project, names: Sequence[str]) -> None:
    """The same sweep by our engines on Ray, whose start is not counted."""
    options = (f"trainer.max_epochs={EPOCHS}", f"hydra.sweeper.n_trials={TRIALS}", WITHOUT_PRUNING)
    whole: dict[str, list[float]] = {name: [] for name in ON_RAY}
    working: dict[str, list[float]] = {name: [] for name in ON_RAY}
    for _ in range(TIMES_ON_RAY):
        for name, engine in ON_RAY.items():
            with tempfile.TemporaryDirectory() as folder:
                command = ours(sys.executable, project.root, Path(folder), *options, *engine)
                start = time.time()
                run(command, project.root, Path(folder))
                end = time.time()
                # Written by each trial before it trains.
                configs = Path(folder).glob("study/trials/*/config.yaml")
                first = min(path.stat().st_mtime for path in configs)
            whole[name].append(end - start)
            working[name].append(end - first)
    base = statistics.median(working["optuna"])
    rows = []
    for name in ON_RAY:
        ratio = statistics.median(working[name]) / base
        met = "" if name == "optuna" else "yes" if ratio <= GOAL_ON_RAY else "NO"
        seconds = (spread(whole[name], 1), spread(working[name], 1))
        rows.append([name, *seconds, f"{ratio:.2f}", met])
    header = ["engine", "seconds", "from the first trial on", "to optuna", f"{GOAL_ON_RAY} met"]
    print_table(f"{TRIALS} trials of {EPOCHS} epochs of digits, on Ray", header, rows)


def swept(project: Project, *options: str) -> list[optuna.trial.FrozenTrial]:
    """The trials of a sweep of the project."""
    with tempfile.TemporaryDirectory() as folder:
        run(ours(sys.executable, project.root, Path(folder), *options), project.root, Path(folder))
        journal = Path(folder) / "study" / "journal.log"
        backend = JournalFileBackend(str(journal))
        storage = optuna.storages.JournalStorage(backend)
        return optuna.load_study(study_name="study", storage=storage).get_trials()


def pruning(project: Project, names: Sequence[str]) -> None:
    """The best accuracy and the epochs of all trials, with pruners and without.

    Args:
        project: the project.
        names: pruners instead of the defaults.
    """
    pruners = ("none", *(names or ("promote", "percentile")))
    best: dict[str, list[float]] = {pruner: [] for pruner in pruners}
    epochs: dict[str, list[int]] = {pruner: [] for pruner in pruners}
    for seed in SEEDS:
        for pruner in pruners:
            options = (f"seed={seed}", f"hydra.sweeper.n_trials={PRUNED_TRIALS}")
            trials = swept(project, *options, f"hydra/sweeper/pruner={pruner}")
            finished = [t for t in trials if t.state == optuna.trial.TrialState.COMPLETE]
            best[pruner].append(max(t.values[0] for t in finished))
            # The trial that resumes another one repeats its reports.
            earlier = {number for t in trials for number in t.user_attrs.get("earlier", ())}
            kept = [trial for trial in trials if trial.number not in earlier]
            epochs[pruner].append(sum(len(trial.intermediate_values) for trial in kept))
    rows = []
    for pruner in pruners:
        share = sum(epochs[pruner]) / sum(epochs["none"])
        worse = statistics.fmean(best["none"]) - statistics.fmean(best[pruner])
        met = "yes" if share <= 0.5 and worse <= 0.003 else "NO"
        row = [pruner, f"{statistics.fmean(best[pruner]):.4f}", spread(best[pruner], 4)]
        row += [f"{statistics.fmean(epochs[pruner]):.0f}", f"{share:.2f}"]
        rows.append([*row, "" if pruner == "none" else met])
    header = ["pruner", f"best {METRIC}, mean", "median", "epochs", "share", "0.003 and half: met"]
    title = f"{PRUNED_TRIALS} trials of at most 20 epochs of digits, {len(SEEDS)} seeds"
    print_table(title, header, rows)


def size(project: Project, names: Sequence[str]) -> None:
    """How long a study takes to propose and note a trial, and the memory, by its trials.

    Args:
        project: the project.
        names: numbers of trials instead of the usual ones.
    """
    rows = []
    for count in names or SIZES:
        command = (sys.executable, "-m", "benchmarks.sweeps", "grown", str(project.root))
        done = subprocess.run(
            (*command, str(count)), cwd=ROOT, capture_output=True, text=True, check=True
        )
        wall, cpu, megabytes = json.loads(done.stdout.splitlines()[-1])
        met = "yes" if statistics.median(wall) < 150 and megabytes < 400 else "NO"
        rows.append([f"{count}", spread(wall, 0), spread(cpu, 0), f"{megabytes:.0f}", met])
    header = [
        "trials in the journal",
        "ask + tell, ms",
        "CPU, ms",
        "memory, MB",
        "below 150 ms and 400 MB",
    ]
    print_table(f"A study of 8 parameters, TPE, {TIMED_ASKS} trials more", header, rows)


def measure_grown(root: Path, count: int) -> tuple[list[float], list[float], float]:
    """Milliseconds and CPU milliseconds of asks with their tells, and this process's memory, MB.

    Args:
        root: the project.
        count: trials that the study has already.
    """
    import psutil

    project = Project(root)
    records = project.library("sweeps.types")
    with tempfile.TemporaryDirectory() as folder:
        search = grown_search(project, Path(folder), count)
        wall, cpu = [], []
        for _ in range(TIMED_ASKS):
            start, cpu_start = time.perf_counter(), time.process_time()
            trial = search.ask("0")
            loss = sum(value for value in trial.params.values() if isinstance(value, float))
            search.tell(trial.number, records.TrialOutcome(records.State.FINISHED, {METRIC: loss}))
            wall.append(1000 * (time.perf_counter() - start))
            cpu.append(1000 * (time.process_time() - cpu_start))
    megabytes = psutil.Process().memory_info().rss / 1e6
    return wall, cpu, megabytes


def grown_search(project: Project, folder: Path, count: int) -> Any:
    """A search on a journal file that holds so many trials."""
    journal, search = project.library("sweeps.storage"), project.library("sweeps.optuna_search")
    space, records = project.library("sweeps.space"), project.library("sweeps.types")
    parameters = [space.Parameter(f"x{n}", low=0.0, high=1.0) for n in range(3)]
    parameters += [space.Parameter(f"log{n}", low=1e-4, high=0.1, log=True) for n in range(2)]
    parameters += [space.Parameter(f"n{n}", low=1, high=9, is_integer=True) for n in range(2)]
    parameters += [space.Parameter("choice", choices=("a", "b", "c"))]
    objectives = [records.Objective(METRIC, "max")]
    lock = journal.FileLock(folder / "study.lock")
    study = search.open_study(journal.open_journal(folder, lock), "grown", objectives)
    found = search.OptunaSearch(
        study, space.Space(tuple(parameters)), objectives, 10**6, 0, {}, lock
    )
    found.join({"name": "tpe", "n_startup_trials": 10, "group": True}, {"name": "median"}, 0)
    study.add_trials([past_trial(space.Space(tuple(parameters)), n) for n in range(count)])
    return found


def past_trial(space: Any, number: int) -> optuna.trial.FrozenTrial:
    """A finished trial as a sweep leaves it, at a random point."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number))
    asked = study.ask()
    for parameter in space.parameters:
        if parameter.choices:
            asked.suggest_categorical(parameter.key, list(parameter.by_text))
        elif parameter.is_integer:
            asked.suggest_int(parameter.key, parameter.low, parameter.high)
        else:
            asked.suggest_float(parameter.key, parameter.low, parameter.high, log=parameter.log)
    value = number % 97 / 97
    return optuna.trial.create_trial(
        values=[value],
        params=asked.params,
        distributions=asked.distributions,
        intermediate_values=dict.fromkeys((1, 2, 3), value),
        user_attrs={
            "holder": "earlier",
            "worker": "0",
            "metrics": {METRIC: value, "val/loss": 1.0, "parameters": 1e4, "seconds": 1.0},
        },
    )


PARTS = {"engines": engines, "on_ray": on_ray, "steady": steady, "pruning": pruning, "size": size}
# Only if it is named: it takes hours.
ON_REQUEST = {"lcbench": lcbench}


def main(words: Sequence[str]) -> None:
    """Measure and print: all parts, or one and what it is to be measured for."""
    if words and words[0] == "grown":
        print(json.dumps(measure_grown(Path(words[1]), int(words[2]))))
        return
    parts = PARTS | ON_REQUEST
    if words and words[0] not in parts:
        sys.exit(f"error: no part {words[0]}; there are {', '.join(parts)}.")
    with baked_project() as project:
        print(environment(), flush=True)
        for name in words[:1] or PARTS:
            parts[name](project, words[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
