"""Two processes on the CPU: what goes wrong there goes wrong on eight rented GPUs."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ..conftest import BakedProject
from ..support.training_runs import TrainedRun, evaluate, script, train

# All 1,168 training samples in every step: their order, which differs, then changes nothing.
WHOLE_SET = (
    "model=mlp",
    "model.net.dropout=0",
    "optimizer.lr=0.01",
    "trainer.max_epochs=12",
    "logger=none",
)


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def two(demo: BakedProject, log_dir: Path) -> TrainedRun:
    """A run of two processes, into a folder with a random name."""
    command = ("train.py", "trainer=ddp_cpu", "data.batch_size=584", f"paths.log_dir={log_dir}")
    done = script(demo, *command, *WHOLE_SET)
    (folder,) = (log_dir / "train" / "runs").iterdir()
    return TrainedRun(folder, done)


def test_two_processes_equal_one(
    demo: BakedProject, side_by_side: ThreadPoolExecutor, two: TrainedRun, tmp_path: Path
) -> None:
    """Gradients and metrics are those of all samples, not of the first process's half."""
    started = side_by_side.submit(
        train, demo, tmp_path / "one", *WHOLE_SET, "trainer=cpu", "data.batch_size=1168"
    )
    evaluated = evaluate(demo, two.checkpoint(), tmp_path / "evaluation")
    one = started.result().metrics
    for part in ("best", "final"):
        for name in ("train/loss", "train/acc", "val/loss", "val/acc"):
            # The gradients of two halves are added up in another order than those of the whole.
            assert two.metrics[part][name] == pytest.approx(one[part][name], rel=0.01), name
    assert two.metrics["test"]["test/acc"] == pytest.approx(one["test"]["test/acc"], abs=0.006)
    # The same weights: 359 samples, an odd number, of which none counts twice.
    assert two.metrics["test"] == pytest.approx(evaluated, rel=1e-5)
    assert two.metrics["test"]["test/acc"] > 0.85


def test_two_processes_leave_one_run(two: TrainedRun, log_dir: Path) -> None:
    """A second process must not make a folder, a log or a table of its own."""
    assert len(list(log_dir.rglob("run.json"))) == 1
    assert len(list(log_dir.rglob("*.log"))) == 1
    assert two.log.count("epoch 12/12") == two.printed.stdout.count("epoch 12/12") == 1
    assert two.printed.stdout.count("run folder   ") == 1
    assert two.manifest["status"] == "finished"
    assert two.manifest["config"]["trainer"]["devices"] == 2


def test_two_processes_pad_no_more_than_needed(two: TrainedRun) -> None:
    """Every process makes the steps of its share: twelve epochs of one step."""
    assert two.saved("last")["global_step"] == 12


def test_mistake_in_two_processes_is_told_once(demo: BakedProject, tmp_path: Path) -> None:
    """Both processes meet the mistake, and neither waits for the other."""
    options = ("trainer=ddp_cpu", "objective.metric=val/accuracy", f"hydra.run.dir={tmp_path}")
    done = script(demo, "train.py", *options, check=False)
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1
    assert "'val/acc'" in done.stderr
