"""Counts the calls of a training that make the program wait for a GPU.

On a CUDA device PyTorch itself tells (`torch.cuda.set_sync_debug_mode`). On the CPU the same code
is watched for calls that would wait for a GPU if their tensors were on one, so that a machine
without a GPU can count as well: reading a value, and operators whose result has a size that depends
on values. It cannot tell copies between devices from those that stay on the CPU.
"""

import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
# They copy a value to the CPU: the value itself, or the size of their result. On CUDA,
# `bincount` does so for the smallest and the largest value.
OPERATORS = {
    aten._local_scalar_dense,
    aten._unique2,
    aten.bincount,
    aten.equal,
    aten.is_nonzero,
    aten.masked_select,
    aten.nonzero,
    aten.repeat_interleave,
    aten.unique_consecutive,
    aten.unique_dim,
}
# They look for the positions where a mask is true.
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
# On the CPU they call no operator.
METHODS = {
    torch.Tensor.cpu: "cpu",
    torch.Tensor.numpy: "numpy",
    torch.Tensor.tolist: "tolist",
    torch.Tensor.__array__: "numpy",
}
OF_TORCH = Path(torch.__file__).parent
OPTIMIZERS = OF_TORCH / "optim"


@dataclass(frozen=True)
class SyncCall:
    """A call that waits for the device.

    Attributes:
        step: the batch of the epoch after whose start it was called.
        what: the operator or method; on CUDA always "wait".
        place: file, line and function, the innermost outside of PyTorch first.
    """

    step: int
    what: str
    place: str


Tell = Callable[[str], None]


class WatchedOperators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tells of the operators that would wait for a GPU."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tell = tell

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        masks = packet in INDEXING and any(is_mask(index) for index in args[1])
        if packet in OPERATORS or masks:
            self.tell(packet.__name__)
        return func(*args, **(kwargs or {}))


def is_mask(index: Any) -> bool:
    """Whether an index selects by values."""
    return isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)


class WatchedMethods(TorchFunctionMode):
    """Tells of the methods that read a tensor without an operator."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self.tell = tell

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in METHODS:
            self.tell(METHODS[func])
        return func(*args, **(kwargs or {}))


@contextmanager
def on_cpu(tell: Tell) -> Iterator[None]:
    """Tell of calls that would wait for a GPU."""

    def unless_of_optimizer(what: str) -> None:
        # Their counters of steps are on the CPU, wherever the weights are.
        if not is_of_optimizer(traceback.extract_stack()):
            tell(what)

    with WatchedMethods(unless_of_optimizer), WatchedOperators(unless_of_optimizer):
        yield


def is_of_optimizer(frames: list[traceback.FrameSummary]) -> bool:
    """Whether an optimizer itself makes the call, and not the training step that it calls."""
    for frame in reversed(frames):
        path = Path(frame.filename)
        if path.is_relative_to(OPTIMIZERS):
            return True
        if not path.is_relative_to(OF_TORCH) and frame.filename != __file__:
            return False
    return False


@contextmanager
def on_cuda(tell: Tell) -> Iterator[None]:
    """Tell of calls that wait for the GPU."""

    def show(message: Warning | str, *args: Any, **kwargs: Any) -> None:
        if "synchronizing CUDA operation" in str(message):
            tell("wait")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


class SyncWatch(Callback):
    """Counts the calls of some steps of the first epoch; it has to be the first callback.

    Args:
        first: the first step that is watched.
        last: the step at whose start it stops.

    Attributes:
        calls: what was found.
    """

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.calls: list[SyncCall] = []
        self._step = 0
        self._watching: AbstractContextManager[None] | None = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start, stop or note that another step begins."""
        self._step = batch_idx
        if trainer.current_epoch == 0 and batch_idx == self.first:
            watch = on_cuda if pl_module.device.type == "cuda" else on_cpu
            self._watching = watch(self._note)
            self._watching.__enter__()
        elif batch_idx == self.last and self._watching is not None:
            self._watching.__exit__(None, None, None)
            self._watching = None

    def _note(self, what: str) -> None:
        self.calls.append(SyncCall(self._step, what, place()))

    def of_steps(self) -> list[int]:
        """Number of calls in each step."""
        steps = [call.step for call in self.calls]
        return [steps.count(step) for step in range(self.first, self.last)]


def place() -> str:
    """Where the caller was called from: the innermost line outside of PyTorch and this file.

    Of an installed package, also the line of the project that called it.
    """
    frames = [
        frame
        for frame in reversed(traceback.extract_stack())
        if not Path(frame.filename).is_relative_to(OF_TORCH) and frame.filename != __file__
    ]
    of_project = [frame for frame in frames if is_of_project(frame)]
    chosen = frames[:1] if frames[:1] == of_project[:1] else frames[:1] + of_project[:1]
    return ", called by ".join(map(line_of, chosen))


def is_of_project(frame: traceback.FrameSummary) -> bool:
    """Whether a line is neither in an installed package nor of this benchmark."""
    parts = Path(frame.filename).parts
    return not {"site-packages", "dist-packages", "benchmarks"}.intersection(parts)


def line_of(frame: traceback.FrameSummary) -> str:
    """File, line and function."""
    return f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno} {frame.name}"
