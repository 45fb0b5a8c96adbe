"""The cost of the callbacks: CPU seconds of a fit with them over those of a fit without.

The loader, the network and the number of epochs are the same. Fits with and without take turns,
and each pair gives a ratio: what else the machine does then changes both. On a busy machine the
ratio of the fastest fit with to the fastest without is the steadier number. User and system time of
all threads are counted, from the first line of `trainer.fit` to the last, imports left out. All run
on one core: moving between cores, and threads that wait for each other, would count too.

`make bench SUBJECTS=aids` measures all of it; `aids:digits`, `aids:images`, `aids:profilers` and
`aids:each` a part.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .common import Project, baked_project, environment, print_table, spread
from .images import write_images

OFF = ("callbacks=none", "logger=none", "+trainer.enable_progress_bar=false")
ALWAYS = ("trainer=cpu", "finders=none", "test=false")


@dataclass(frozen=True)
class Training:
    """A training to measure, as options, and how much longer the callbacks may make it."""

    name: str
    options: tuple[str, ...]
    goal: float
    pairs: int


TRAININGS = {
    "digits": Training(
        "digits, 1,168 x 8 x 8, CNN, 20 epochs", ("experiment=digits",), 1.10, pairs=30
    ),
    "images": Training(
        "60,000 x 28 x 28, CNN of width 8, 1 epoch",
        ("experiment=mnist", "model.net.width=8", "trainer.max_epochs=1"),
        1.05,
        pairs=5,
    ),
}
PARTS = (*TRAININGS, "profilers", "each")
# Aids that are off by default; two averages cannot stand together.
MORE_AIDS = ("callbacks=[default,histograms,activations,swa]", "callbacks=[default,ema]")
PROFILERS = ("simple", "advanced", "pytorch")
SHORT = ("trainer.max_epochs=5",)
FEW = 3  # pairs or fits, where no goal is to be met
# What happens once in a process is no cost of a fit.
WARM_UP = ("trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=2")


# Hooks that run once in a fit, however long it is.
ONCE = ("setup", "teardown", "on_fit_start", "on_fit_end", "on_train_start", "on_train_end")


class Stopwatch:
    """CPU seconds of each fit, and of the parts of it that are spent in an aid.

    Attributes:
        fit: the whole fit.
        parts: for each aid the seconds in its hooks of steps and epochs, and in those of the fit.
    """

    def __init__(self) -> None:
        self.fit = 0.0
        self.parts: dict[str, list[float]] = {}
        self._is_inside = False

    @contextmanager
    def on_every_fit(self, looks_inside: bool = False) -> Iterator[None]:
        """Measure the fits within."""
        from pytorch_lightning import Trainer

        plain = Trainer.fit

        def fit(trainer: Trainer, *args: Any, **kwargs: Any) -> None:
            self.parts = {}
            if looks_inside:
                self._watch(trainer)
            start = time.process_time()
            plain(trainer, *args, **kwargs)
            self.fit = time.process_time() - start

        Trainer.fit = fit  # type: ignore[assignment,method-assign]
        try:
            yield
        finally:
            Trainer.fit = plain  # type: ignore[method-assign]

    def _watch(self, trainer: Any) -> None:
        """Measure every hook of every callback, and what Lightning itself gives the loggers."""
        from pytorch_lightning import Callback

        for callback in trainer.callbacks:
            kind = type(callback)
            for name in vars(Callback):
                if not name.startswith("_") and getattr(kind, name) is not getattr(Callback, name):
                    self._replace(callback, name, kind.__name__)
        for logger in trainer.loggers:
            for name in ("log_metrics", "log_hyperparams", "save", "finalize"):
                self._replace(logger, name, type(logger).__name__)

    def _replace(self, owner: Any, name: str, part: str) -> None:
        plain = getattr(owner, name)
        if not callable(plain):
            return

        def measured(*args: Any, **kwargs: Any) -> Any:
            # What an aid gives a logger is the aid's.
            if self._is_inside:
                return plain(*args, **kwargs)
            self._is_inside = True
            start = time.process_time()
            try:
                return plain(*args, **kwargs)
            finally:
                seconds = self.parts.setdefault(part, [0.0, 0.0])
                seconds[name in ONCE] += time.process_time() - start
                self._is_inside = False

        setattr(owner, name, measured)


def main(words: Sequence[str]) -> None:
    """Measure and print: all parts, or those that are named."""
    unknown = [word for word in words if word not in PARTS]
    if unknown:
        sys.exit(f"error: no part {unknown[0]}; there are {', '.join(PARTS)}.")
    parts = words or PARTS
    use_one_core()
    with baked_project() as project:
        if "images" in parts:
            write_images(project.root / "data" / "MNIST" / "raw")
        print(environment(), flush=True)
        watch = Stopwatch()
        measure = partial(seconds, project, watch)
        with watch.on_every_fit():
            if chosen := [TRAININGS[part] for part in parts if part in TRAININGS]:
                print_ratios(chosen, measure)
            if "profilers" in parts:
                print_profilers(measure)
        with watch.on_every_fit(looks_inside=True):
            if "each" in parts:
                print_shares(project, watch)


def use_one_core() -> None:
    """Keep this process on one core, as far as the system can."""
    import torch

    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def seconds(project: Project, watch: Stopwatch, *options: str) -> float:
    """CPU seconds of one fit."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        project.train(*ALWAYS, *options)
    return watch.fit


