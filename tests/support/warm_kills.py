"""Train and kill, again and again, in forks of a process with the heavy imports.

    python warm_kills.py folder kills option ...

Every training is a fork of this process and goes on from the last checkpoint. It is killed at a
random moment after it has written one. What was found after each kill is printed: the epochs in
last.ckpt and in best.ckpt, and the files beside them.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from warm_server import become  # type: ignore[import-not-found]

LONGEST = 300  # seconds until a first checkpoint, on a machine with much to do


def kill_once(folder: Path, options: list[str], seconds: float) -> dict[str, Any]:
    """Go on with a training, and kill it so many seconds after its first checkpoint."""
    last = folder / "checkpoints" / "last.ckpt"
    known = written(last)
    resume = [f"ckpt_path={last}"] if known else []
    child = os.fork()
    if child == 0:
        command = ["train.py", f"hydra.run.dir={folder}", *options, *resume]
        variables, places = dict(os.environ), [os.devnull] * 2
        become({"command": command, "cwd": ".", "variables": variables, "places": places})
    end = time.monotonic() + LONGEST
    while written(last) == known and time.monotonic() < end:
        time.sleep(0.002)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return {"ended": os.waitstatus_to_exitcode(status)} | found(last.parent)


def written(path: Path) -> int:
    """When a file was written, in nanoseconds; 0 where there is none."""
    return path.stat().st_mtime_ns if path.exists() else 0


def found(folder: Path) -> dict[str, Any]:
    """The epochs in the checkpoints, and all files."""
    import torch

    names = sorted(path.name for path in folder.iterdir())
    epochs = {
        name: int(torch.load(folder / name, weights_only=True)["epoch"]) + 1
        for name in ("best.ckpt", "last.ckpt")
    }
    return {"files": names, **epochs}


if __name__ == "__main__":
    folder, kills, options = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    moments = random.Random(1)
    print(json.dumps([kill_once(folder, options, moments.uniform(0, 0.3)) for _ in range(kills)]))
