"""Seconds until `train.py` answers: help, a mistake, the first optimizer step, a short run.

Against a script that imports torch and Lightning at its top, as the usual templates do. Both are
measured from the start of the command, by turns, with their modules compiled, as they are in every
run but the first. Both have one thread.

`make bench SUBJECTS=start:help` measures one of them; another word says how often, as in
`start:help:11`.
"""

import compileall
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from .common import (
    ROOT,
    Project,
    Took,
    baked_project,
    environment,
    print_table,
    ratios,
    spread,
    time_command,
)

ROUNDS = 5
SURROUNDINGS = {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    # For the callback that both are given.
    "PYTHONPATH": str(ROOT),
    "PYTHONDONTWRITEBYTECODE": "",
}
CONTENDER = ROOT / "benchmarks" / "contenders" / "usual_train.py"


@dataclass(frozen=True)
class Question:
    """What a command is to do.

    Attributes:
        what: in words.
        options: of `train.py`.
        usual: options of the contender.
        fails: whether it is refused.
        least: how many times the contender's time is to be ours, at least.
    """

    what: str
    options: tuple[str, ...]
    usual: tuple[str, ...]
    fails: bool = False
    least: float | None = None


FIRST_STEP = "+callbacks.first_step._target_=benchmarks.contenders.first_step.FirstStep"
OURS = ("experiment=digits", "model=mlp", "trainer=cpu")
SHORT = ("trainer.max_epochs=1",)
QUESTIONS = {
    "help": Question("--help", ("--help",), ("--help",), least=15),
    "mistake": Question("a misspelt option", ("trainer.max_epoch=9",), ("trainer.lr=9",), True),
    "step": Question("the first optimizer step", (*OURS, FIRST_STEP), ("callbacks=first_step",)),
    "run": Question("a whole run of one epoch", (*OURS, *SHORT), SHORT),
}


def main(words: Sequence[str]) -> None:
    """Measure and print."""
    unknown = [word for word in words if word not in QUESTIONS and not word.isdigit()]
    if unknown:
        sys.exit(f"error: no question {unknown[0]}; there are {', '.join(QUESTIONS)}.")
    rounds = next((int(word) for word in words if word.isdigit()), ROUNDS)
    names = [word for word in words if word in QUESTIONS] or list(QUESTIONS)
    with baked_project() as project:
        print(environment(), flush=True)
        for folder in (project.root, CONTENDER.parent):
            compileall.compile_dir(folder, quiet=1)
        found = {name: ask(project, QUESTIONS[name], rounds) for name in names}
    rows = []
    for name, (own, usual) in found.items():
        question = QUESTIONS[name]
        times = ratios(usual, own)
        row = [question.what]
        for tooks in (own, usual):
            row += [spread([t.wall for t in tooks], 2), spread([t.cpu for t in tooks], 2)]
        row += [spread(times, 1), spread(ratios(usual, own, "cpu"), 1)]
        met = "" if question.least is None else "yes"
        if question.least is not None and statistics.median(times) < question.least:
            met = "NO"
        rows.append([*row, "" if question.least is None else f"{question.least:g}", met])
    header = ["seconds", "ours", "CPU", "imports at the top", "CPU"]
    header += ["times ours", "times our CPU", "at least", "met"]
    print_table(f"From the start of a command, {rounds} rounds", header, rows)


def ask(project: Project, question: Question, rounds: int) -> tuple[list[Took], list[Took]]:
    """Seconds of the project's script and of the contender's."""
    own: list[Took] = []
    usual: list[Took] = []
    for turn in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            scripts = [
                (own, "train.py", f"{folder}/own", question.options),
                (usual, str(CONTENDER), f"{folder}/usual", question.usual),
            ]
            # Neither is always the first.
            for found, script, place, options in scripts[:: 1 if turn % 2 else -1]:
                command = (sys.executable, script, f"hydra.run.dir={place}", *options)
                found.append(time_command(command, project.root, SURROUNDINGS, question.fails))
    return own, usual


if __name__ == "__main__":
    main(sys.argv[1:])
