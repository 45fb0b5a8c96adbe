"""Fit a model, then test its best checkpoint; with data.folds=5, cross-validate; with -m, sweep.

For example: python train.py experiment=diabetes optimizer.lr=0.01 data.batch_size=128
"""

import hydra
from omegaconf import DictConfig

import {{= cookiecutter.package_name }}  # noqa: F401  registers the project
from workbench.cli import command, run
from workbench.runs.config import folds_to_train


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Train and return the best value of the objective."""
    with command(cfg):
        # Imported here: torch and Lightning would delay --help and config errors by seconds.
        if folds_to_train(cfg) is not None:
            from workbench.folds import cross_validate

            return cross_validate(cfg).get(cfg.objective.metric)
        from {{= cookiecutter.package_name }}.training import train

        return train(cfg).get(cfg.objective.metric)


if __name__ == "__main__":
    run(main)
