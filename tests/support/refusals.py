"""Tables of commands that are refused, and what the one sentence must say."""

import atexit
import re
import shlex
import subprocess
from typing import TYPE_CHECKING

from ..conftest import own_environment
from .training_runs import ON_CPU
from .warm_client import WarmServer

if TYPE_CHECKING:
    from ..conftest import BakedProject

# Forks of a process that has imported what is needed for a refusal, but nothing heavy.
LIGHT = WarmServer(own_environment() | ON_CPU, ("hydra", "rich.table"))
atexit.register(LIGHT.close)
# Nearly all of the seconds that a training takes to start.
SLOW_TO_IMPORT = {"lightning_fabric", "pytorch_lightning", "torch", "torchmetrics", "torchvision"}
RUN_AT_ONCE = f"""
import runpy, sys
sys.modules |= dict.fromkeys(("mlflow", "wandb"))
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(*({SLOW_TO_IMPORT} & sys.modules.keys()), end="")
"""

LONGEST = 400
SWEEP = "train.py -m search_space=none"
MACROS = {
    "SWEEP RATES": f"{SWEEP} optimizer.lr=tag(log,interval(1e-4,1e-1))",
    "SWEEP": SWEEP,
    "CONFIGS": "train.py --config-dir=FILES/configs",
    "TABLE/": "experiment=csv data.path=FILES/",
    "BEST": "ckpt_path=RUN/checkpoints/best.ckpt",
    "LAST": "ckpt_path=RUN/checkpoints/last.ckpt",
}


def read_cases(text: str) -> dict[str, list[str]]:
    """The words that the answer to each command contains.

    Args:
        text: lines such as `train.py optimzer.lr=1 -> 'optimizer.lr'`; a bar separates the words,
            and a number sign begins a comment.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    pairs = [line.split(" -> ") for line in lines]
    cases = {command: words.split(" | ") for command, words in pairs}
    assert len(cases) == len(lines)
    return cases


def words_of(command: str, **places: object) -> list[str]:
    """The words of a command, with the paths of places such as FILES and RUN."""
    for name, text in (MACROS | places).items():
        command = command.replace(name, str(text))
    return shlex.split(command)


def refuse_at_once(project: "BakedProject", *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command where neither wandb nor mlflow are installed; it prints slow imports."""
    environment = own_environment() | ON_CPU | {"PWD": str(project.root)}
    return LIGHT.run(("-c", RUN_AT_ONCE, *command), project.root, environment)


def check_sentence(
    done: "subprocess.CompletedProcess[str]", words: list[str], folder: object
) -> None:
    """One sentence names the mistake and how to fix it, and nothing was trained."""
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert lines[0].endswith((".", "?"))
    assert not re.search(r"[^.]\.\.$|\.{4}$", lines[0])
    assert len(lines[0].replace(str(folder), "")) < LONGEST
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in done.stdout
    assert "epoch 1/" not in done.stdout
