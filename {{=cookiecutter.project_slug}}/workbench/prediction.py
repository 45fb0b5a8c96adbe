"""Predictions of a checkpoint for new pictures or table rows."""

import csv
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from .data.inputs import Inputs, read_inputs
from .errors import UserError
from .floats import exact_floats
from .models.supervised import SupervisedModule
from .multilabel import THRESHOLD, join_labels
from .runs.checkpoints import load_model
from .runs.config_checks import check_complete
from .runs.logs import capture_everything

log = logging.getLogger(__name__)

# More names than this make a line about rows unreadable; the table has them all.
NAMES_SHOWN = 5
# Columns of every table; a target of one of these names gets another.
RESERVED = ("input", "unknown", "error")
UNKNOWN = "inputs hold a category that training never saw"

Cell = str | float | None


def predict(cfg: DictConfig) -> None:
    """Predict `cfg.input`, or what the datamodule's predict loader yields, and write a file.

    Args:
        cfg: the config composed from `configs/predict.yaml`.

    Raises:
        UserError: no readable checkpoint or input, or a place that cannot be written.
    """
    check_complete(cfg)
    capture_everything()
    if cfg.input is None:
        # Imported here: the loader's predictions are shown as those of new inputs.
        from .loader_predictions import predict_loader

        predict_loader(cfg)
    else:
        predict_inputs(cfg)


def predict_inputs(cfg: DictConfig) -> None:
    """Predict `cfg.input` with the model of `cfg.ckpt_path` and write a CSV table.

    Raises:
        UserError: no readable checkpoint or input, or a place that cannot be written.
    """
    model = load_predictor(cfg.ckpt_path, cfg.trust_config, "predict")
    inputs = read_inputs(model.hparams["preprocessing"], Path(cfg.input))
    unreadable = inputs.errors
    inputs, outputs = run_model(model, inputs, cfg.batch_size)
    write_table(Path(cfg.output), inputs, model, outputs)
    log.info("%d predictions written to %s", len(inputs.good), cfg.output)
    warn_of(inputs.names, unreadable, "inputs could not be read", "error")
    not_finite = {i: inputs.errors[i] for i in inputs.errors.keys() - unreadable.keys()}
    warn_of(inputs.names, not_finite, "predictions are not finite numbers", "error")
    warn_of(inputs.names, inputs.unknown, UNKNOWN, "unknown")


def warn_of(names: list[str], told: dict[int, str], what: str, column: str) -> None:
    """Count the rows of which a column says something, and name the first."""
    if told:
        shown = [names[position] for position in sorted(told)[:NAMES_SHOWN]]
        more = f" and {len(told) - NAMES_SHOWN} more" if len(told) > NAMES_SHOWN else ""
        log.warning(
            "%d of %d %s: %s%s; see the column `%s`",
            len(told),
            len(names),
            what,
            ", ".join(shown),
            more,
            column,
        )


# What to do instead where a model does not say how a file becomes its input.
INSTEAD = {
    "predict": "leave input out of the command to predict on the datamodule's predict_dataloader",
    "serve": "predict.py writes what its predict_step returns for the datamodule's loader",
}


def load_predictor(
    path: str | Path, trust_config: bool = False, command: str = "predict"
) -> SupervisedModule:
    """The classifier or regressor in a checkpoint, on the CPU.

    Args:
        path: the checkpoint.
        trust_config: see `load_model`.
        command: "predict" or "serve", for the message.

    Raises:
        UserError: no readable checkpoint, or one of a model that cannot read files.
    """
    model = load_model(path, trust_config)
    # A datamodule of the user's own need not say how a file becomes an input.
    if not (isinstance(model, SupervisedModule) and model.hparams.get("preprocessing")):
        raise UserError(
            f"{path} holds a {type(model).__name__} that does not know how a file becomes its "
            f"input: {INSTEAD[command]}."
        )
    return model


@torch.inference_mode()
def run_model(
    model: SupervisedModule, inputs: Inputs, batch_size: int
) -> tuple[Inputs, NDArray[Any]]:
    """Predict all good inputs, on the GPU if there is one.

    Returns:
        The inputs, those without a finite prediction moved to `errors`; and the predictions of the
        good ones: probabilities float32 (N, num_classes), or values float64 (N,) or
        (N, len(output_names)) in the target's own unit.
    """
    if not inputs.good:
        return inputs, np.empty(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device)
    batches = [model(batch.to(device)).cpu() for batch in inputs.x.split(batch_size)]
    outputs = model.in_target_unit(torch.cat(batches)).numpy()
    finite = np.isfinite(outputs.reshape(len(outputs), -1)).all(axis=1)
    good = [position for position, is_finite in zip(inputs.good, finite, strict=True) if is_finite]
    lost = dict.fromkeys(sorted({*inputs.good} - {*good}), "the prediction is not a finite number")
    kept = replace(inputs, x=inputs.x[finite], good=good, errors=inputs.errors | lost)
    return kept, outputs[finite]


def write_table(path: Path, inputs: Inputs, model: SupervisedModule, outputs: NDArray[Any]) -> None:
    """Write one row per input, also for those that could not be predicted.

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
    model: SupervisedModule, inputs: Inputs, outputs: NDArray[Any]
) -> tuple[list[str], list[list[Cell]]]:
    """Column names and one row per input: its name, what is predicted, and remarks.

    Names of columns occur once, and numbers have the digits that read back to the same value.
    """
    columns = result_columns(model)
    results = dict(zip(inputs.good, result_rows(model, outputs), strict=True))
    nothing: list[Cell] = [None] * len(columns)
    remarks = {"unknown": inputs.unknown, "error": inputs.errors}
    if not has_categories(model):
        del remarks["unknown"]
    table = [
        [name, *results.get(i, nothing), *(remark.get(i) for remark in remarks.values())]
        for i, name in enumerate(inputs.names)
    ]
    return ["input", *columns, *remarks], table


def has_categories(model: SupervisedModule) -> bool:
    """Whether an input can hold a category that the training part did not hold."""
    columns = model.hparams["preprocessing"].get("columns", [])
    return any(column["type"] == "categorical" for column in columns)


def result_columns(model: SupervisedModule) -> list[str]:
    """Names of the columns that are predicted: class or labels and probabilities, or values."""
    if model.task == "regression":
        return [f"{n}_predicted" if n in RESERVED else n for n in _distinct(model.output_names)]
    return ["prediction", *_distinct([f"p({name})" for name in model.output_names])]


def _distinct(names: list[str]) -> list[str]:
    """The names, numbered where they repeat; the first keeps its name."""
    again = [names[:place].count(name) for place, name in enumerate(names)]
    return [f"{n}_{k + 1}" if k else n for n, k in zip(names, again, strict=True)]


def result_rows(model: SupervisedModule, outputs: NDArray[Any]) -> list[list[Cell]]:
    """One row per prediction: class or labels and probabilities, or values.

    Args:
        model: what predicted.
        outputs: probabilities (N, num_classes), values (N,) or (N, len(output_names)).
    """
    numbers = exact_floats(outputs)
    if model.task == "regression":
        return [[row] if outputs.ndim == 1 else row for row in numbers]
    if model.task == "multilabel":
        places = (np.flatnonzero(row >= THRESHOLD) for row in outputs)
        said = [join_labels(model.output_names, chosen) for chosen in places]
    else:
        best = outputs.argmax(axis=1) if len(outputs) else []
        said = [model.output_names[place] for place in best]
    return [[answer, *row] for answer, row in zip(said, numbers, strict=True)]
