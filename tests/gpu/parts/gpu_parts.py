"""Callbacks and data that commands import by name; `demo` is the project's package."""

import json
import os
import signal
import time
from contextlib import suppress
from multiprocessing import parent_process
from pathlib import Path

import numpy as np
import torch
from demo.data.torchvision_images import CIFAR10DataModule
from pytorch_lightning import Callback

from workbench.data.image_arrays import ImageArrays

CLASSES = 10


class MadeUpCIFAR(CIFAR10DataModule):
    """Images of CIFAR-10's shape: noise whose colour tells the class."""

    def prepare_data(self):
        """There is nothing to download."""

    def read(self):
        """480 images for training and validation, 60 for the test."""
        random = np.random.default_rng(0)
        labels = np.arange(540) % CLASSES
        colours = random.uniform(40, 215, (CLASSES, 3))
        pixels = random.normal(0, 25, (len(labels), 3, 32, 32)) + colours[labels][..., None, None]
        return ImageArrays(
            torch.from_numpy(pixels.clip(0, 255).astype(np.uint8)),
            torch.from_numpy(labels),
            [f"class {number}" for number in range(CLASSES)],
            test_count=60,
        )


class Interrupt(Callback):
    """Sends Ctrl-C at a batch, counted from 1 over the epochs."""

    def __init__(self, batch):
        self.batch = batch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        """Send it."""
        if trainer.fit_loop.total_batch_idx + 1 == self.batch:
            os.kill(os.getpid(), signal.SIGINT)


class Cap(Callback):
    """Lets this process use no more than some memory of the GPU."""

    def __init__(self, megabytes):
        if torch.cuda.is_available():
            total = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(megabytes * 1e6 / total)


class Hog(Callback):
    """Allocates blocks until there is no more memory, or until it has enough."""

    def __init__(self, blocks, megabytes=256):
        self.blocks, self.megabytes = blocks, megabytes

    def on_train_start(self, trainer, pl_module):
        """Allocate."""
        size = self.megabytes * 10**6
        if pl_module.device.type == "cpu" and self.blocks > 100:
            size *= 10**6  # refused at once
        for _ in range(self.blocks):
            self.held = (
                getattr(self, "held", None),
                torch.empty(size, dtype=torch.uint8, device=pl_module.device),
            )


class Leak(Callback):
    """Keeps more of every epoch, as a list of outputs would."""

    def __init__(self, megabytes):
        self.megabytes, self.kept = megabytes, []

    def on_train_epoch_start(self, trainer, pl_module):
        """Keep some more; written to, because Linux provides memory only then."""
        self.kept.append(torch.rand(self.megabytes * 250_000, device=pl_module.device))


class MemoryWitness(Callback):
    """Holds an allocation of known size, and writes down what `torch.cuda` says each epoch."""

    def __init__(self, megabytes, path):
        self.megabytes, self.path, self.rows = megabytes, Path(path), []

    def on_train_start(self, trainer, pl_module):
        """Allocate."""
        size = self.megabytes * 10**6
        self.held = torch.zeros(size, dtype=torch.uint8, device=pl_module.device)

    def on_train_end(self, trainer, pl_module):
        """Write."""
        row = {"device": pl_module.device.type}
        if pl_module.device.type == "cuda":
            row["allocated"] = torch.cuda.max_memory_allocated()
            row["reserved"] = torch.cuda.max_memory_reserved()
            row["used"] = gpu_memory_of(os.getpid())
        self.path.write_text(json.dumps(row))


class TrialWitness(Callback):
    """Writes down what a trial sees of the GPU, and what its parents have opened.

    Args:
        folder: where each trial leaves a file.
        at_once: the number of trials to wait for, so that they overlap.
        megabytes: held while the trial runs.
    """

    def __init__(self, folder, at_once, megabytes=0):
        self.folder, self.at_once, self.megabytes = Path(folder), at_once, megabytes
        self.facts = {}

    def on_train_start(self, trainer, pl_module):
        """Look around, and wait for the others."""
        self.folder.mkdir(parents=True, exist_ok=True)
        parent = parent_process()
        pids = {"trial": os.getpid(), "server": os.getppid()}
        pids["sweep"] = parent.pid if parent is not None else None
        self.facts = {
            "trial": Path(trainer.default_root_dir).name,
            "start": time.monotonic(),
            "device": str(pl_module.device),
            "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "devices": torch.cuda.device_count(),
            "threads": torch.get_num_threads(),
            "pids": pids,
        }
        if pl_module.device.type == "cuda":
            self.facts["free"] = torch.cuda.mem_get_info()[0]
            self.held = torch.zeros(
                self.megabytes * 10**6, dtype=torch.uint8, device=pl_module.device
            )
        self.facts["files"] = {name: device_files(pid) for name, pid in pids.items()}
        self.facts["contexts"] = pids_on_gpu()
        (self.folder / f"{os.getpid()}.started").touch()
        end = time.monotonic() + 30
        while len(list(self.folder.glob("*.started"))) < self.at_once and time.monotonic() < end:
            time.sleep(0.05)

    def on_train_end(self, trainer, pl_module):
        """Write."""
        self.facts["end"] = time.monotonic()
        (self.folder / f"{os.getpid()}.json").write_text(json.dumps(self.facts))


