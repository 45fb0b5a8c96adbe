"""Which sampler and pruner find the best model for a number of epochs, on the LCBench surrogate.

`make bench SUBJECTS=sweeps:lcbench LCBENCH=<folder>` runs the project's own search with simulated
workers (see `simulation`) on the curves of a network with seven hyperparameters on 34 data sets
(Zimmer et al., 2021; the surrogate is that of YAHPO Gym, Pfisterer et al., 2022). The folder holds
its `model.onnx` and `encoding.json`.

The regret is the distance to the best accuracy known for a data set, in points of validation
accuracy. Whatever is measured is kept in build/lcbench/cells*.csv, from which an interrupted run
continues: delete these files after a change to the search. Options follow the name, such as
`sweeps:lcbench:tasks=even:seeds=2:workers=1:epochs=2000:methods=tpe+promote,random+none`; a method
is a sampler and a pruner by the names of their config files, ray/ before those of Ray Tune's
engine, or optuna, for Optuna's defaults. `part=1/4` measures a quarter of the sweeps, so that four
processes share the work; a command without it then shows all of them.
"""

import csv
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

from .common import ROOT, Project, print_table
from .regret_plot import draw
from .simulation import OptunaDefaults, OwnSearch, Tuner, simulate

FOLDER = ROOT / "build" / "lcbench"
LENGTH = 50  # epochs of a complete training
# Total numbers of epochs after which the best value is kept, and those of the table.
KEPT = (50, 100, 150, 250, 350, 500, 700, 1000, 1400, 2000, 2800, 4000)
SHOWN = (250, 500, 1000, 2000, 4000)
TARGETS = {500: 6.0, 1000: 4.2, 2000: 2.8}
# The largest ratio of the regret with several workers to that with one.
LARGEST_RATIO = 1.1
RANDOM_CONFIGURATIONS = 1500
# Without Ax, which takes hours, wilcoxon, which compares the seeds of a configuration, threshold,
# which needs a limit, and PBT and PB2, which do not search for a configuration.
METHODS = (
    "tpe+promote",
    "random+promote",
    "gp+promote",
    "tpe+none",
    "tpe+percentile",
    "tpe+median",
    "tpe+patient",
    "tpe+asha",
    "tpe+hyperband",
    "random+none",
    "random+asha",
    "random+hyperband",
    "optuna",
    "ray/random+asha",
    "ray/tpe+asha",
    "ray/random+hyperband",
    "ray/bohb+bohb",
)
# Without those that take minutes for a single sweep.
USUAL = tuple(method for method in METHODS if not method.startswith("gp"))
# What the surrogate takes, in its order: name, lowest, highest, logarithmic, integer.
PARAMETERS = (
    ("batch_size", 16, 512, True, True),
    ("learning_rate", 1e-4, 0.1, True, False),
    ("momentum", 0.1, 0.99, False, False),
    ("weight_decay", 1e-5, 0.1, False, False),
    ("num_layers", 1, 5, False, True),
    ("max_units", 64, 1024, True, True),
    ("max_dropout", 0.0, 1.0, False, False),
)
# Its training data has too few curves of this one.
UNUSED_TASKS = ("#na#", "167083")


class Surrogate:
    """Learning curves of any configuration on the data sets of LCBench.

    Args:
        folder: with `model.onnx` and `encoding.json`.
    """

    def __init__(self, folder: Path) -> None:
        import onnxruntime

        self.numbers = json.loads((folder / "encoding.json").read_text("utf-8"))["OpenML_task_id"]
        self.tasks = sorted(task for task in self.numbers if task not in UNUSED_TASKS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = str(folder / "model.onnx")
        self.model = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])

    def curve(self, task: str, params: Mapping[str, Any]) -> list[float]:
        """Validation accuracy in percent, after each epoch."""
        import numpy as np

        row = [0.0, *(float(params[name]) for name, *_ in PARAMETERS)]
        rows = np.tile(row, (LENGTH, 1))
        rows[:, 0] = np.arange(1, LENGTH + 1)
        return [float(value) for value in self._accuracies(task, rows)]

    def best_of_random(self, task: str) -> float:
        """The highest accuracy of many random configurations, after every fifth epoch."""
        import numpy as np

        rng, count = np.random.default_rng(int(task)), RANDOM_CONFIGURATIONS
        columns = []
        for _, low, high, log, is_integer in PARAMETERS:
            bounds = np.array([low, high])
            ends = np.log(bounds) if log else bounds
            drawn = rng.uniform(ends[0], ends[1], count)
            drawn = np.exp(drawn) if log else drawn
            columns.append(np.round(drawn) if is_integer else drawn)
        epochs = np.arange(5, LENGTH + 1, 5)
        tiled = [np.tile(epochs, count), *(np.repeat(column, len(epochs)) for column in columns)]
        return float(self._accuracies(task, np.stack(tiled, 1)).max())

    def _accuracies(self, task: str, rows: Any) -> Any:
        """Of rows of an epoch and the parameters."""
        import numpy as np

        category, numbers = (entry.name for entry in self.model.get_inputs())
        categories = np.full((len(rows), 1), self.numbers[task], np.int32)
        inputs = {category: categories, numbers: rows.astype(np.float32)}
        return self.model.run(None, inputs)[0][:, 1]


