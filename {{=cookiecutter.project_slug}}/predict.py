"""Predictions of a checkpoint: for new images or table rows, or for the datamodule's loader.

For example: python predict.py ckpt_path=best input=images/
"""

import hydra
from omegaconf import DictConfig

import {{= cookiecutter.package_name }}  # noqa: F401  registers the project
from workbench.cli import command, run


@hydra.main(version_base="1.3", config_path="configs", config_name="predict")
def main(cfg: DictConfig) -> None:
    """Predict and write the table."""
    with command(cfg):
        # Imported here: torch and Lightning would delay --help and config errors by seconds.
        from workbench.prediction import predict

        predict(cfg)


if __name__ == "__main__":
    run(main)
