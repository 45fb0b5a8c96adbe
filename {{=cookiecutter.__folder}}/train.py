"""Fit a model, then test its best checkpoint; with data.folds=5, cross-validate; with -m, sweep.

For example: python train.py experiment=diabetes optimizer.lr=0.01 data.batch_size=128
"""

import hydra
from omegaconf import DictConfig

from {{= cookiecutter.package_name }}.cli import one_sentence_errors, run
from {{= cookiecutter.package_name }}.runs.config_checks import check_complete
from {{= cookiecutter.package_name }}.runs.directory import register_resolvers
from {{= cookiecutter.package_name }}.runs.fold_options import folds_to_train

register_resolvers()


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Train and return the best value of the objective."""
    with one_sentence_errors():
        check_complete(cfg)
        if folds_to_train(cfg) is not None:
            from {{= cookiecutter.package_name }}.folds import cross_validate

            return cross_validate(cfg).get(cfg.objective.metric)
        # Imported here: torch and Lightning would delay --help and config errors by seconds.
        from {{= cookiecutter.package_name }}.training import train

        return train(cfg).get(cfg.objective.metric)


if __name__ == "__main__":
    run(main)
