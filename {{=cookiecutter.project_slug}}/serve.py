"""Predictions of a checkpoint over HTTP.

For example: python serve.py ckpt_path=best
"""

import hydra
from omegaconf import DictConfig

import {{= cookiecutter.package_name }}  # noqa: F401  registers the project
from workbench.cli import command, run


@hydra.main(version_base="1.3", config_path="configs", config_name="serve")
def main(cfg: DictConfig) -> None:
    """Answer requests."""
    with command(cfg, extra="serve"):
        # Imported here: torch and Lightning would delay --help and config errors by seconds.
        from workbench.serving import serve

        serve(cfg)


if __name__ == "__main__":
    run(main)
