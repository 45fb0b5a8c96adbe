"""Training aids together: the damage of two aids that do not agree is silent."""

import itertools
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ..support.in_process import Project, Run
from ..support.training_runs import is_same

# Each choice of an aid, as options. Every two choices of different aids meet in some run below.
AIDS: dict[str, dict[str, tuple[str, ...]]] = {
    "scheduler": {
        "constant": ("scheduler=constant",),
        "cosine": ("scheduler=cosine",),
        "one_cycle": ("scheduler=one_cycle",),
        "plateau": ("scheduler=plateau", "scheduler.patience=0"),
        "step": ("scheduler=step", "scheduler.every=2"),
    },
    "profiler": {
        "no_profiler": (),
        "simple": ("profiler=simple",),
        "advanced": ("profiler=advanced",),
        "pytorch": ("profiler=pytorch", "trainer.profiler.batches=2"),
    },
    "average": {
        "no_average": (),
        "swa": ("callbacks.swa.start=0.3",),
        "ema": ("callbacks.ema.start=0.3",),
    },
    "watch": {"default": (), "histograms,activations": ()},
    "finder": {"no_finder": (), "lr": ("finders=lr", "finders.lr.num_steps=40")},
    "loggers": {"no_logger": ("logger=none",), "two_loggers": ("logger=[tensorboard,csv]",)},
    "precision": {"32": (), "bf16": ("trainer.precision=bf16-mixed",)},
    "steps": {
        "plain": (),
        "clipped": ("trainer.gradient_clip_val=0.5", "trainer.accumulate_grad_batches=2"),
    },
    "net": {"mlp": ("model=mlp", "model.net.width=16"), "cnn": ("model=cnn", "model.net.width=8")},
    "processes": {"one_process": (), "two_processes": ("trainer=ddp_cpu",)},
    "compile": {"eager": (), "compiled": ("compile=true",)},
    "stopping": {
        "patient": (),
        # The loss falls, and that is called worse: the run stops after its third epoch.
        "early": (
            "objective.metric=val/loss",
            "objective.mode=max",
            "callbacks.early_stopping.patience=2",
        ),
    },
}
EPOCHS = 4
STOP = """
from pytorch_lightning import Callback

class Stop(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            raise RuntimeError("the power went off")
"""


# They take minutes: `make test` leaves them out.
SLOW = {"processes": "two_processes", "compile": "compiled"}
HAS_COMPILER = sys.platform == "linux" and shutil.which("g++") is not None

Choice = tuple[str, str]  # an aid, and how it is used
Pairs = set[tuple[Choice, Choice]]


def fast_choices() -> dict[str, list[str]]:
    """The choices that take seconds."""
    return {
        aid: [choice for choice in choices if choice != SLOW.get(aid)]
        for aid, choices in AIDS.items()
    }


def pairwise() -> list[dict[str, str]]:
    """Few runs in which every two choices meet, found greedily; those with slow choices last."""
    runs: list[dict[str, str]] = []
    for choices in (fast_choices(), {aid: list(choices) for aid, choices in AIDS.items()}):
        open_pairs: Pairs = {
            ((a, x), (b, y))
            for a, b in itertools.combinations(AIDS, 2)
            for x in choices[a]
            for y in choices[b]
        }
        open_pairs -= {pair for run in runs for pair in itertools.combinations(run.items(), 2)}
        while open_pairs:
            run: dict[str, str] = {}
            for aid in AIDS:
                run[aid] = max(choices[aid], key=partial(count_new, open_pairs, run, aid))
            open_pairs -= set(itertools.combinations(run.items(), 2))
            runs.append(run)
    return runs


def count_new(open_pairs: Pairs, run: dict[str, str], aid: str, choice: str) -> tuple[int, int]:
    """How many open pairs a choice closes in this run, and how many it could close later."""
    now = sum((other, (aid, choice)) in open_pairs for other in run.items())
    later = sum((aid, choice) in pair for pair in open_pairs)
    return now, later


def each_once() -> list[dict[str, str]]:
    """Few runs in which every choice occurs, the slow ones in one of their own."""
    fast = fast_choices()
    longest = max(map(len, fast.values()))
    runs = [{aid: own[i % len(own)] for aid, own in fast.items()} for i in range(longest)]
    return [*runs, runs[0] | SLOW]


def is_slow(run: dict[str, str]) -> bool:
    """Whether a run takes minutes."""
    return any(run[aid] == choice for aid, choice in SLOW.items())


RUNS = pairwise()
ONE_BATCH = each_once()
# In `make test`: enough that every choice occurs.
FEW = 5


def options_of(run: dict[str, str]) -> list[str]:
    """The options of a run."""
    callbacks = ["default", run["watch"], run["average"]]
    chosen = [name for name in callbacks if name not in ("no_average", "default")]
    options = [option for name, choice in run.items() for option in AIDS[name][choice]]
    return [f"callbacks=[{','.join(['default', *chosen])}]", *options]


