"""Run many commands of a project, each in its own process, with the heavy imports done once.

    python warm_start.py commands.json

The file holds a list of commands; a list of their exit codes and outputs is printed. Every command
runs in a fork of this process: exit code, stdout and stderr are those of the real script, only the
seven seconds of importing torch and Lightning are spared.
"""

import importlib
import json
import os
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

HEAVY = (
    "hydra",
    "matplotlib.figure",
    "pytorch_lightning",
    "sklearn.model_selection",
    "torch._dynamo",
    "torch.utils.tensorboard",
    "torchvision.models",
)


def run(command: list[str]) -> dict[str, Any]:
    """Run `script.py option ...` in a fork and return what it leaves."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        child = os.fork()
        if child == 0:
            become(command, stdout.fileno(), stderr.fileno())
        _, status = os.waitpid(child, 0)
        texts = {}
        for name, file in (("stdout", stdout), ("stderr", stderr)):
            file.seek(0)
            texts[name] = file.read().decode()
    return {"args": command, "returncode": os.waitstatus_to_exitcode(status), **texts}


def become(command: list[str], stdout: int, stderr: int) -> NoReturn:
    """Be a script, in a fork."""
    os.dup2(stdout, sys.stdout.fileno())
    os.dup2(stderr, sys.stderr.fileno())
    sys.argv, sys.path[0] = command, str(Path.cwd())
    runpy.run_path(command[0], run_name="__main__")
    sys.exit()


if __name__ == "__main__":
    for module in HEAVY:
        importlib.import_module(module)
    commands = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    json.dump([run(command) for command in commands], sys.stdout)
