"""A trial that takes one second, for our sweeper and for Ray Tune.

Alone, it is a Hydra application; `python -m benchmarks.contenders.one_second <trials> <folder>`
lets Ray Tune run the same trials without options.
"""

import sys
import time

import hydra
from omegaconf import DictConfig

AT_ONCE = 2


def loss(x: float) -> float:
    """The result, after a second."""
    time.sleep(1)
    return x**2


@hydra.main(version_base="1.3", config_path=None)
def application(cfg: DictConfig) -> float:
    """A trial of our sweeper."""
    return loss(cfg.x)


def tune_alone(trials: int, folder: str) -> None:
    """All trials under Ray Tune; print the seconds of `fit`."""
    import ray
    from ray import tune

    ray.init(num_cpus=AT_ONCE, include_dashboard=False)
    tuner = tune.Tuner(
        lambda params: tune.report({"loss": loss(params["x"])}),
        param_space={"x": tune.uniform(-5.0, 5.0)},
        tune_config=tune.TuneConfig(metric="loss", mode="min", num_samples=trials),
        run_config=tune.RunConfig(storage_path=folder, verbose=0),
    )
    start = time.perf_counter()
    results = tuner.fit()
    print(f"seconds: {time.perf_counter() - start}")
    if results.num_errors or len(results) != trials:
        sys.exit(f"{results.num_errors} of {len(results)} trials failed")


if __name__ == "__main__" and len(sys.argv) == 3 and sys.argv[1].isdigit():
    tune_alone(int(sys.argv[1]), sys.argv[2])
elif __name__ == "__main__":
    application()
