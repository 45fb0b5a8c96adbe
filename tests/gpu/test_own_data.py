"""One's own images and texts: pretrained networks with frozen parts, encoders, language models."""

from pathlib import Path

import pytest

from ..conftest import BakedProject
from ..support.digit_files import SIDE, write_digits
from ..support.in_process import EVERY_EPOCH
from ..support.labelled_texts import save_bert, write_orders
from ..support.training_runs import TrainedRun, changed_layers
from .conftest import Measured
from .device import HIDDEN, IS_GPU, evaluate, interrupt, train

SHORT = ("logger=none", "callbacks.early_stopping.patience=99")
TUNED = (
    *("experiment=finetune", "model.backbone=torchvision/resnet18", "model.weights=null"),
    *(f"data.height={SIDE}", f"data.width={SIDE}", "data.shift=2", "data.batch_size=8"),
    *("model.num_parts=2", "callbacks.unfreezing.freeze_epochs=1", *SHORT),
)
BATCHES = 7  # of 56 images
TEXTS = ("data.text=review", "data.target=label", "trainer.max_epochs=6", *SHORT)
# Rounding of TF32.
TF32 = 0.02


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Zeros and ones, 40 images each."""
    root = tmp_path_factory.mktemp("images")
    for digit in (0, 1):
        write_digits(root / str(digit), digit, 0, 40)
    return root


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts whose label is the order of two words."""
    return write_orders(tmp_path_factory.mktemp("texts") / "orders.csv")


def loss_on_cpu(project: BakedProject, run: TrainedRun, folder: Path) -> float:
    """The loss of the test, which a machine without a GPU computes."""
    options = ("trainer=cpu", "analyses=[]")
    return evaluate(project, run, folder, *options, more=HIDDEN)["test/loss"]


@pytest.mark.xdist_group("own data 0")
def test_frozen_parts_keep_their_weights(
    project: BakedProject, images: Path, tmp_path: Path, measured: Measured
) -> None:
    """Statistics of batch normalization included: a pretrained network would be spoilt."""
    options = (*TUNED, f"data.path={images}", "trainer.max_epochs=3", *EVERY_EPOCH)
    run = train(project, tmp_path / "run", *options)
    first, second, third = (run.saved(f"epoch-{epoch}")["state_dict"] for epoch in range(3))
    # Epoch 1 trains the upper part too, epoch 2 everything.
    upper = changed_layers(first, second)
    assert {"fc", "layer4"} <= upper
    assert not upper & {"conv1", "bn1", "layer1"}
    assert {"fc", "layer4", "conv1", "bn1", "layer1"} <= changed_layers(second, third)
    reported = run.metrics["test"]["test/loss"]
    on_cpu = loss_on_cpu(project, run, tmp_path / "cpu")
    assert on_cpu == pytest.approx(reported, abs=TF32, rel=TF32)
    measured(f"unfrozen first: {', '.join(sorted(upper))}; test/loss {reported:.6f}, {on_cpu:.6f}")


@pytest.mark.xdist_group("own data 1")
def test_fine_tuning_resumes_within_a_phase(
    project: BakedProject, images: Path, tmp_path: Path, measured: Measured
) -> None:
    """The parts that train follow from the epoch, also in the middle of it."""
    options = (*TUNED, f"data.path={images}", "trainer.deterministic=true", "trainer.max_epochs=3")
    runs = interrupt(project, tmp_path, BATCHES + 3, *options)
    assert not runs.differences()
    measured(f"interrupted after batch {BATCHES + 3} of {3 * BATCHES}; equal to the last bit")


@pytest.mark.xdist_group("own data 2")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_encoder_learns_the_order_of_words(
    precision: str, project: BakedProject, orders: Path, tmp_path: Path, measured: Measured
) -> None:
    """Padding is masked by other kernels on a GPU. 120 guesses exceed 0.9 with p < 1e-19."""
    net = ("model.net.width=32", "model.net.depth=1", "model.net.heads=2", "optimizer.lr=5e-3")
    options = ("experiment=text_csv", *net, "data.max_length=64", *TEXTS)
    run = train(
        project, tmp_path / "run", *options, f"data.path={orders}", f"trainer.precision={precision}"
    )
    assert run.metrics["test"]["test/acc"] > 0.9
    reported = run.metrics["test"]["test/loss"]
    on_cpu = loss_on_cpu(project, run, tmp_path / "cpu")
    assert on_cpu == pytest.approx(reported, abs=TF32)
    measured(f"test/acc {run.metrics['test']['test/acc']:.3f}; loss {reported:.6f}, {on_cpu:.6f}")


@pytest.mark.xdist_group("own data 3")
def test_network_of_transformers_is_tuned(
    project: BakedProject, orders: Path, tmp_path: Path, measured: Measured
) -> None:
    """A tiny BERT with its tokenizer. 120 guesses exceed 0.75 with p < 1e-7."""
    pytest.importorskip("transformers")
    save_bert(tmp_path / "bert")
    options = (
        *("experiment=text_finetune", f"model.backbone=hf/{tmp_path}/bert", "data.max_length=20"),
        *(f"data.tokenizer={tmp_path}/bert", "callbacks.unfreezing.freeze_epochs=1"),
        *("model.num_parts=2", "model.rate_decay=1", "optimizer.lr=5e-3", *TEXTS),
    )
    run = train(project, tmp_path / "run", *options, f"data.path={orders}", "trainer.max_epochs=12")
    assert run.metrics["test"]["test/acc"] > 0.75
    measured(f"test/acc {run.metrics['test']['test/acc']:.3f}")


@pytest.mark.xdist_group("own data 3")
def test_language_model_trains(project: BakedProject, tmp_path: Path, measured: Measured) -> None:
    """Guessing from the frequencies of characters takes about 4.5 bits for each."""
    few = ("trainer.limit_train_batches=60", "trainer.max_epochs=2")
    run = train(project, tmp_path, "experiment=text", *few, *SHORT)
    bits = run.metrics["final"]["val/bpc"]
    assert 1 < bits < 4.5
    measured(f"val/bpc {bits:.3f} after 120 steps, {'GPU' if IS_GPU else 'CPU'}")