def distributions() -> dict[str, Any]:
    """Optuna's form of the search space."""
    from optuna.distributions import FloatDistribution, IntDistribution

    return {
        name: IntDistribution(int(low), int(high), log=log)
        if is_integer
        else FloatDistribution(low, high, log=log)
        for name, low, high, log, is_integer in PARAMETERS
    }


@dataclass(frozen=True)
class Cell:
    """One sweep of the benchmark."""

    method: str
    workers: int
    task: str
    seed: int

    @property
    def own_seed(self) -> int:
        """Different on each data set, for otherwise all of them would share their random start.

        The standard errors, which take the cells as independent, would be far too small.
        """
        import numpy as np

        return int(np.random.SeedSequence([self.seed, int(self.task)]).generate_state(1)[0])


class Table:
    """What has been measured, in a CSV file.

    Args:
        folder: of the CSV files.
        name: of the file that new cells are appended to; those of the others are read.

    Attributes:
        best: of each cell, the best value after each total number of epochs.
        seconds: what each cell took.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / name
        self.best: dict[Cell, dict[int, float]] = {}
        self.seconds: dict[Cell, float] = {}
        for path in sorted(folder.glob("cells*.csv")):
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    self._read(row)

    def add(self, cell: Cell, seconds: float, best: dict[int, float]) -> None:
        """Append a cell."""
        self._keep(cell, seconds, best)
        header = ["method", "workers", "task", "seed", "seconds", *map(str, KEPT)]
        is_new = not self.path.is_file()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, header)
            if is_new:
                writer.writeheader()
            about = {"method": cell.method, "workers": cell.workers, "task": cell.task}
            values = {str(n): f"{value:.4f}" for n, value in best.items()}
            writer.writerow(about | {"seed": cell.seed, "seconds": f"{seconds:.2f}"} | values)

    def _read(self, row: Mapping[str, str]) -> None:
        cell = Cell(row["method"], int(row["workers"]), row["task"], int(row["seed"]))
        known = {n: row[str(n)] for n in KEPT}
        best = {n: float(value) for n, value in known.items() if value}
        self._keep(cell, float(row["seconds"]), best)

    def _keep(self, cell: Cell, seconds: float, best: dict[int, float]) -> None:
        self.best[cell], self.seconds[cell] = best, seconds


def best_known(
    table: Table, random: Mapping[str, float], for_targets: bool = False
) -> dict[str, float]:
    """The best accuracy of each task, of random configurations or of any cell.

    Args:
        table: the cells.
        random: the best accuracy of random configurations.
        for_targets: whether to leave out most cells. The targets were set with two seeds, one
            worker and 2,000 epochs, and more and longer cells find better values.
    """
    found = dict(random)
    for cell, best in table.best.items():
        if cell.task not in found or (for_targets and (cell.workers > 1 or cell.seed > 1)):
            continue
        values = [value for n, value in best.items() if n <= 2000 or not for_targets]
        found[cell.task] = max(found[cell.task], *values)
    return found


@dataclass(frozen=True)
class Choice:
    """What is measured."""

    methods: Sequence[str]
    workers: Sequence[int]
    tasks: Sequence[str]
    seeds: int
    epochs: int
    part: tuple[int, int]

    def cells(self, method: str, workers: int) -> list[Cell]:
        """The cells of a row of the table."""
        pairs = product(range(self.seeds), self.tasks)
        return [Cell(method, workers, task, seed) for seed, task in pairs]

    def rows(self) -> Iterator[tuple[str, int]]:
        """Methods with their numbers of workers."""
        yield from ((method, workers) for workers in self.workers for method in self.methods)


def read_choice(words: Sequence[str], tasks: Sequence[str]) -> Choice:
    """The options of the command, such as `seeds=2`.

    Raises:
        SystemExit: an unknown option or value.
    """
    given = {"methods": ",".join(USUAL), "workers": "1,8", "tasks": "all", "seeds": "5"}
    given |= {"epochs": f"{KEPT[-1]}", "part": "1/1"}
    for word in words:
        name, _, value = word.partition("=")
        if name not in given or not value:
            sys.exit(f"error: no option {word}; there are {', '.join(given)}, as in seeds=2.")
        given[name] = value
    parts = {"all": tasks, "even": tasks[::2], "odd": tasks[1::2]}
    chosen = parts.get(given["tasks"], given["tasks"].split(","))
    methods = given["methods"].split(",")
    for kind, known, wanted in (("task", tasks, chosen), ("method", METHODS, methods)):
        for name in wanted:
            is_pair = kind == "method" and name.count("+") == 1
            if name not in known and not is_pair:
                sys.exit(f"error: no {kind} {name}; there are {', '.join(known)}.")
    workers = [int(count) for count in given["workers"].split(",")]
    number, _, count = given["part"].partition("/")
    part = (int(number) - 1, int(count))
    return Choice(methods, workers, chosen, int(given["seeds"]), int(given["epochs"]), part)


def use_fast_optuna() -> None:
    """Half of the time of TPE, and no line for each study.

    Optuna computes the logarithm of the normal distribution in Python, number by number; SciPy's
    differs in the last digits only.
    """
    import optuna
    from optuna.samplers._tpe import _truncnorm
    from scipy.special import log_ndtr  # type: ignore[import-untyped]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    assert callable(_truncnorm._log_ndtr)
    _truncnorm._log_ndtr = log_ndtr


def make_tuner(project: Project, method: str, seed: int, folder: Path) -> Tuner:
    """The search of a method."""
    spaces = project.library("sweeps.space")
    space = spaces.Space(
        tuple(
            spaces.Parameter(name, low=low, high=high, log=log, is_integer=is_integer)
            for name, low, high, log, is_integer in PARAMETERS
        )
    )
    if method == "optuna":
        return OptunaDefaults(distributions(), seed)
    engine, _, pair = method.rpartition("/")
    sampler, pruner = pair.split("+")
    if engine == "ray":
        from .contenders.tune_schedulers import TuneSearch

        return TuneSearch(project, space, sampler, pruner, seed, LENGTH)
    return OwnSearch(project, folder, space, sampler, pruner, seed, LENGTH)


def why_left_out(method: str) -> str | None:
    """What a method needs and is not installed."""
    needs = {"ray/": ("ray",), "ray/bohb": ("hpbandster", "ConfigSpace"), "gp": ("scipy",)}
    for start, packages in needs.items():
        missing = [name for name in packages if find_spec(name) is None]
        if method.startswith(start) and missing:
            return f"{method} is left out: install {' '.join(missing)} to measure it."
    return None


def measure(project: Project, surrogate: Surrogate, cell: Cell, epochs: int) -> dict[int, float]:
    """The best value after each total number of epochs, in one simulated sweep."""
    with tempfile.TemporaryDirectory() as folder:
        tuner = make_tuner(project, cell.method, cell.own_seed, Path(folder))
        best = simulate(
            tuner, lambda params: surrogate.curve(cell.task, params), cell.workers, epochs
        )
    return {n: best[n // cell.workers] for n in KEPT if n <= epochs}


def fill(project: Project, surrogate: Surrogate, choice: Choice, table: Table) -> None:
    """Measure what is not in the table yet."""
    for method, workers in choice.rows():
        if (reason := why_left_out(method)) is not None:
            print(reason, flush=True)
            continue
        start = time.monotonic()
        wanted = [n for n in KEPT if n <= choice.epochs][-1]
        index, count = choice.part
        cells = choice.cells(method, workers)[index::count]
        missing = [cell for cell in cells if wanted not in table.best.get(cell, {})]
        for done, cell in enumerate(missing):
            before = time.process_time()
            best = measure(project, surrogate, cell, choice.epochs)
            table.add(cell, time.process_time() - before, best)
            if sys.stderr.isatty() or done in (0, len(missing) - 1):
                left = (time.monotonic() - start) / (done + 1) * (len(missing) - done - 1)
                place = f"{method}, {workers} workers: {done + 1} of {len(missing)}"
                print(f"{place}, {left / 60:.0f} minutes left", file=sys.stderr, flush=True)


def regrets(choice: Choice, table: Table, tops: Mapping[str, float]) -> dict[Any, Any]:
    """Of complete rows: the regrets of all cells by the total number of epochs."""
    found = {}
    for row in choice.rows():
        cells = choice.cells(*row)
        if all(cell in table.best for cell in cells):
            kept = [n for n in KEPT if all(n in table.best[cell] for cell in cells)]
            found[row] = {n: [tops[c.task] - table.best[c][n] for c in cells] for n in kept}
    return found


def error_of(values: Sequence[float]) -> float:
    """The standard error of a mean."""
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.nan


def show(choice: Choice, found: Mapping[Any, Any], of_few: Mapping[Any, Any], table: Table) -> None:
    """Print the table, the best first, with its targets.

    Args:
        choice: what was asked for.
        found: the regrets.
        of_few: those that the targets refer to, see `best_known`.
        table: for the times.
    """
    for workers in choice.workers:
        rows = []
        chosen = {method: values for (method, count), values in found.items() if count == workers}
        order = sorted(chosen, key=lambda name: sum(map(statistics.fmean, chosen[name].values())))
        for method in order:
            means = [(statistics.fmean(v), error_of(v)) for n, v in chosen[method].items()]
            shown = dict(zip(chosen[method], means, strict=True))
            texts = [_with_error(*shown[n]) if n in shown else "" for n in SHOWN]
            seconds = statistics.fmean(
                table.seconds[cell] for cell in choice.cells(method, workers)
            )
            rows.append([method, *texts, verdict(method, workers, of_few), f"{seconds:.1f}"])
        count = f"{workers} worker{'s' * (workers > 1)}"
        title = f"Regret in points of accuracy, {count}, {len(choice.tasks)} data sets, "
        title += f"{choice.seeds} seeds: mean and standard error"
        header = ["method", *(f"{n} epochs" for n in SHOWN), "targets", "seconds a sweep"]
        print_table(title, header, rows)


def _with_error(mean: float, error: float) -> str:
    return f"{mean:.2f}" if math.isnan(error) else f"{mean:.2f} ± {error:.2f}"


def verdict(method: str, workers: int, found: Mapping[Any, Any]) -> str:
    """The regrets that the targets refer to, and whether they are met."""
    means = {n: statistics.fmean(v) for n, v in found[method, workers].items()}
    limits: Mapping[int, float] = TARGETS
    if workers > 1:
        alone = found.get((method, 1), {})
        limits = {n: LARGEST_RATIO * statistics.fmean(alone[n]) for n in TARGETS if n in alone}
    known = [n for n in limits if n in means]
    are_met = known and all(means[n] <= limits[n] for n in known)
    values = ", ".join(f"{means[n]:.1f}" for n in TARGETS if n in means)
    return f"{values}: {'met' if are_met else 'not met'}"


def lcbench(project: Project, names: Sequence[str]) -> None:
    """Measure what is missing, print the table, and draw the plot.

    Args:
        project: the project.
        names: options such as `seeds=2`.

    Raises:
        SystemExit: the surrogate or a package is missing.
    """
    folder = Path(os.environ.get("LCBENCH", "."))
    if find_spec("onnxruntime") is None or not (folder / "model.onnx").is_file():
        sys.exit(
            "error: this benchmark needs the package onnxruntime (pip install onnxruntime) and "
            "LCBENCH=<the folder lcbench of github.com/slds-lmu/yahpo_data, with model.onnx>."
        )
    use_fast_optuna()
    surrogate = Surrogate(folder)
    choice = read_choice(names, surrogate.tasks)
    index, count = choice.part
    table = Table(FOLDER, f"cells-{index + 1}.csv" if count > 1 else "cells.csv")
    fill(project, surrogate, choice, table)
    if count > 1:
        return
    random = {task: surrogate.best_of_random(task) for task in choice.tasks}
    found = regrets(choice, table, best_known(table, random))
    of_few = regrets(choice, table, best_known(table, random, for_targets=True))
    show(choice, found, of_few, table)
    draw(found, SHOWN, FOLDER / "regret.png")
    print(f"\nThe plot is {FOLDER / 'regret.png'}.")