def device_files(pid):
    """The device files of the GPU that a process has opened; None if it cannot be seen."""
    try:
        entries = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return None
    found = set()
    for entry in entries:
        with suppress(OSError):
            target = str(entry.readlink())
            if "nvidia" in target or "dxg" in target:
                found.add(target)
    return sorted(found)


def pids_on_gpu():
    """The processes with a CUDA context, according to the driver; None if it does not tell."""
    try:
        return sorted(process.pid for process in gpu_processes())
    except Exception:
        return None


def gpu_memory_of(pid):
    """Bytes of GPU memory that the driver accounts to a process; None if it does not tell."""
    try:
        return next(p.usedGpuMemory for p in gpu_processes() if p.pid == pid)
    except Exception:
        return None


def gpu_processes():
    """The processes with a context on any GPU."""
    import pynvml

    pynvml.nvmlInit()
    return [
        process
        for index in range(pynvml.nvmlDeviceGetCount())
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(
            pynvml.nvmlDeviceGetHandleByIndex(index)
        )
    ]


class Record(Callback):
    """Writes down what a training computes, for a comparison with another one.

    Args:
        folder: for the weights before and after the first step, and the outputs of every step.
        perturb: multiply what every layer returns, and the gradients of its weights, by 1 + r,
            with |r| of at most this.
        draw: the seed of r.
        stored: round the weights to this type after every step, which are held in float32.
        hooks: look at layers and outputs, which would change what is compiled.
    """

    def __init__(self, folder, perturb=0.0, draw=0, stored=None, hooks=True):
        self.folder, self.perturb, self.hooks = Path(folder), perturb, hooks
        self.stored = getattr(torch, stored) if stored else None
        self.random = torch.Generator().manual_seed(draw)
        self.outputs, self.types = [], set()

    def on_fit_start(self, trainer, pl_module):
        """Save the initial weights, and look at every layer from now on."""
        self.round(pl_module)
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.save(pl_module.state_dict(), self.folder / "initial.pt")
        for layer in pl_module.net.modules() if self.hooks else ():
            if list(layer.parameters(recurse=False)):
                layer.register_forward_hook(self.on_forward)
        for weight in pl_module.net.parameters() if self.perturb else ():
            weight.register_hook(self.perturbed)
        if self.hooks:
            pl_module.net.register_forward_hook(self.on_output)

    def on_output(self, net, inputs, output):
        """Keep what the network has returned in training."""
        if net.training:
            self.outputs.append(output.detach().float().cpu())

    def on_forward(self, layer, inputs, output):
        """Note the type of a result of many sums; replace any result by a perturbed one."""
        if not layer.training or not isinstance(output, torch.Tensor):
            return None
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            self.types.add(str(output.dtype))
        return self.perturbed(output) if self.perturb else None

    def perturbed(self, values):
        """The values with random relative errors."""
        noise = torch.rand(values.shape, generator=self.random) * 2 - 1
        return values * (1 + self.perturb * noise)

    def round(self, pl_module):
        """Round the weights."""
        if self.stored is not None:
            with torch.no_grad():
                for weight in pl_module.net.parameters():
                    weight.copy_(weight.to(self.stored))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        """Save the weights after the first step."""
        self.round(pl_module)
        if batch_idx == 0:
            torch.save(pl_module.state_dict(), self.folder / "first.pt")

    def on_train_end(self, trainer, pl_module):
        """Write what is left."""
        torch.save(pl_module.state_dict(), self.folder / "final.pt")
        torch.save({"outputs": self.outputs, "types": sorted(self.types)}, self.folder / "seen.pt")
