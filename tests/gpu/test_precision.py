"""Losses, outputs and weights on the GPU against those of the CPU in float32, in every precision.

How far rounding may take a training from that of the CPU is measured, by Monte Carlo arithmetic
(Parker 1997): the CPU trains again in float32, and the result of every layer and the gradient of
every weight are multiplied by 1 + r, with random r of at most one unit roundoff of the format. The
outputs of a network differ in proportion to the unit. Its gradient may not: a rounded activation
may change the sign that ReLU looks at. ResNet-18 has many of them, and batch normalization passes a
change on to all samples: its first update differs by 10% with TF32, by 30% with bfloat16, and its
fifth by 17% already if float64 replaces float32. That of a small network differs by 3%.

The perturbation stands for the rounding of results. A device also rounds the weights, the inputs
and the gradients on their way back, and sums in another order: it may be FACTOR times as far away.
"""

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..conftest import BakedProject
from ..support.training_runs import TrainedRun
from .conftest import Measured
from .device import IS_GPU, NO_MORE, train

STEPS = 5
BATCH = 32
DRAWS = 2
FACTOR = 3
# float16 and TF32 have 11 significant bits, bfloat16 has 8. Float32 has 24, but rounds after every
# addition: the longest sum, a gradient of the GPT over 4,096 positions, may lose 6 bits.
FLOAT32, TF32, BFLOAT16 = 2.0**-18, 2.0**-11, 2.0**-8
UNITS = {"32-true": FLOAT32, "bf16-mixed": BFLOAT16, "16-mixed": 2.0**-11, "bf16-true": BFLOAT16}
TYPES = {
    "32-true": "torch.float32",
    "bf16-mixed": "torch.bfloat16",
    "16-mixed": "torch.float16" if IS_GPU else "torch.bfloat16",  # Lightning's choice on a CPU
    "bf16-true": "torch.bfloat16",
}
# A tensor whose update differs more than this between two draws says nothing.
KNOWN = 0.5
CPU = ("trainer.accelerator=cpu", "trainer.precision=32-true")
COMMON = (
    *("optimizer=sgd", "optimizer.lr=0.01", "optimizer.momentum=0", "optimizer.nesterov=false"),
    *(
        "scheduler=constant",
        f"data.batch_size={BATCH}",
        f"trainer.limit_train_batches={STEPS}",
        "trainer.max_epochs=1",
    ),
    *("trainer.limit_val_batches=1", "trainer.num_sanity_val_steps=0", "test=false"),
    *("logger=csv", "trainer.log_every_n_steps=1", "seed=1"),
)
CIFAR = (
    *("experiment=cifar10_resnet", "data._target_=gpu_parts.MadeUpCIFAR"),
    *("data.shift=0", "data.flip=false"),
)


# Each model, and whether it has convolutions, for which cuDNN rounds float32 to TF32.
CASES: dict[str, tuple[tuple[str, ...], bool]] = {
    "mlp": (("experiment=digits", "model=mlp", "model.net.dropout=0"), False),
    "cnn": (("experiment=digits",), True),
    "cifar_cnn": ((*CIFAR, "model=cnn"), True),
    "cifar_resnet18": (CIFAR, True),
    "gpt": (("experiment=text",), False),
}
GROUPS = {"32-true": "11 bits", "16-mixed": "11 bits"}
# Each training of each format; those with the same perturbed ones run in one process.
EACH = [
    pytest.param(
        name, precision, marks=pytest.mark.xdist_group(f"{name} {GROUPS.get(precision, precision)}")
    )
    for name in CASES
    for precision in UNITS
]
Tensors = dict[str, Any]


@dataclass(frozen=True)
class Trained:
    """The losses and outputs of each step, the type of the results, and the updates.

    Attributes:
        losses: as logged.
        outputs: of the network, in training; none if it was compiled.
        types: of the results of linear and convolutional layers.
        weights: after the last step.
        first: by how much the first step changed the weights.
        all: by how much all steps did.
    """

    losses: list[float]
    outputs: list[Any]
    types: list[str]
    weights: Tensors
    first: Tensors
    all: Tensors


