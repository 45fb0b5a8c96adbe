"""Help and mistakes in a command answer at once, because nothing heavy is imported for them."""

import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import BakedProject
from ..support.training_runs import script

# Each costs a good part of a second, most of them more.
HEAVY = {
    "fastapi",
    "lightning_fabric",
    "matplotlib",
    "mlflow",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "optuna",
    "pandas",
    "pytorch_lightning",
    "scipy",
    "sklearn",
    "tensorboard",
    "torch",
    "torchmetrics",
    "torchvision",
    "wandb",
}


def imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    """The packages that a process started with `-X importtime` has imported."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert lines
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize(
    "command",
    [
        ("train.py", "--help"),
        ("train.py", "--cfg", "job"),
        ("train.py", "experiment=diabetes", "--cfg", "job", "--resolve"),
        ("evaluate.py", "--help"),
        ("predict.py", "--help"),
        ("export.py", "--help"),
        ("serve.py", "--help"),
        ("runs.py", "--help"),
        ("runs.py", "."),
        ("-c", "import demo"),
        ("-c", "import workbench.runs"),
    ],
    ids=" ".join,
)
def test_questions_are_answered_at_once(demo: BakedProject, command: tuple[str, ...]) -> None:
    """Help that takes eight seconds is not asked for."""
    done = script(demo, "-X", "importtime", *command)
    assert imported(done) & HEAVY == set()


@pytest.mark.parametrize(
    "command",
    [
        ("train.py", "optimzer.lr=1"),
        ("train.py", "model=cnnn"),
        ("train.py", "experiment=digit"),
        ("train.py", "trainer.max_epochs"),
        ("train.py", f"hydra.run.dir={Path(__file__)}/run"),
        ("evaluate.py",),
        ("evaluate.py", "ckpt_pth=x"),
        ("predict.py", "ckpt_path=x"),
    ],
    ids=lambda command: " ".join(command).replace(str(Path(__file__)), "file"),
)
def test_mistakes_are_told_at_once(demo: BakedProject, command: tuple[str, ...]) -> None:
    """Who mistypes a name types it again, and again."""
    done = script(demo, "-X", "importtime", *command, check=False)
    assert done.returncode == 1
    assert imported(done) & HEAVY == set()


def test_the_list_is_of_what_training_imports(demo: BakedProject) -> None:
    """A name that is misspelt in the list above would never be found."""
    done = script(demo, "-X", "importtime", "-c", "import demo.training, demo.models, demo.data")
    needed = {"lightning_fabric", "numpy", "pytorch_lightning", "sklearn", "torch", "torchvision"}
    assert needed <= imported(done) & HEAVY
    assert sys.version_info >= (3, 11)


FROZEN = """
import gc, pathlib
from hydra import compose, initialize_config_dir
import demo
from workbench.cli import command
from workbench.runs.directory import register_resolvers

register_resolvers()
with initialize_config_dir(str(pathlib.Path("configs").resolve()), version_base="1.3"):
    cfg = compose("train", ["paths.output_dir=never_written"])
with command(cfg):
    import demo.training, torch._dynamo
    print(gc.isenabled(), gc.get_freeze_count() > 100_000)
"""


def test_garbage_collection_skips_torch(demo: BakedProject) -> None:
    """Searching what torch consists of takes half a second at the end of every command.

    Had what torch._dynamo imports been frozen too, Triton would print 30 lines about leaks.
    """
    done = script(demo, "-c", FROZEN, is_warm=False)
    assert done.stdout.split() == ["True", "True"]
    assert "leaked" not in done.stderr


# The first function registered is the last one called.
AT_THE_END = """
import atexit, gc, runpy, sys
atexit.register(lambda: print("end", len(gc.get_objects()) < 1000, flush=True))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("mistake", ["", "+callbacks.x._target_=late.Mistake"])
def test_command_ends_without_a_search_for_garbage(
    demo: BakedProject, tmp_path: Path, mistake: str
) -> None:
    """It would take a second in which nothing happens; an error must be readable nevertheless."""
    (tmp_path / "late.py").write_text(
        "from pytorch_lightning import Callback\n"
        "class Mistake(Callback):\n"
        "    def on_fit_end(self, trainer, model):\n"
        "        raise RuntimeError('too late')\n"
    )
    options = ["model=mlp", "trainer.max_epochs=1", "trainer.limit_train_batches=2", "test=false"]
    options += ["logger=none", f"hydra.run.dir={tmp_path}/run", *filter(None, [mistake])]
    path, is_valid = str(tmp_path), not mistake
    command = ("-c", AT_THE_END, "train.py", *options)
    done = script(demo, *command, check=is_valid, is_warm=False, python_path=path)
    assert done.stdout.splitlines()[-1] == "end True"
    assert "leaked" not in done.stderr
    assert is_valid == ("RuntimeError: too late" not in done.stderr)
    assert is_valid == (done.returncode == 0)
