"""A process spawned for each trial, two at once. Arguments: trials, epochs, folder."""

import json
import subprocess
import sys
from pathlib import Path

import optuna

from .one_trial import METRIC, options_of, suggest

AT_ONCE = 2


def main(trials: int, epochs: int, folder: Path) -> None:
    """Run the study."""

    def objective(trial: optuna.Trial) -> float:
        place = folder / f"{trial.number}"
        options = options_of(suggest(trial), epochs)
        command = [sys.executable, "train.py", f"hydra.run.dir={place}", *options]
        subprocess.run(command, check=True, capture_output=True)
        best = json.loads((place / "run.json").read_text("utf-8"))["metrics"]["best"]
        return float(best[METRIC])

    study = optuna.create_study(direction="maximize")
    study.optimize(objective, n_trials=trials, n_jobs=AT_ONCE)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