def norm(tensors: Iterable[Any]) -> float:
    """The Euclidean norm of all values."""
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def distance(one: Tensors, other: Tensors) -> float:
    """The norm of the difference."""
    return norm(one[name] - value for name, value in other.items())


def rms(values: Sequence[float]) -> float:
    """The root of the mean square."""
    return math.sqrt(sum(value**2 for value in values) / len(values))


def trained(run: TrainedRun, folder: Path) -> Trained:
    """Read what a run left."""
    import torch

    with (run.folder / "csv" / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = [row.get("train/loss_step") for row in csv.DictReader(file)]
    states = [
        torch.load(folder / f"{n}.pt", map_location="cpu") for n in ("initial", "first", "final")
    ]
    seen = torch.load(folder / "seen.pt")
    names = [n for n in states[0] if n.startswith("net.") and states[0][n].is_floating_point()]
    names = [n for n in names if "running_" not in n]
    initial, first, last = ({n: state[n].float() for n in names} for state in states)
    return Trained(
        losses=[float(loss) for loss in rows if loss],
        outputs=seen["outputs"],
        types=seen["types"],
        weights={n: states[2][n] for n in names},
        first={n: first[n] - initial[n] for n in names},
        all={n: last[n] - initial[n] for n in names},
    )


class Trainings:
    """Trainings of a project, each of which runs once."""

    def __init__(self, project: BakedProject, new_folder: Callable[[str], Path]) -> None:
        self.project, self.new_folder = project, new_folder
        self.found: dict[tuple[str, ...], Trained] = {}

    def run(
        self, name: str, *options: str, more: Mapping[str, str] = NO_MORE, **record: object
    ) -> Trained:
        """Train a model with further options.

        Args:
            name: the model.
            options: those of the command.
            more: environment variables.
            record: options of the callback that writes down what happened.
        """
        key = (name, *options, *more, *(f"{k}={v}" for k, v in record.items()))
        if key not in self.found:
            folder = self.new_folder(name)
            record = {"_target_": "gpu_parts.Record", "folder": folder / "record", **record}
            callback = ",".join(f"{k}:{v}" for k, v in record.items())
            words = (*CASES[name][0], *COMMON, f"+callbacks.record={{{callback}}}", *options)
            done = train(self.project, folder / "run", *words, more=more)
            self.found[key] = trained(done, folder / "record")
        return self.found[key]

    def on_cpu(self, name: str, unit: float, stored: str = "null") -> tuple[Trained, list[Trained]]:
        """The training with which to compare, and those with perturbations."""
        draws = [
            self.run(name, *CPU, stored=stored, perturb=unit, draw=draw) for draw in range(DRAWS)
        ]
        return self.run(name, *CPU, stored=stored), draws


@pytest.fixture(scope="module")
def trainings(project: BakedProject, tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    """Those of this module."""
    return Trainings(project, tmp_path_factory.mktemp)


def compare(found: Trained, expected: Trained, draws: list[Trained]) -> str:
    """Check losses, outputs and weights; how much of the tolerance they used."""
    assert len(found.losses) == len(expected.losses) == STEPS
    # The outputs of a compiled network are not recorded.
    assert len(found.outputs) in (0, STEPS)
    used = {
        f"outputs of step {step + 1}": norm([one - expected.outputs[step]])
        / spread([norm([draw.outputs[step] - expected.outputs[step]]) for draw in draws])
        for step, one in enumerate(found.outputs)
    }
    for part in ("first", "all"):
        update = getattr(expected, part)
        assert norm(update.values()) > 0
        away = [distance(getattr(draw, part), update) for draw in draws]
        used[f"{part} updates"] = distance(getattr(found, part), update) / spread(away)
    for step, (loss, other) in enumerate(zip(found.losses, expected.losses, strict=True)):
        # The cross-entropy changes by at most sqrt(2) times as much as the logits of a sample.
        logits = expected.outputs[step]
        away = [norm([draw.outputs[step] - logits]) for draw in draws]
        samples = logits.numel() / logits.shape[-1]
        limit = math.sqrt(2 / samples) * spread(away) + FLOAT32 * other
        used[f"loss of step {step + 1}"] = abs(loss - other) / limit
    known, wrong = lengths(found.first, expected.first, [draw.first for draw in draws])
    most = max(used, key=lambda name: used[name])
    differs = distance(found.first, expected.first) / norm(expected.first.values())
    text = (
        f"first loss {found.losses[0]:.7f}, CPU {expected.losses[0]:.7f}; first update differs by "
        f"{differs:.1e}; of the tolerance: {used[most]:.2f} ({most}), "
        f"{used['first updates']:.2f} (first update), {used['loss of step 1']:.2f} (first loss)"
        f"; {known} of {len(expected.first)} tensors"
    )
    assert used[most] < 1, f"{text}; {used}"
    assert not wrong, f"{text}; {wrong}"
    return text


def spread(distances: Sequence[float]) -> float:
    """The tolerance for something that differs by these distances in the draws."""
    return FACTOR * rms(distances)


def lengths(
    found: Tensors, expected: Tensors, draws: Sequence[Tensors]
) -> tuple[int, dict[str, float]]:
    """How many tensors say something, and those with a wrong length along the expected update.

    A layer that is not trained has length 0, one with a wrong scale that scale.
    """
    known, wrong = 0, {}
    for name, update in expected.items():
        size = norm([update])
        if rms([norm([draw[name] - update]) for draw in draws]) >= KNOWN * size:
            continue
        known += 1
        length = float((found[name].double() * update.double()).sum()) / size**2
        if not 1 - KNOWN < length < 1 + KNOWN:
            wrong[name] = length
    return known, wrong


@pytest.mark.parametrize(("name", "precision"), EACH)
def test_precision_agrees_with_the_cpu(
    name: str, precision: str, trainings: Trainings, measured: Measured
) -> None:
    """A model tuned on a laptop must be the same model on the GPU, but for rounding."""
    found = trainings.run(name, f"trainer.precision={precision}")
    assert found.types == [TYPES[precision]]
    is_half = precision == "bf16-true"
    assert {str(value.dtype) for value in found.weights.values()} == {
        "torch.bfloat16" if is_half else "torch.float32"
    }
    unit = UNITS[precision]
    unit = TF32 if precision == "32-true" and CASES[name][1] and IS_GPU else unit
    unit = BFLOAT16 if TYPES[precision] == "torch.bfloat16" else unit
    measured(compare(found, *trainings.on_cpu(name, unit, "bfloat16" if is_half else "null")))


def test_float32_without_tf32(trainings: Trainings, measured: Measured, needs_gpu: None) -> None:
    """With NVIDIA_TF32_OVERRIDE=0 a convolution has all digits of float32."""
    found = trainings.run("cnn", "trainer.precision=32-true", more={"NVIDIA_TF32_OVERRIDE": "0"})
    measured(compare(found, *trainings.on_cpu("cnn", FLOAT32)))


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        pytest.param("mlp", "32-true", marks=pytest.mark.xdist_group("compiled mlp")),
        pytest.param("cnn", "bf16-mixed", marks=pytest.mark.xdist_group("compiled cnn")),
        pytest.param("gpt", "bf16-mixed", marks=pytest.mark.xdist_group("compiled gpt")),
    ],
)
def test_compiled_agrees_with_the_cpu(
    name: str, precision: str, trainings: Trainings, measured: Measured
) -> None:
    """compile=true fuses operations, and must not change what is learned."""
    found = trainings.run(name, f"trainer.precision={precision}", "compile=true", hooks="false")
    measured(compare(found, *trainings.on_cpu(name, UNITS[precision])))
