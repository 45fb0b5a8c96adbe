"""Several commands of a baked project in one process: most of a command's time is its imports."""

import json
from typing import TYPE_CHECKING

from .training_runs import script

if TYPE_CHECKING:
    from ..conftest import BakedProject

# As on the command line, one after the other; Hydra only has to forget the command before.
RUN_ALL = """
import json, runpy, sys
from hydra.core.global_hydra import GlobalHydra
answers = []
for command in json.loads(sys.argv[1]):
    sys.argv = command
    answer = ""
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as error:
        answer = str(error)
    answers.append(answer)
    GlobalHydra.instance().clear()
print(json.dumps(answers))
"""


def run_all(project: "BakedProject", *commands: tuple[str, ...]) -> list[str]:
    """Run entry points: `run_all(project, ("train.py", "seed=0"), ("evaluate.py", ...))`.

    Returns:
        For each command the sentence that it ended with, "" where it did what it should.
    """
    done = script(project, "-c", RUN_ALL, json.dumps(commands))
    answers: list[str] = json.loads(done.stdout.splitlines()[-1])
    return answers
