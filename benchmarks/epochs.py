"""Seconds of an epoch: a raw loop, Lightning bare and by default, ours, and the usual template's.

An epoch is training, validation and whatever is done at its end, measured from its start to the
start of the next, in the middle of a fit: imports, set-up and the first epoch do not count. The
contenders take turns, an epoch each, so every ratio is of two epochs of one round. One thread each.

`make bench SUBJECTS=epochs:digits` measures one training, `epochs:tiny` tries whether all of it
runs.
"""

import math
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .common import (
    Project,
    Took,
    baked_project,
    environment,
    print_table,
    ratios,
    spread,
    use_one_thread,
)
from .images import write_images
from .turns import Turn, take_turns


@dataclass(frozen=True)
class Subject:
    """A training to measure.

    Attributes:
        what: in words.
        options: of `train.py`.
        rounds: epochs of each contender.
        images: of 28 x 28 pixels that it needs.
    """

    what: str
    options: tuple[str, ...]
    rounds: int
    images: int = 0


# The same images in every epoch: augmentation is not the same code everywhere.
MNIST = ("experiment=mnist", "data.shift=0", "model.net.width=4")
DIGITS = ("experiment=digits", "model=mlp", "callbacks.early_stopping.patience=1000")
SUBJECTS = {
    "digits": Subject("digits, 1,168 x 8 x 8, MLP", DIGITS, rounds=60),
    "images": Subject("60,000 x 28 x 28, a CNN of width 4", MNIST, rounds=5, images=60_000),
    "tiny": Subject("600 x 28 x 28, a CNN of width 4", MNIST, rounds=1, images=600),
}
BARE, OURS, USUAL = "Lightning, barebones", "ours, standard config", "the usual template's path"


def main(words: Sequence[str]) -> None:
    """Measure and print: both trainings, or the one that is named."""
    if words and words[0] not in SUBJECTS:
        sys.exit(f"error: no training {words[0]}; there are {', '.join(SUBJECTS)}.")
    use_one_thread()
    print(environment(), flush=True)
    # One project: its modules are imported once and know their folder.
    with baked_project() as project:
        for name in words or ("digits", "images"):
            measure(project, SUBJECTS[name])


