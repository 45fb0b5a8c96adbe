"""Metrics and plots of a checkpoint.

For example: python evaluate.py ckpt_path=best
"""

import hydra
from omegaconf import DictConfig

import {{= cookiecutter.package_name }}  # noqa: F401  registers the project
from workbench.cli import command, run


@hydra.main(version_base="1.3", config_path="configs", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Evaluate the checkpoint."""
    with command(cfg):
        # Imported here: torch and Lightning would delay --help and config errors by seconds.
        from workbench.evaluation import evaluate

        evaluate(cfg)


if __name__ == "__main__":
    run(main)