@pytest.fixture(scope="module")
def project(bake: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A baked project whose package is imported here, and the callback that stops a run."""
    folder = tmp_path_factory.mktemp("combinations")
    (folder / "power_cut.py").write_text(STOP)
    root = bake(project_name="Combinations").root
    sys.path[:0] = [str(root), str(folder)]
    yield Project(root, folder)
    sys.path[:] = [path for path in sys.path if path not in (str(root), str(folder))]


def test_every_two_choices_meet() -> None:
    """A pair that no run holds could be broken without anybody noticing."""
    met = {pair for run in RUNS for pair in itertools.combinations(run.items(), 2)}
    for a, b in itertools.combinations(AIDS, 2):
        for x, y in itertools.product(AIDS[a], AIDS[b]):
            assert ((a, x), (b, y)) in met
    chosen = {choice for run in RUNS[:FEW] for choice in run.items()}
    everything = {(aid, choice) for aid, choices in AIDS.items() for choice in choices}
    assert everything - chosen == set(SLOW.items())


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(run, id="-".join(run.values()), marks=() if i < FEW else pytest.mark.slow)
        for i, run in enumerate(RUNS)
    ],
)
def test_aids_agree(project: Project, run: dict[str, str]) -> None:
    """Together they must neither change what is tested nor what a resumed run becomes."""
    train = trains(project, run)
    options = [f"trainer.max_epochs={EPOCHS}", "data.batch_size=32", *options_of(run)]
    whole = train(*options)
    assert whole.manifest["status"] == "finished"
    assert {"best", "last"} <= set(whole.manifest["checkpoints"])
    for name, file in whole.manifest["checkpoints"].items():
        part = "test" if name == "best" else f"test {name}"
        if part in whole.metrics:
            measured = project.evaluate(Path(file), "test", *AIDS["precision"][run["precision"]])
            assert is_close(measured, whole.metrics[part], run)

    stopped = project.folder / str(project.count + 1)
    with pytest.raises(RuntimeError, match="the power went off"):
        train(*options, "+callbacks.stop._target_=power_cut.Stop")
    found = [f"{option}={value}" for option, value in whole.manifest.get("found", {}).items()]
    resumed = train(*options, *found, f"ckpt_path={stopped / 'checkpoints' / 'last.ckpt'}")
    for name in whole.manifest["checkpoints"]:
        file = "last" if name == "last" else Path(whole.manifest["checkpoints"][name]).stem
        assert is_same(resumed.weights(file), whole.weights(file)), name


def trains(project: Project, run: dict[str, str]) -> Callable[..., Run]:
    """What trains such a run; without a compiler the test is left out."""
    if run["compile"] == "compiled" and not HAS_COMPILER:
        pytest.skip("torch.compile needs g++, and is tried on Linux only")
    return project.launch if run["processes"] == "two_processes" else project.train


def is_close(measured: dict[str, float], expected: dict[str, float], run: dict[str, str]) -> bool:
    """Whether evaluate.py, in one eager process of the same precision, measures the same.

    An eager run repeats the same operations on the same batches; 1e-5 leaves room for sums in
    another order. A compiled network fuses operations and skips roundings between them: that
    changes an output by one unit in the last place, 2**-8 of its size in bf16.
    """
    if run["compile"] == "eager":
        return measured == pytest.approx(expected, rel=1e-5)
    if run["precision"] == "32":
        return measured == pytest.approx(expected, rel=1e-4)
    # Scores of about 4 that are off by 4 * 2**-8, and samples of 359 whose class changes with them.
    return measured == pytest.approx(expected, rel=0.02, abs=4 * 2**-8)


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(run, id="-".join(run.values()), marks=pytest.mark.slow if is_slow(run) else ())
        for run in ONE_BATCH
    ],
)
def test_one_batch_of_everything(project: Project, run: dict[str, str]) -> None:
    """debug=fast is what one turns to when something is wrong: it must never be the problem."""
    train = trains(project, run)
    ended = train(*options_of(run), "debug=fast")
    assert ended.manifest["status"] == "finished"
    assert not any(file.endswith(".ckpt") for file in ended.files())


def test_kitchen_sink(project: Project) -> None:
    """The experiment that shows every aid must show every aid."""
    options = ("logger=[tensorboard,csv]", "data.batch_size=64")
    run = project.train("experiment=kitchen_sink", *options)
    pictures = {path.stem: path.stat().st_size for path in run.folder.glob("figures/*.png")}
    assert {"loss", "activations", "lr_finder"} <= set(pictures)
    assert min(pictures.values()) > 10_000
    averaged, best = run.metrics["test averaged"], run.metrics["test"]
    assert averaged != best
    for name, expected in (("best", best), ("swa", averaged)):
        checkpoint = run.folder / "checkpoints" / f"{name}.ckpt"
        assert project.evaluate(checkpoint, "test") == pytest.approx(expected)
    assert {"tensorboard", "csv", "profile"} <= {path.name for path in run.folder.iterdir()}
    assert run.manifest["found"]["optimizer.lr"] > 0
