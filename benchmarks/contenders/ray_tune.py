"""Ray Tune as it is without options, with Optuna's search. Arguments: trials, epochs, folder."""

import sys
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from .one_trial import LRS, METRIC, WIDTHS, train

AT_ONCE = 2


def main(trials: int, epochs: int, folder: Path) -> None:
    """Run the trials, each on a core of its own."""
    project = Path.cwd()

    def trial(params: dict[str, Any]) -> None:
        place = folder / tune.get_context().get_trial_id()
        tune.report({METRIC: train(project, place, params, epochs)})

    space = {
        "optimizer.lr": tune.loguniform(*LRS),
        "optimizer.weight_decay": tune.loguniform(*LRS),
        "model.net.width": tune.choice(list(WIDTHS)),
        "model.net.dropout": tune.uniform(0.0, 0.5),
    }
    ray.init(num_cpus=AT_ONCE, include_dashboard=False)
    tuner = tune.Tuner(
        trial,
        param_space=space,
        tune_config=tune.TuneConfig(
            metric=METRIC, mode="max", num_samples=trials, search_alg=OptunaSearch()
        ),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
    )
    results = tuner.fit()
    if results.num_errors or len(results) != trials:
        sys.exit(f"{results.num_errors} of {len(results)} trials failed")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