def ratios(
    measure: Callable[..., float], one: tuple[str, ...], other: tuple[str, ...], count: int
) -> tuple[list[float], list[float], float]:
    """Ratios of `one` to `other` for each pair, seconds of `other`, ratio of the fastest."""
    measure(*one, *WARM_UP)
    measure(*other, *WARM_UP)
    pairs = []
    for turn in range(count):
        # Neither is always the first.
        found = {name: measure(*name) for name in ((one, other) if turn % 2 else (other, one))}
        pairs.append((found[one], found[other]))
    ones, others = zip(*pairs, strict=True)
    fastest = min(ones) / min(others)
    return [a / b for a, b in pairs], list(others), fastest


def print_ratios(trainings: Sequence[Training], measure: Callable[..., float]) -> None:
    """All default callbacks against none."""
    rows = []
    for training in trainings:
        options = training.options
        found, without, fastest = ratios(measure, options, (*options, *OFF), training.pairs)
        verdict = "yes" if statistics.median(found) <= training.goal else "NO"
        rows.append(
            [
                training.name,
                str(training.pairs),
                spread(without, 2),
                spread(found),
                f"{fastest:.3f}",
                f"{training.goal}",
                verdict,
            ]
        )
    header = [
        "fit",
        "pairs",
        "CPU s without callbacks",
        "ratio with callbacks",
        "of the fastest",
        "at most",
        "met",
    ]
    print_table("All default callbacks against none", header, rows)


def print_profilers(measure: Callable[..., float]) -> None:
    """Profilers, over a run with the default callbacks."""
    plain = (*TRAININGS["digits"].options, *SHORT)
    rows = []
    for name in PROFILERS:
        found, _, _ = ratios(measure, (*plain, f"profiler={name}"), plain, FEW)
        rows.append([name, spread(found, 2)])
    print_table("Profilers, 5 epochs of digits, against none", ["profiler", "ratio"], rows)


def print_shares(project: Project, watch: Stopwatch) -> None:
    """How much of a fit is spent in each aid."""
    shares: dict[str, list[float]] = {}
    once: dict[str, list[float]] = {}
    for callbacks in MORE_AIDS:
        options = (*TRAININGS["digits"].options, callbacks)
        seconds(project, watch, *options, *WARM_UP)
        for _ in range(FEW):
            seconds(project, watch, *options)
            rest = watch.fit - sum(map(sum, watch.parts.values()))
            for part, (repeated, single) in watch.parts.items():
                shares.setdefault(part, []).append(100 * repeated / rest)
                once.setdefault(part, []).append(1000 * single)
    order = sorted(shares, key=lambda part: -statistics.median(shares[part]))
    rows = [[part, spread(shares[part], 2), spread(once[part], 0)] for part in order]
    header = ["callback", "% of the fit without callbacks", "and once per fit, ms"]
    print_table("CPU time spent in each aid, digits", header, rows)


if __name__ == "__main__":
    main(sys.argv[1:])
