"""Predictions of a checkpoint: for new images or table rows, or for the datamodule's loader.

For example: python predict.py ckpt_path=best input=pictures/
"""

import hydra
from omegaconf import DictConfig

from {{= cookiecutter.package_name }}.cli import one_sentence_errors, run
from {{= cookiecutter.package_name }}.runs.config_checks import check_complete
from {{= cookiecutter.package_name }}.runs.directory import register_resolvers

register_resolvers()


@hydra.main(version_base="1.3", config_path="configs", config_name="predict")
def main(cfg: DictConfig) -> None:
    """Predict and write the table."""
    with one_sentence_errors():
        check_complete(cfg)
        # Imported here: torch and Lightning would delay --help and config errors by seconds.
        from {{= cookiecutter.package_name }}.prediction import predict

        predict(cfg)


if __name__ == "__main__":
    run(main)
