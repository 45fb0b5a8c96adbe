"""How much of the benchmark of a GPU is measured, on what, and in which time."""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Size:
    """How much is measured, and on what.

    Attributes:
        device: cuda or cpu.
        train: training images, a multiple of the batch size: each other size is compiled anew.
        val: validation images, likewise.
        classes: of the images.
        batch_size: images in a batch.
        text: options for the network that reads text.
        rounds: epochs of each contender, at most.
        with_our_module: networks for which Lightning barebones also trains our module, which tells
            the cost of metrics from that of callbacks.
        waves: of trials, of which each fills the device.
        packed: trials at once.
        trial_epochs: epochs of a trial.
        matrix: width of the matrices that are multiplied.
        watched: steps whose waiting calls are counted.
        log_every: steps from an entry in the log to the next.
    """

    device: str
    train: int
    val: int
    classes: int
    batch_size: int
    text: tuple[str, ...]
    rounds: int
    with_our_module: tuple[str, ...]
    waves: int
    packed: tuple[int, ...]
    trial_epochs: int
    matrix: int
    watched: int
    log_every: int

    @property
    def is_tiny(self) -> bool:
        """Whether the processor tries what a GPU is to run."""
        return self.device == "cpu"


# nanoGPT's "baby GPT" for characters, 10.7 million weights.
SMALL_GPT = (
    *("model.n_layer=6", "model.n_head=6", "model.n_embd=384"),
    *("data.block_size=256", "data.batch_size=64"),
    *("trainer.limit_train_batches=96", "trainer.limit_val_batches=8"),
)
TINY_GPT = (
    *("model.n_layer=1", "model.n_head=2", "model.n_embd=16"),
    *("data.block_size=16", "data.batch_size=4"),
    *("trainer.limit_train_batches=4", "trainer.limit_val_batches=1"),
)
# As many training images as CIFAR-10 has without its validation split.
ON_GPU = Size(
    device="cuda",
    train=88 * 512,
    val=10 * 512,
    classes=10,
    batch_size=512,
    text=SMALL_GPT,
    rounds=5,
    with_our_module=("resnet18", "gpt", "cnn"),
    waves=3,
    packed=(1, 2, 4, 8),
    trial_epochs=20,
    matrix=8192,
    watched=20,
    log_every=10,
)
# For less than six minutes.
SHORT = replace(ON_GPU, rounds=3, with_our_module=("cnn",), waves=2, packed=(1, 4, 8))
TINY = Size(
    device="cpu",
    train=24,
    val=4,
    classes=2,
    batch_size=4,
    text=TINY_GPT,
    rounds=1,
    with_our_module=("resnet18", "gpt", "cnn"),
    waves=1,
    packed=(1, 2),
    trial_epochs=1,
    matrix=64,
    watched=2,
    log_every=2,
)


@dataclass
class Budget:
    """The time for all parts together.

    Attributes:
        seconds: in all.
    """

    seconds: float
    _start: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - (time.monotonic() - self._start)

    def until(self, seconds: float) -> float:
        """When a part that may take so long ends, by `time.monotonic`."""
        return time.monotonic() + min(seconds, self.left)


def in_a_fork(function: Callable[[], Any]) -> Any:
    """What a function returns in a process of its own, which may use the GPU and then frees it.

    Raises:
        RuntimeError: it failed; with what it printed.
    """
    forks = multiprocessing.get_context("fork")
    ours, its = forks.Pipe(duplex=False)
    with tempfile.TemporaryFile() as said:

        def run() -> None:
            for stream in (1, 2):
                os.dup2(said.fileno(), stream)
            its.send(function())

        process = forks.Process(target=run)
        process.start()
        its.close()
        try:
            return ours.recv()
        except EOFError:
            process.join()
            said.seek(0)
            raise RuntimeError(said.read().decode(errors="replace")) from None
        finally:
            process.join()
