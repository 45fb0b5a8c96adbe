"""A checkpoint as an ONNX file, which other programs can run.

For example: python export.py ckpt_path=best
"""

import hydra
from omegaconf import DictConfig

import {{= cookiecutter.package_name }}  # noqa: F401  registers the project
from workbench.cli import command, run


@hydra.main(version_base="1.3", config_path="configs", config_name="export")
def main(cfg: DictConfig) -> None:
    """Export the checkpoint."""
    with command(cfg, extra="onnx"):
        # Imported here: torch and Lightning would delay --help and config errors by seconds.
        from workbench.exporting import export

        export(cfg)


if __name__ == "__main__":
    run(main)
