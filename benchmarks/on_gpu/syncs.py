"""Calls of a training step that wait for the device: of Lightning barebones, and of ours."""

import statistics
from collections import Counter
from functools import partial
from typing import Any

from ..common import Project, print_table
from .size import Size, in_a_fork
from .speed import BARE, OURS, options_of, train_with

# Each step before is the first that does something: it reads files, compiles, allocates.
FIRST = 2


def print_syncs(project: Project, size: Size, net: str) -> None:
    """Calls a step, with and without an entry in the log, and their places."""
    found = {
        BARE: in_a_fork(partial(of_barebones, project, size, net)),
        OURS: in_a_fork(partial(of_ours, project, size, net)),
    }
    rows = [[name, *summary(calls, size)] for name, calls in found.items()]
    header = ["contender", "in a step", "in a step with an entry in the log", "mean"]
    means = "calls that wait for the device" if not size.is_tiny else "calls that would wait"
    print_table(
        f"{net}: {means}, {size.watched} steps, an entry every {size.log_every}", header, rows
    )
    for name, calls in found.items():
        places = Counter((what, place) for _, what, place in calls)
        print(f"\n{name}, in {size.watched} steps:{'' if places else ' none'}", flush=True)
        for (what, place), count in places.most_common():
            print(f"- {count} x {what}: {place}", flush=True)


def summary(calls: list[tuple[int, str, str]], size: Size) -> list[str]:
    """Median number of calls in a step without an entry and in one with it, and the mean."""
    steps = [step for step, _, _ in calls]
    counts = {step: steps.count(step) for step in range(FIRST, FIRST + size.watched)}
    due = [count for step, count in counts.items() if (step + 1) % size.log_every == 0]
    others = [count for step, count in counts.items() if (step + 1) % size.log_every]
    medians = [f"{statistics.median(some):g}" if some else "-" for some in (others, due)]
    return [*medians, f"{statistics.mean(counts.values()):.2f}"]


def of_ours(project: Project, size: Size, net: str) -> list[tuple[int, str, str]]:
    """The calls of what `train.py` does."""
    if size.is_tiny:
        # On the CPU the guard reads every loss, which waits for nothing there.
        project.library("callbacks.nan_guard").is_free_to_read = lambda loss: False
    watch = make_watch(size)
    every = f"trainer.log_every_n_steps={size.log_every}"
    options = (*options_of(project, net, size, False, 1), every)
    train_with(project, options, watch)
    return [(call.step, call.what, call.place) for call in watch.calls]


def of_barebones(project: Project, size: Size, net: str) -> list[tuple[int, str, str]]:
    """The calls of Lightning's fastest trainer."""
    from pytorch_lightning import Trainer

    from ..contenders.loops import Bare

    watch = make_watch(size)
    cfg = project.configure(*options_of(project, net, size, False, 1))
    datamodule = project.module("training").build_datamodule(cfg)
    net_alone = project.module("training").build_model(cfg, datamodule).net
    trainer = Trainer(
        barebones=True,
        accelerator=cfg.trainer.accelerator,
        devices=1,
        precision=cfg.trainer.precision,
        max_epochs=1,
        limit_train_batches=cfg.trainer.limit_train_batches,
        limit_val_batches=cfg.trainer.limit_val_batches,
        callbacks=[watch],
    )
    trainer.fit(Bare(net_alone), datamodule)
    return [(call.step, call.what, call.place) for call in watch.calls]


def make_watch(size: Size) -> Any:
    """A callback that watches."""
    from .sync_calls import SyncWatch

    return SyncWatch(FIRST, FIRST + size.watched)
