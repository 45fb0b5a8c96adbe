"""A checkpoint as an ONNX file, which other programs can run.

For example: python export.py ckpt_path=best
"""

import hydra
from omegaconf import DictConfig

from {{= cookiecutter.package_name }}.cli import one_sentence_errors, run
from {{= cookiecutter.package_name }}.extras import check_extra
from {{= cookiecutter.package_name }}.runs.config_checks import check_complete
from {{= cookiecutter.package_name }}.runs.directory import register_resolvers

register_resolvers()


@hydra.main(version_base="1.3", config_path="configs", config_name="export")
def main(cfg: DictConfig) -> None:
    """Export the checkpoint."""
    with one_sentence_errors():
        check_extra("export.py", "onnx")
        check_complete(cfg)
        # Imported here: torch and Lightning would delay --help and config errors by seconds.
        from {{= cookiecutter.package_name }}.exporting import export

        export(cfg)


if __name__ == "__main__":
    run(main)
