"""Losses and weights on the GPU against those of the CPU in float32, in every precision.

The tolerance follows from the format. A layer rounds its weights, inputs and outputs, and the
normalization rounds once more: four relative errors of at most one unit roundoff each. Those of
different layers are independent, so they add up to 4 * sqrt(layers) units. The loss is a mean over
independent samples, which divides its error by the root of their number. A gradient has the errors
of both passes, and every optimizer step adds its own.
"""

import csv
import math
from collections.abc import Callable, Mapping
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
# float16 and TF32 have 11 significant bits, bfloat16 has 8, float32 has 24.
UNITS = {"32-true": 2.0**-24, "bf16-mixed": 2.0**-8, "16-mixed": 2.0**-11, "bf16-true": 2.0**-8}
TF32 = 2.0**-11
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


@dataclass(frozen=True)
class Case:
    """A model, its number of layers with weights, and the length of its longest sum."""

    options: tuple[str, ...]
    layers: int
    longest: int
    convolves: bool


CASES = {
    "mlp": Case(("experiment=digits", "model=mlp", "model.net.dropout=0"), 3, 256, False),
    # The gradient of a convolution is a sum over all positions of a batch.
    "cnn": Case(("experiment=digits",), 3, 32 * 8 * 8, True),
    "cifar_cnn": Case((*CIFAR, "model=cnn"), 3, 32 * 32 * 32, True),
    "cifar_resnet18": Case(CIFAR, 18, 32 * 32 * 32, True),
    # Two embeddings, and four blocks of four layers; a gradient is a sum over all positions.
    "gpt": Case(("experiment=text",), 18, 32 * 128, False),
}
EACH = [pytest.param(name, marks=pytest.mark.xdist_group(f"precision {name}")) for name in CASES]


@dataclass(frozen=True)
class Trained:
    """Losses of each step, and weights before and after."""

    losses: list[float]
    before: dict[str, Any]
    after: dict[str, Any]

    def distance(self, other: dict[str, Any]) -> float:
        """The norm of the difference between these weights and other ones."""
        return norm(other[name].float() - value.float() for name, value in self.after.items())


