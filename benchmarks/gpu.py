"""A GPU: images a second beside a raw loop, and trials of a sweep that share it.

The data lie on the device, in both; precision and compilation are the same. Without a CUDA device
all of it is left out. `make bench SUBJECTS=gpu:tiny` tries on the processor whether it runs, with
sizes that say nothing about speed; `gpu:resnet18`, `gpu:packing` measure a part.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
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
    time_command,
    use_one_thread,
)
from .turns import Turn, take_turns


@dataclass(frozen=True)
class Size:
    """How much is measured, and on what.

    Attributes:
        device: cuda or cpu.
        images: for training and validation.
        classes: of the images.
        batch_size: images in a batch.
        compiles: whether networks are compiled.
        rounds: epochs of each contender.
        trials: of each sweep.
        packed: trials at once.
    """

    device: str
    images: int
    classes: int
    batch_size: int
    compiles: bool
    rounds: int
    trials: int
    packed: tuple[int, ...]


ON_GPU = Size("cuda", 50_000, 10, 512, True, rounds=5, trials=16, packed=(1, 2, 4, 8))
TINY = Size("cpu", 24, 2, 8, False, rounds=1, trials=2, packed=(1, 2))
NETS = ("cnn", "resnet18")
PACKING = "packing"
ASK_FOR_GPU = "import torch; print(torch.cuda.is_available() and torch.cuda.get_device_name())"


def main(words: Sequence[str]) -> None:
    """Measure and print: all parts, or those that are named."""
    parts = [word for word in words if word != "tiny"] or [*NETS, PACKING]
    unknown = [part for part in parts if part not in (*NETS, PACKING)]
    if unknown:
        sys.exit(f"error: no part {unknown[0]}; there are {', '.join((*NETS, PACKING))}.")
    size = TINY if "tiny" in words else ON_GPU
    device = "processor" if size is TINY else name_of_gpu()
    if device is None:
        print("GPU: left out, there is no CUDA device; gpu:tiny tries the code on the processor.")
        return
    use_one_thread()
    with baked_project(hides_gpus=size is TINY) as project:
        print(f"{environment()}, {device}", flush=True)
        use_made_up_images(project, size)
        for part in parts:
            if part == PACKING:
                print_packing(project, size)
            else:
                print_speed(project, size, part)


def name_of_gpu() -> str | None:
    """The CUDA device; None where there is none."""
    # Asked in another process: one that has asked itself can fork none that uses the GPU.
    command = (sys.executable, "-c", ASK_FOR_GPU)
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return None if name == "False" else name


def print_speed(project: Project, size: Size, net: str) -> None:
    """Images a second of a network."""
    epochs = size.rounds + 2
    precision = "32-true" if size is TINY else "bf16-mixed"
    options = (
        *("experiment=cifar10_resnet", f"model={net}", "data.shift=0", "data.flip=false"),
        *(f"data.batch_size={size.batch_size}", f"trainer.max_epochs={epochs}", "test=false"),
        *("optimizer=adamw", "scheduler=cosine", f"trainer.precision={precision}"),
        *(f"trainer.accelerator={size.device}", f"compile={str(size.compiles).lower()}"),
    )
    cfg = project.configure(*options)
    contenders = {
        "raw loop": partial(raw, project, size, cfg),
        "ours, standard config": partial(ours, project, size, options),
    }
    found = take_turns(contenders, size.rounds)
    images = size.images - round(size.images * cfg.data.val_fraction)
    rows = [
        [
            name,
            spread([images / took.wall for took in tooks], 0),
            spread([1 / ratio for ratio in ratios(tooks, found["raw loop"])]),
        ]
        for name, tooks in found.items()
    ]
    header = ["contender", "training images a second", "to the raw loop"]
    compiled = "compiled" if size.compiles else "not compiled"
    title = f"{net}, 3 x 32 x 32, {precision}, {compiled}, batches of {size.batch_size}"
    print_table(f"{title}, {size.device}, {size.rounds} epochs by turns", header, rows)


def use_made_up_images(project: Project, size: Size) -> None:
    """Let the project read made-up images in place of CIFAR-10, and put them on the device."""
    data = project.module("data.torchvision_images").CIFAR10DataModule
    data.prepare_data = lambda self: None
    data.read = lambda self: made_up_images(project, size)
    training = project.module("training")
    plain = training.build_datamodule

    def build(cfg: Any) -> Any:
        datamodule = plain(cfg)
        for dataset in datamodule.datasets.values():
            dataset.x, dataset.y = dataset.x.to(size.device), dataset.y.to(size.device)
            normalise = dataset.transform
            normalise.mean = normalise.mean.to(size.device)
            normalise.std = normalise.std.to(size.device)
        return datamodule

    training.build_datamodule = build


def made_up_images(project: Project, size: Size) -> Any:
    """Noise in the shape of CIFAR-10."""
    import torch

    tested = size.images // 5
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (size.images + tested, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(size.images + tested) % size.classes
    names = [f"class {number}" for number in range(size.classes)]
    return project.library("data.image_arrays").ImageArrays(pixels, labels, names, tested)


def next_epoch(size: Size, turn: Turn) -> None:
    """Wait for the turn, once the device has done all that it was told."""
    import torch

    if size.device == "cuda":
        torch.cuda.synchronize()
    turn.next_epoch()


def raw(project: Project, size: Size, cfg: Any, turn: Turn) -> None:
    """A loop by hand."""
    from .contenders.loops import train_by_hand

    training = project.module("training")
    datamodule = training.build_datamodule(cfg)
    train, val = datamodule.train_dataloader(), datamodule.val_dataloader()
    net = training.build_model(cfg, datamodule).net.to(size.device)
    epochs = cfg.trainer.max_epochs
    on_epoch = partial(next_epoch, size, turn)
    steps = epochs * len(train)
    train_by_hand(net, train, val, epochs, steps, on_epoch, precision_of(cfg, size))


def precision_of(cfg: Any, size: Size) -> Callable[[], AbstractContextManager[Any]]:
    """The precision of a config, for the raw loop."""
    import torch

    is_mixed = cfg.trainer.precision == "bf16-mixed"
    return partial(torch.autocast, size.device, dtype=torch.bfloat16, enabled=is_mixed)


def ours(project: Project, size: Size, options: Sequence[str], turn: Turn) -> None:
    """What `train.py` does with these options."""
    from pytorch_lightning import Callback, Trainer

    class Waits(Callback):
        def on_train_epoch_start(self, *args: Any) -> None:
            next_epoch(size, turn)

    plain = Trainer.fit

    def fit(trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        trainer.callbacks.insert(0, Waits())  # type: ignore[attr-defined]
        plain(trainer, *args, **kwargs)

    Trainer.fit = fit  # type: ignore[assignment,method-assign]
    project.train(*options)


def print_packing(project: Project, size: Size) -> None:
    """How long a sweep takes when more and more trials share the device."""
    found = [sweep(project, size, count) for count in size.packed]
    rows = [
        [f"{count}", f"{took.wall:.1f}", f"{found[0].wall / took.wall:.2f}"]
        for count, took in zip(size.packed, found, strict=True)
    ]
    header = ["trials at once", "seconds", "times the speed of one at a time"]
    title = f"{size.trials} trials of digits on one device ({size.device}), start-up included, once"
    print_table(title, header, rows)


def sweep(project: Project, size: Size, count: int) -> Took:
    """Seconds of a sweep of which so many trials run at once."""
    if size.device == "cuda":
        share = ["trainer=gpu", "hydra.sweeper.gpus=[0]"]
        share.append(f"hydra.sweeper.gpus_per_trial={1 / count}")
    else:
        share = ["trainer=cpu", f"hydra.sweeper.workers={count}"]
    epochs = 20 if size is ON_GPU else 1
    options = (f"trainer.max_epochs={epochs}", f"hydra.sweeper.n_trials={size.trials}", *share)
    with tempfile.TemporaryDirectory() as folder:
        place = (f"hydra.sweep.dir={folder}", "hydra.sweeper.study_name=study")
        command = (sys.executable, "train.py", "-m", *place, *options, "hydra/sweeper/pruner=none")
        variables = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        return time_command(command, Path(project.root), variables)


if __name__ == "__main__":
    # Waiting threads would spin; read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main(sys.argv[1:])
