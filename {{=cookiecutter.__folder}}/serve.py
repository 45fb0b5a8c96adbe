"""Predictions of a checkpoint over HTTP.

For example: python serve.py ckpt_path=best
"""

import hydra
from omegaconf import DictConfig

from {{= cookiecutter.package_name }}.cli import one_sentence_errors, run
from {{= cookiecutter.package_name }}.extras import check_extra
from {{= cookiecutter.package_name }}.runs.config_checks import check_complete
from {{= cookiecutter.package_name }}.runs.directory import register_resolvers

register_resolvers()


@hydra.main(version_base="1.3", config_path="configs", config_name="serve")
def main(cfg: DictConfig) -> None:
    """Answer requests."""
    with one_sentence_errors():
        check_extra("serve.py", "serve")
        check_complete(cfg)
        # Imported here: torch and Lightning would delay --help and config errors by seconds.
        from {{= cookiecutter.package_name }}.serving import serve

        serve(cfg)


if __name__ == "__main__":
    run(main)
