"""Plain Optuna, one trial after the other in this process. Arguments: trials, epochs, folder."""

import sys
from pathlib import Path

import optuna

from .one_trial import suggest, train


def main(trials: int, epochs: int, folder: Path) -> None:
    """Run the study."""
    study = optuna.create_study(direction="maximize")
    study.optimize(
        lambda trial: train(Path.cwd(), folder / f"{trial.number}", suggest(trial), epochs),
        n_trials=trials,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
