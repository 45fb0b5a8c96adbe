"""Epochs by turns: a raw loop, Lightning barebones, and ours, on data that lie on the device."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..common import Project, Took, print_table, ratios, spread
from ..turns import Turn, take_turns
from .data import OnDevice, write_text
from .peak import TERA, count_operations, wait
from .size import Budget, Size

RAW, BARE, OURS = "raw loop", "Lightning, barebones", "ours, standard config"
BARE_OURS = f"{BARE}, our module"
GOAL = 1.05
PRECISION = "bf16-mixed"
# Counted operations of a sample, by network; the same whether it is compiled or not.
OPERATIONS: dict[str, float] = {}


@dataclass(frozen=True)
class Net:
    """A network to train.

    Attributes:
        experiment: that reads its data, which a project may lack.
        options: of `train.py`.
        sample: what a sample is called.
        relates_to_peak: whether its operations are counted.
    """

    experiment: str
    options: tuple[str, ...]
    sample: str = "images"
    relates_to_peak: bool = False


IMAGES = ("data.shift=0", "data.flip=false", "optimizer=adamw", "scheduler=cosine")
NETS = {
    "resnet18": Net("cifar10_resnet", ("model=resnet18", *IMAGES), relates_to_peak=True),
    "gpt": Net("text", (), sample="sequences", relates_to_peak=True),
    "cnn": Net("cifar10_resnet", ("model=cnn", *IMAGES)),
}


@dataclass(frozen=True)
class Peaks:
    """What the device can do in bf16, TFLOP/s.

    Attributes:
        on_data_sheet: None for a card that is not known.
        measured: None if nothing was measured.
    """

    on_data_sheet: float | None = None
    measured: float | None = None


def has(project: Project, net: str) -> bool:
    """Whether the project has the experiment of a network."""
    return (project.root / "configs" / "experiment" / f"{NETS[net].experiment}.yaml").is_file()


def options_of(
    project: Project, net: str, size: Size, compiles: bool, epochs: int
) -> tuple[str, ...]:
    """The options of `train.py`."""
    chosen = NETS[net]
    options = (
        *(f"experiment={chosen.experiment}", *chosen.options),
        *(f"trainer.max_epochs={epochs}", "test=false"),
        *(f"trainer.precision={PRECISION}", f"compile={str(compiles).lower()}"),
        *(f"trainer.accelerator={'cpu' if size.is_tiny else 'gpu'}", "trainer.devices=1"),
    )
    if chosen.sample == "images":
        fraction = size.val / (size.train + size.val)
        return (*options, f"data.batch_size={size.batch_size}", f"data.val_fraction={fraction}")
    path = project.root.parent / "text.txt"
    if not path.is_file():
        write_text(path)
    # Without a smaller last batch, which would be compiled anew; the other contenders do not clip.
    return (*options, f"data.path={path}", "trainer.gradient_clip_val=null", *size.text)


def print_speed(
    project: Project,
    size: Size,
    net: str,
    compiles: bool,
    peaks: Peaks,
    budget: Budget,
    seconds: float,
) -> None:
    """Samples a second of a network, for each contender.

    Args:
        project: the project.
        size: of the measurement.
        net: the network.
        compiles: whether it is compiled.
        peaks: of the device.
        budget: the time for everything.
        seconds: the time for this.
    """
    options = options_of(project, net, size, compiles, size.rounds + 2)
    cfg = project.configure(*options)
    contenders = {
        RAW: partial(raw, project, size, cfg),
        BARE: partial(bare, project, size, cfg, False),
        BARE_OURS: partial(bare, project, size, cfg, True),
        OURS: partial(ours, project, size, options),
    }
    if net not in size.with_our_module:
        contenders.pop(BARE_OURS)
    found = take_turns(contenders, size.rounds, budget.until(seconds))
    rounds = len(found[RAW])
    how = "compiled" if compiles else "not compiled"
    title = f"{net}, {PRECISION}, {how}, batches of {cfg.data.batch_size}, {size.device}"
    samples = samples_of(size, cfg)
    print_table(
        f"{title}: {rounds} epochs of each, by turns",
        [
            "contender",
            f"training {NETS[net].sample} a second",
            "steps, to the raw loop",
            "epoch, s",
            "epoch, to the raw loop",
        ],
        [row_of(name, tooks, found[RAW], samples) for name, tooks in found.items()],
    )
    print_goal(found)
    if NETS[net].relates_to_peak:
        print_efficiency(project, size, net, found, samples, peaks)


def samples_of(size: Size, cfg: Any) -> int:
    """Training samples of an epoch."""
    batches = cfg.trainer.limit_train_batches
    return size.train if batches is None else int(batches * cfg.data.batch_size)


def row_of(name: str, tooks: Sequence[Took], raw: Sequence[Took], samples: int) -> list[str]:
    """What was measured of a contender."""
    return [
        name,
        spread([samples / took.steps for took in tooks], 0),
        spread(ratios(tooks, raw, "steps")),
        spread([took.wall for took in tooks]),
        spread(ratios(tooks, raw)),
    ]


def print_goal(found: Mapping[str, Sequence[Took]]) -> None:
    """Whether ours is as fast as it is to be."""
    words = []
    for what, clock in (("steps", "steps"), ("epoch", "wall")):
        ratio = statistics.median(ratios(found[OURS], found[RAW], clock))
        words.append(f"{what} {ratio:.3f} ({'met' if ratio <= GOAL else 'NOT met'})")
    print(f"\nOurs to the raw loop, at most {GOAL}: {', '.join(words)}.", flush=True)


def print_efficiency(
    project: Project,
    size: Size,
    net: str,
    found: Mapping[str, Sequence[Took]],
    samples: int,
    peaks: Peaks,
) -> None:
    """Operations a second, as a fraction of what the device can do."""
    if net not in OPERATIONS:
        cfg = project.configure(*options_of(project, net, size, False, 1))
        OPERATIONS[net] = count_operations(project, size, cfg)
    operations = OPERATIONS[net]
    rows = []
    for name in (RAW, OURS):
        steps = statistics.median(took.steps for took in found[name])
        speed = operations * samples / steps / TERA
        rows.append([name, f"{speed:.1f}", *(of(speed, peak) for peak in peaks_of(peaks))])
    print_table(
        f"{net}: {operations / 1e9:.3f} GFLOP for each of the {NETS[net].sample}, forward and "
        "backward (a multiplication and an addition are two)",
        ["contender", "TFLOP/s", *map(title_of, ("data sheet", "measured"), peaks_of(peaks))],
        rows,
    )


def peaks_of(peaks: Peaks) -> tuple[float | None, float | None]:
    """Both peaks."""
    return peaks.on_data_sheet, peaks.measured


def title_of(source: str, peak: float | None) -> str:
    """The head of a column."""
    return f"of the peak, {source}" + ("" if peak is None else f" ({peak:.0f} TFLOP/s)")


def of(speed: float, peak: float | None) -> str:
    """A speed as a fraction of a peak."""
    return "-" if peak is None else f"{speed / peak:.1%}"


def next_epoch(size: Size, turn: Turn) -> None:
    """Wait for the turn, once the device has done all that it was told."""
    wait(size)
    turn.next_epoch()


def end_training(size: Size, turn: Turn) -> None:
    """Note the end of the steps, once the device has done them."""
    wait(size)
    turn.end_training()


def raw(project: Project, size: Size, cfg: Any, turn: Turn) -> None:
    """A loop by hand, whose data are gathered by hand too."""
    from ..contenders.loops import train_by_hand

    training = project.module("training")
    datamodule = training.build_datamodule(cfg)
    limits = cfg.trainer.limit_train_batches, cfg.trainer.limit_val_batches
    train = OnDevice(datamodule.train_dataloader(), size.device, limits[0], shuffles=True)
    val = OnDevice(datamodule.val_dataloader(), size.device, limits[1], shuffles=False)
    net = training.build_model(cfg, datamodule).net.to(size.device)
    epochs = cfg.trainer.max_epochs
    train_by_hand(
        net,
        train,
        val,
        epochs,
        epochs * len(train),
        partial(next_epoch, size, turn),
        precision_of(cfg, size),
        partial(end_training, size, turn),
    )


def precision_of(cfg: Any, size: Size) -> Callable[[], AbstractContextManager[Any]]:
    """The precision of a config, for the raw loop."""
    import torch

    is_mixed = cfg.trainer.precision == "bf16-mixed"
    return partial(torch.autocast, size.device, dtype=torch.bfloat16, enabled=is_mixed)


def waits(size: Size, turn: Turn) -> Any:
    """A callback that waits for the turn."""
    from pytorch_lightning import Callback

    class Waits(Callback):
        def on_train_epoch_start(self, *args: Any) -> None:
            next_epoch(size, turn)

        def on_validation_start(self, trainer: Any, *args: Any) -> None:
            if not trainer.sanity_checking:
                end_training(size, turn)

    return Waits()


def bare(project: Project, size: Size, cfg: Any, with_our_module: bool, turn: Turn) -> None:
    """Lightning's fastest trainer, over our loaders."""
    from pytorch_lightning import Trainer

    from ..contenders.loops import Bare

    training = project.module("training")
    datamodule = training.build_datamodule(cfg)
    model = training.build_model(cfg, datamodule)
    trainer = Trainer(
        barebones=True,
        accelerator=cfg.trainer.accelerator,
        devices=1,
        precision=cfg.trainer.precision,
        max_epochs=cfg.trainer.max_epochs,
        limit_train_batches=cfg.trainer.limit_train_batches,
        limit_val_batches=cfg.trainer.limit_val_batches,
        callbacks=[waits(size, turn)],
    )
    trainer.fit(model if with_our_module else Bare(model.net), datamodule)


def ours(project: Project, size: Size, options: Sequence[str], turn: Turn) -> None:
    """What `train.py` does with these options."""
    train_with(project, options, waits(size, turn))


def train_with(project: Project, options: Sequence[str], callback: Any) -> None:
    """Train as `train.py` does, with one more callback before all others."""
    from pytorch_lightning import Trainer

    plain = Trainer.fit

    def fit(trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        trainer.callbacks.insert(0, callback)  # type: ignore[attr-defined]
        plain(trainer, *args, **kwargs)

    Trainer.fit = fit  # type: ignore[assignment,method-assign]
    project.train(*options)
