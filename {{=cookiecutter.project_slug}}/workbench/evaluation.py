"""Metrics, plots and tables of a checkpoint."""

import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import LightningDataModule, LightningModule, Trainer, seed_everything

from .analysis import Analysis, Evaluation, choose_analyses
from .analysis.collect import collect, collect_features, find_layer, first_loader
from .assembly import build_data_for, evaluation_callbacks, is_given
from .building import has_loader, has_step
from .config_checks import check_complete
from .errors import UserError
from .floats import to_floats
from .models.supervised import judges_samples
from .rebuilding import Rebuilt, rebuild
from .runs.checkpoint_file import as_plain
from .runs.config import CONFIG, config_of_checkpoint
from .runs.logs import capture_everything
from .runs.summary import print_metrics, print_places
from .runs.trusted_targets import check_data

log = logging.getLogger(__name__)

# The step of the model and the loader of the data for each split.
STEPS = {"val": "validation_step", "test": "test_step"}
LOADERS = {"val": "val_dataloader", "test": "test_dataloader"}
# Facts that depend on the sizes of the splits but do not affect predictions.
INCIDENTAL = ("class_counts",)
# Options of the trainer that change results; by default they are those of the run.
OPTIONS = (
    "precision",
    "deterministic",
    "inference_mode",
    "limit_val_batches",
    "limit_test_batches",
    "limit_predict_batches",
)


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Measure a checkpoint on the test or validation split, and make its plots and tables.

    Args:
        cfg: the config composed from `configs/evaluate.yaml`.

    Returns:
        The metrics, for example `test/acc`.

    Raises:
        UserError: the checkpoint cannot be read, there are no data for it, or an analysis or a
            layer does not exist.
    """
    check_complete(cfg)
    capture_everything()
    seed_everything(cfg.seed, verbose=False)
    directory = Path(cfg.paths.output_dir)
    rebuilt = rebuild(cfg.ckpt_path, cfg.trust_config, in_trainer=True)
    model = rebuilt.model
    # Before reading data and computing metrics, which takes time.
    check_step(model, cfg.split)
    analyses = choose_analyses(cfg.get("analyses"), model, is_given("analyses"))
    if cfg.layer is not None:
        find_layer(model, cfg.layer)
    datamodule = find_data(cfg, rebuilt)
    check_loader(datamodule, cfg.split)
    trainer = build_evaluator(cfg, rebuilt)
    run = partial(
        trainer.validate if cfg.split == "val" else trainer.test, model, datamodule, verbose=False
    )
    evaluation = None
    if analyses and not judges_samples(model):
        evaluation = collect_features(run, trainer, model, cfg.layer)
    else:
        run()
    metrics = to_floats(trainer.callback_metrics)
    report = write_report(cfg, metrics)
    print_metrics(cfg.name, report["metrics"])
    if analyses:
        loaders = trainer.val_dataloaders if cfg.split == "val" else trainer.test_dataloaders
        if isinstance(loaders, list | tuple | dict) and len(loaders) > 1:
            log.info("analyses of the first of %d loaders", len(loaders))
        if judges_samples(model):
            evaluation = collect(trainer, model, first_loader(loaders), cfg.layer)
        assert evaluation is not None
        analyse(evaluation, analyses, directory)
    print_places(directory, report)
    return metrics


def write_report(cfg: DictConfig, metrics: dict[str, float]) -> dict[str, Any]:
    """Write `metrics.json` and return its content."""
    report: dict[str, Any] = {"name": cfg.name, "ckpt_path": str(cfg.ckpt_path)}
    report |= {"split": cfg.split, "metrics": {cfg.split: metrics}}
    directory = Path(cfg.paths.output_dir)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "metrics.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    return report


def check_step(model: LightningModule, split: str) -> None:
    """Reject a split for which the model has no step.

    Raises:
        UserError: there is no such split, or no step for it.
    """
    if split not in STEPS:
        raise UserError(f"There is no split {split!r}; split is val or test.")
    if not has_step(model, STEPS[split]):
        raise UserError(
            f"{type(model).__name__} has no {STEPS[split]}, so there is nothing to measure on the "
            f"{split} split: define it, or choose split={_other(split)}."
        )


def check_loader(datamodule: LightningDataModule, split: str) -> None:
    """Reject a split that the data do not have.

    Raises:
        UserError: the datamodule has no loader for it.
    """
    if not has_loader(datamodule, LOADERS[split]):
        raise UserError(
            f"{type(datamodule).__name__} has no {LOADERS[split]}, so there is nothing to measure: "
            f"define it, or choose split={_other(split)}."
        )


def _other(split: str) -> str:
    return "val" if split == "test" else "test"


def analyse(evaluation: Evaluation, analyses: dict[str, Analysis], directory: Path) -> None:
    """Write plots to `figures/`, tables to `tables/` and texts to `texts/` of the directory."""
    for name, make in analyses.items():
        made = make(evaluation)
        if made is None:
            log.info("%s: nothing to show", name)
        elif isinstance(made, Figure):
            made.savefig(_folder(directory, "figures") / f"{name}.png", dpi=150)
        elif isinstance(made, str):
            (_folder(directory, "texts") / f"{name}.txt").write_text(made, "utf-8")
        else:
            made.save(_folder(directory, "tables") / f"{name}.csv")
            made.show(name)


def _folder(directory: Path, name: str) -> Path:
    folder = directory / name
    folder.mkdir(exist_ok=True)
    return folder


def find_data(cfg: DictConfig, rebuilt: Rebuilt) -> LightningDataModule:
    """The data of the command, or else of the run that the checkpoint belongs to.

    Raises:
        UserError: there are neither, the run's config is not trusted, or the model was trained on
            other data.
    """
    run, data = config_of_checkpoint(Path(cfg.ckpt_path)), cfg.get("data")
    if not data and run is None:
        raise UserError(
            f"{cfg.ckpt_path} does not lie in a run's folder, so its data are not known: "
            "add data=<group> to the command."
        )
    if not data and run is not None:
        if not cfg.trust_config:
            check_data(run, f"the {CONFIG} of {cfg.ckpt_path}")
        data = run.get("data")
    config = OmegaConf.create({"data": data, "seed": seed_of(cfg, run)})
    datamodule = build_data_for(rebuilt.model, config)
    different = different_facts(datamodule, rebuilt.facts)
    if different:
        raise UserError(
            f"These are not the data that the model was trained on ({', '.join(different)} "
            "differ): leave `data` out of the command, or use predict.py for new inputs."
        )
    return datamodule


def seed_of(cfg: DictConfig, run: DictConfig | None) -> int | None:
    """The seed of the run, or of the command if the run is unknown."""
    seed: int | None = cfg.get("seed") if run is None else run.get("seed")
    return seed


def different_facts(datamodule: LightningDataModule, facts: dict[str, Any]) -> list[str]:
    """The facts about the data that differ from those that the model was built with."""
    described = datamodule.describe() if hasattr(datamodule, "describe") else {}
    now = {
        name: described[name] if name in described else getattr(datamodule, name)
        for name in facts
        if name not in INCIDENTAL and (name in described or hasattr(datamodule, name))
    }
    return [name for name, value in now.items() if _comparable(value) != _comparable(facts[name])]


def _comparable(value: Any) -> Any:
    """A fact as in a checkpoint, whether it was a tuple, a list or an array."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_comparable(part) for part in value]
    if isinstance(value, dict):
        return {name: _comparable(part) for name, part in value.items()}
    return as_plain(value, "", [])


def build_evaluator(cfg: DictConfig, rebuilt: Rebuilt) -> Trainer:
    """A trainer on one device that writes nothing.

    Seed, precision and limits are those of the run, so that it reproduces the run's results.
    """
    run = config_of_checkpoint(Path(cfg.ckpt_path))
    callbacks = evaluation_callbacks(OmegaConf.create({"seed": seed_of(cfg, run)}))
    run = run or OmegaConf.create({})
    options = {}
    for name in OPTIONS:
        given, used = (OmegaConf.select(node, f"trainer.{name}") for node in (cfg, run))
        value = used if given is None else given
        if value is not None:
            options[name] = value
        if name.startswith("limit_") and given is None and used is not None:
            log.info("trainer.%s=%s, as in the run", name, used)
    return Trainer(
        accelerator=cfg.trainer.accelerator,
        devices=1,
        callbacks=[*callbacks, *([rebuilt.restore] if rebuilt.restore else [])],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=cfg.paths.output_dir,
        **options,
    )
