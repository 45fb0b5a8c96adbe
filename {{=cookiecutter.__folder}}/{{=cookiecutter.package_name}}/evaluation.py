"""A checkpoint's metrics, pictures and tables."""

import json
import logging
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from omegaconf import DictConfig
from pytorch_lightning import LightningDataModule, Trainer, seed_everything
from torch.utils.data import DataLoader

from .analysis import Analysis, Outcome, analyses_of
from .analysis.collect import collect, find_layer
from .errors import UserError, nearest
from .models.base import BaseModule
from .runs.checkpoints import load_model
from .runs.config_checks import check_complete
from .runs.loading import config_of_checkpoint
from .runs.logs import capture_everything
from .runs.summary import print_metrics, print_places
from .training import build_datamodule

log = logging.getLogger(__name__)


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Measure a checkpoint on the test or the validation part, and show what it gets wrong.

    Args:
        cfg: the config composed from `configs/evaluate.yaml`.

    Returns:
        The metrics, for example `test/acc`.

    Raises:
        UserError: no readable checkpoint, no data to measure it on, no such analysis or layer.
    """
    check_complete(cfg)
    capture_everything()
    seed_everything(cfg.seed, verbose=False)
    directory = Path(cfg.paths.output_dir)
    model = load_model(cfg.ckpt_path)
    analyses = choose_analyses(cfg.analyses, model)
    if cfg.layer is not None:
        # Before the metrics, which take their time.
        find_layer(model, cfg.layer)
    datamodule = find_data(cfg, model)
    loader = part_of(datamodule, cfg.split)
    trainer = build_evaluator(cfg)
    run = trainer.validate if cfg.split == "val" else trainer.test
    run(model, datamodule, verbose=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    report: dict[str, Any] = {"name": cfg.name, "ckpt_path": str(cfg.ckpt_path)}
    report |= {"split": cfg.split, "metrics": {cfg.split: metrics}}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "metrics.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print_metrics(cfg.name, report["metrics"])
    if analyses:
        analyse(collect(trainer, model, loader, cfg.layer), analyses, directory)
    print_places(directory, report)
    return metrics


def choose_analyses(names: list[str] | None, model: BaseModule) -> dict[str, Analysis]:
    """The analyses of these names, or all that mean something for the model.

    Raises:
        UserError: there is no such analysis for this model.
    """
    known = analyses_of(model)
    for name in names or []:
        if name not in known:
            raise UserError(
                f"There is no analysis {name!r} of a {type(model).__name__}; {nearest(name, known)}"
            )
    return known if names is None else {name: known[name] for name in names}


def analyse(outcome: Outcome, analyses: dict[str, Analysis], directory: Path) -> None:
    """Write pictures to `figures/` and tables to `tables/` of the directory."""
    for folder in ("figures", "tables"):
        (directory / folder).mkdir(exist_ok=True)
    for name, make in analyses.items():
        made = make(outcome)
        if made is None:
            log.info("%s: nothing to show", name)
        elif isinstance(made, Figure):
            made.savefig(directory / "figures" / f"{name}.png", dpi=150)
        else:
            made.save(directory / "tables" / f"{name}.csv")
            made.show(name)


def find_data(cfg: DictConfig, model: BaseModule) -> LightningDataModule:
    """The data named in the command, else those of the run that the checkpoint lies in.

    Raises:
        UserError: neither is there, or the model was trained on other data.
    """
    config = cfg if cfg.get("data") else config_of_checkpoint(Path(cfg.ckpt_path))
    if config is None:
        raise UserError(
            f"{cfg.ckpt_path} does not lie in a run's folder, so its data are not known: "
            "add data=<group> to the command."
        )
    datamodule = build_datamodule(config)
    told = {name: model.hparams.get(name) for name in datamodule.describe()}
    if told != datamodule.describe():
        different = [name for name, value in datamodule.describe().items() if told[name] != value]
        raise UserError(
            f"These are not the data that the model was trained on ({', '.join(different)} "
            "differ): leave `data` out of the command, or use predict.py for new inputs."
        )
    return datamodule


def build_evaluator(cfg: DictConfig) -> Trainer:
    """A trainer without logger, checkpoints and bar, on one device."""
    return Trainer(
        accelerator=cfg.trainer.accelerator,
        devices=1,
        precision=cfg.trainer.precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=cfg.paths.output_dir,
    )


def part_of(datamodule: LightningDataModule, split: str) -> DataLoader[Any]:
    """The loader of a split.

    Raises:
        UserError: there is no such split.
    """
    loaders = {"val": datamodule.val_dataloader, "test": datamodule.test_dataloader}
    if split not in loaders:
        raise UserError(f"There is no split {split!r}; split is val or test.")
    loader: DataLoader[Any] = loaders[split]()
    return loader
