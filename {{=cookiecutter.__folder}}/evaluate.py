"""Metrics and plots of a checkpoint.

For example: python evaluate.py ckpt_path=best
"""

import hydra
from omegaconf import DictConfig

from {{= cookiecutter.package_name }}.cli import one_sentence_errors, run
from {{= cookiecutter.package_name }}.runs.config_checks import check_complete
from {{= cookiecutter.package_name }}.runs.directory import register_resolvers

register_resolvers()


@hydra.main(version_base="1.3", config_path="configs", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Evaluate the checkpoint."""
    with one_sentence_errors():
        check_complete(cfg)
        # Imported here: torch and Lightning would delay --help and config errors by seconds.
        from {{= cookiecutter.package_name }}.evaluation import evaluate

        evaluate(cfg)


if __name__ == "__main__":
    run(main)