def measure(project: Project, subject: Subject) -> None:
    """Measure one training with all contenders."""
    if subject.images:
        folder = project.root / "data" / "MNIST" / "raw"
        write_images(folder, subject.images, subject.images // 6)
    epochs = subject.rounds + 2
    found = take_turns(contenders(project, subject.options, epochs), subject.rounds)
    header = ["contender", "epoch, s", "to barebones", "to barebones, CPU", "to ours"]
    rows = [
        [
            name,
            spread([took.wall for took in tooks]),
            spread(ratios(tooks, found[BARE])),
            spread(ratios(tooks, found[BARE], "cpu")),
            spread(ratios(tooks, found[OURS]), 2),
        ]
        for name, tooks in found.items()
    ]
    print_table(f"{subject.what}: {subject.rounds} epochs of each, by turns", header, rows)
    print_goals(found)


def print_goals(found: Mapping[str, Sequence[Took]]) -> None:
    """What is to be reached, and what is."""
    rows = []
    for what, one, other, least, most in (
        ("ours to barebones", OURS, BARE, 0.0, 1.03),
        ("the usual to ours", USUAL, OURS, 2.0, math.inf),
    ):
        wall, cpu = (
            statistics.median(ratios(found[one], found[other], clock)) for clock in ("wall", "cpu")
        )
        goal = f"at most {most}" if least == 0 else f"at least {least}"
        met = "yes" if least <= wall <= most else "NO"
        rows.append([what, f"{wall:.3f}", f"{cpu:.3f}", goal, met])
    print_table("Goals", ["ratio, medians", "wall", "CPU", "goal", "met"], rows)


def contenders(
    project: Project, options: Sequence[str], epochs: int
) -> dict[str, Callable[[Turn], Any]]:
    """All ways to train the same network on the same data."""
    always = ("trainer=cpu", "test=false", f"trainer.max_epochs={epochs}")
    cfg = project.configure(*always, *options)
    datamodule = project.library("assembly").build_datamodule(cfg)
    common = (project, cfg, datamodule, epochs)
    return {
        "raw loop": partial(raw, *common),
        BARE: partial(bare, *common),
        f"{BARE}, our module": partial(bare_with_our_module, *common),
        "Lightning, defaults": partial(by_default, *common),
        OURS: partial(ours, project, (*always, *options)),
        USUAL: partial(usual, *common),
    }


def build_net(project: Project, cfg: Any, datamodule: Any) -> Any:
    """The network of a config, alone."""
    return project.library("assembly").build_model(cfg, datamodule).net


def raw(project: Project, cfg: Any, datamodule: Any, epochs: int, turn: Turn) -> None:
    """A loop by hand, over our loaders."""
    from .contenders.loops import train_by_hand

    # Lightning sets it, which makes each step of Adam slower; who writes a loop does not import it.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    train, val = datamodule.train_dataloader(), datamodule.val_dataloader()
    net = build_net(project, cfg, datamodule)
    train_by_hand(net, train, val, epochs, epochs * len(train), turn.next_epoch)


def callback(turn: Turn) -> Any:
    """A callback that waits for the turn."""
    from pytorch_lightning import Callback

    class Waits(Callback):
        def on_train_epoch_start(self, *args: Any) -> None:
            turn.next_epoch()

    return Waits()


def bare(project: Project, cfg: Any, datamodule: Any, epochs: int, turn: Turn) -> None:
    """Lightning's fastest trainer, and a module that measures nothing in training."""
    from .contenders.loops import Bare

    fit_barebones(Bare(build_net(project, cfg, datamodule)), datamodule, epochs, turn)


def bare_with_our_module(
    project: Project, cfg: Any, datamodule: Any, epochs: int, turn: Turn
) -> None:
    """Lightning's fastest trainer, and the module of the project: it measures loss and metrics."""
    model = project.library("assembly").build_model(cfg, datamodule)
    fit_barebones(model, datamodule, epochs, turn)


def fit_barebones(model: Any, datamodule: Any, epochs: int, turn: Turn) -> None:
    """Fit with `barebones`, over our loaders."""
    from pytorch_lightning import Trainer

    trainer = Trainer(
        barebones=True, accelerator="cpu", max_epochs=epochs, callbacks=[callback(turn)]
    )
    trainer.fit(model, datamodule)


def by_default(project: Project, cfg: Any, datamodule: Any, epochs: int, turn: Turn) -> None:
    """Lightning as it is without options, over our loaders."""
    from pytorch_lightning import Trainer

    from .contenders.loops import Logging

    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=cfg.paths.output_dir,
        callbacks=[callback(turn)],
    )
    trainer.fit(Logging(build_net(project, cfg, datamodule)), datamodule)


def ours(project: Project, options: Sequence[str], turn: Turn) -> None:
    """What `train.py` does with these options."""
    from pytorch_lightning import Trainer

    plain = Trainer.fit

    def fit(trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        # The first: an epoch of ours begins when that of the others does.
        trainer.callbacks.insert(0, callback(turn))  # type: ignore[attr-defined]
        plain(trainer, *args, **kwargs)

    Trainer.fit = fit  # type: ignore[assignment,method-assign]
    project.train(*options)


def usual(project: Project, cfg: Any, datamodule: Any, epochs: int, turn: Turn) -> None:
    """The code path of the usual template, on the same images."""
    from pytorch_lightning import Trainer
    from pytorch_lightning.loggers import TensorBoardLogger
    from torch.utils.data import DataLoader

    from .contenders.usual_template import Pictures, UsualModule, usual_callbacks

    folder = Path(cfg.paths.output_dir)
    train, val = (
        DataLoader(
            Pictures(datamodule.datasets[part].x, datamodule.datasets[part].y),
            batch_size=cfg.data.batch_size,
            shuffle=part == "train",
        )
        for part in ("train", "val")
    )
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=folder,
        callbacks=[callback(turn), *usual_callbacks(folder)],
        logger=TensorBoardLogger(folder / "tensorboard"),
    )
    trainer.fit(UsualModule(build_net(project, cfg, datamodule)), train, val)


if __name__ == "__main__":
    # Waiting threads would spin; read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main(sys.argv[1:])
