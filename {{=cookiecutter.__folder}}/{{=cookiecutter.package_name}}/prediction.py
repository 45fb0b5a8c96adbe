"""Predictions of a checkpoint for new pictures or table rows."""

import csv
import logging
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from .data.inputs import Inputs, read_inputs
from .errors import UserError
from .models.supervised import SupervisedModule
from .runs.checkpoints import load_model
from .runs.config_checks import check_complete
from .runs.logs import capture_everything

log = logging.getLogger(__name__)

# More names than this make the line about bad rows unreadable; the table has them all.
NAMES_SHOWN = 5


def predict(cfg: DictConfig) -> None:
    """Predict `cfg.input` with the model of `cfg.ckpt_path` and write a CSV table.

    Args:
        cfg: the config composed from `configs/predict.yaml`.

    Raises:
        UserError: no readable checkpoint or input, or a place that cannot be written.
    """
    check_complete(cfg)
    capture_everything()
    model = load_predictor(cfg.ckpt_path)
    inputs = read_inputs(model.hparams["preprocessing"], Path(cfg.input))
    outputs = run_model(model, inputs.x, cfg.batch_size)
    write_table(Path(cfg.output), inputs, model, outputs)
    log.info("%d predictions written to %s", len(inputs.good), cfg.output)
    if inputs.errors:
        bad = [inputs.names[i] for i in sorted(inputs.errors)]
        more = f" and {len(bad) - NAMES_SHOWN} more" if len(bad) > NAMES_SHOWN else ""
        log.warning(
            "%d of %d inputs could not be read: %s%s; the column `error` says why",
            len(bad),
            len(inputs.names),
            ", ".join(bad[:NAMES_SHOWN]),
            more,
        )


def load_predictor(path: str | Path) -> SupervisedModule:
    """The classifier or regressor in a checkpoint, on the CPU.

    Raises:
        UserError: no readable checkpoint, or one of a model that predicts no target.
    """
    model = load_model(path)
    if not isinstance(model, SupervisedModule):
        raise UserError(
            f"{path} holds a {type(model).__name__}, which predicts no target: give the "
            "checkpoint of a classifier or a regressor."
        )
    return model


@torch.inference_mode()
def run_model(model: SupervisedModule, x: Tensor, batch_size: int) -> Tensor:
    """Predictions for inputs of shape (N, *input_shape), on the GPU if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device)
    batches = [model(batch.to(device)).cpu() for batch in x.split(batch_size)] if len(x) else []
    return torch.cat(batches) if batches else torch.empty(0)


def write_table(path: Path, inputs: Inputs, model: SupervisedModule, outputs: Tensor) -> None:
    """Write one row per input, also for those that could not be read.

    Raises:
        UserError: the file cannot be written.
    """
    columns, rows = table_of(model, inputs, outputs)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(columns)
            table.writerows(rows)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error


def table_of(
    model: SupervisedModule, inputs: Inputs, outputs: Tensor
) -> tuple[list[str], list[list[Any]]]:
    """Column names and one row per input: its name, what is predicted, and what is wrong."""
    columns, rows = result_rows(model, outputs)
    results = dict(zip(inputs.good, rows, strict=True))
    nothing = [""] * len(columns)
    table = [
        [name, *results.get(i, nothing), inputs.errors.get(i, "")]
        for i, name in enumerate(inputs.names)
    ]
    return ["input", *columns, "error"], table


def result_rows(model: SupervisedModule, outputs: Tensor) -> tuple[list[str], list[list[Any]]]:
    """Column names and one row per prediction: class and probabilities, or a value."""
    if model.task == "regression":
        return [str(model.hparams["target_name"])], [[f"{value:.6g}"] for value in outputs.tolist()]
    names = [str(name) for name in model.hparams["class_names"]]
    rows = [
        [names[max(range(len(names)), key=p.__getitem__)], *(f"{v:.6f}" for v in p)]
        for p in outputs.tolist()
    ]
    return ["prediction", *(f"p({name})" for name in names)], rows