def norm(tensors: Any) -> float:
    """The Euclidean norm of all values."""
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def trained(run: TrainedRun, initial: Path) -> Trained:
    """Read what a run left."""
    import torch

    with (run.folder / "csv" / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = [row.get("train/loss_step") for row in csv.DictReader(file)]
    losses = [float(loss) for loss in rows if loss]
    before = torch.load(initial, map_location="cpu", weights_only=True)
    after = torch.load(run.checkpoint("last"), map_location="cpu", weights_only=True)["state_dict"]
    names = [name for name in after if name.startswith("net.") and after[name].is_floating_point()]
    names = [name for name in names if "running_" not in name]
    return Trained(losses, {n: before[n] for n in names}, {n: after[n] for n in names})


@pytest.fixture(scope="module")
def run(project: BakedProject, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trained]:
    """Trains a model with further options, and caches it."""
    found: dict[tuple[str, ...], Trained] = {}

    def run_case(name: str, *options: str, more: Mapping[str, str] = NO_MORE) -> Trained:
        key = (name, *options, *more)
        if key not in found:
            folder = tmp_path_factory.mktemp(name)
            save = f"+callbacks.save={{_target_:gpu_parts.SaveInitial,path:{folder}/initial.pt}}"
            words = (*CASES[name].options, *COMMON, save, *options)
            done = train(project, folder / "run", *words, more=more)
            found[key] = trained(done, folder / "initial.pt")
        return found[key]

    return run_case


def compare(case: Case, found: Trained, expected: Trained, unit: float, stored: float) -> str:
    """Check losses and weights; how much of the tolerance they used.

    Args:
        case: the model.
        found: the training to check.
        expected: the one on the CPU.
        unit: the unit roundoff of the operations.
        stored: that of the weights.
    """
    assert len(found.losses) == len(expected.losses) == STEPS
    # Sums of float32 are rounded after each addition; the other formats are summed in float32.
    growth = 4 * math.sqrt(case.layers) * (math.sqrt(case.longest) if unit == 2.0**-24 else 1)
    pairs = zip(found.losses, expected.losses, strict=True)
    used = [
        abs(one - other) / (growth * unit * max(1.0, other) * (step + 1) / math.sqrt(BATCH))
        for step, (one, other) in enumerate(pairs)
    ]
    moved = expected.distance(expected.before)
    assert moved > 0
    size = norm(expected.after.values())
    # The gradient has the errors of the forward and of the backward pass.
    tolerance = 2 * growth * unit * STEPS * moved + stored * math.sqrt(STEPS) * size
    weights = found.distance(expected.after) / tolerance
    largest = max(
        abs(one - other) for one, other in zip(found.losses, expected.losses, strict=True)
    )
    text = (
        f"first loss {found.losses[0]:.7f}, CPU {expected.losses[0]:.7f}; largest difference "
        f"{largest:.1e}, {max(used):.2f} of the tolerance; weights {weights:.2f} of theirs"
    )
    assert max(used) < 1, text
    assert weights < 1, text
    return text


@pytest.mark.parametrize("precision", UNITS)
@pytest.mark.parametrize("name", EACH)
def test_precision_agrees_with_the_cpu(
    name: str, precision: str, run: Callable[..., Trained], measured: Measured
) -> None:
    """A model tuned on a laptop must be the same model on the GPU, but for rounding."""
    case = CASES[name]
    expected = run(name, "trainer.accelerator=cpu", "trainer.precision=32-true")
    found = run(name, f"trainer.precision={precision}")
    unit = UNITS[precision]
    # cuDNN rounds the inputs of float32 convolutions to TF32.
    unit = TF32 if precision == "32-true" and case.convolves and IS_GPU else unit
    # On a CPU, Lightning replaces 16-mixed by bf16-mixed.
    unit = UNITS["bf16-mixed"] if precision == "16-mixed" and not IS_GPU else unit
    stored = unit if precision == "bf16-true" else 2.0**-24
    measured(compare(case, found, expected, unit, stored))
    if precision != "32-true":
        assert found.losses != expected.losses, "the precision had no effect"
    is_half = precision == "bf16-true"
    assert {str(value.dtype) for value in found.after.values()} == {
        "torch.bfloat16" if is_half else "torch.float32"
    }


@pytest.mark.parametrize("name", EACH[1:2])
def test_float32_without_tf32(
    name: str, run: Callable[..., Trained], measured: Measured, needs_gpu: None
) -> None:
    """With NVIDIA_TF32_OVERRIDE=0 a convolution has all digits of float32."""
    expected = run(name, "trainer.accelerator=cpu", "trainer.precision=32-true")
    found = run(name, "trainer.precision=32-true", more={"NVIDIA_TF32_OVERRIDE": "0"})
    measured(compare(CASES[name], found, expected, 2.0**-24, 2.0**-24))


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        pytest.param("mlp", "32-true", marks=pytest.mark.xdist_group("compiled mlp")),
        pytest.param("cnn", "bf16-mixed", marks=pytest.mark.xdist_group("compiled cnn")),
        pytest.param("gpt", "bf16-mixed", marks=pytest.mark.xdist_group("compiled gpt")),
    ],
)
def test_compiled_agrees_with_the_cpu(
    name: str, precision: str, run: Callable[..., Trained], measured: Measured
) -> None:
    """compile=true fuses operations, and must not change what is learned."""
    case = CASES[name]
    expected = run(name, "trainer.accelerator=cpu", "trainer.precision=32-true")
    found = run(name, f"trainer.precision={precision}", "compile=true")
    unit = UNITS[precision]
    measured(compare(case, found, expected, unit, 2.0**-24))
