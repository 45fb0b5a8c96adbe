"""Predictions of a checkpoint for new images, table rows or texts, and continuations of a text."""

import csv
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from numpy.typing import NDArray
from omegaconf import DictConfig
from pytorch_lightning import LightningModule
from torch import Tensor

from .config_checks import check_complete
from .data.inputs import Inputs, read_inputs
from .data.text_file import read_text
from .errors import UserError
from .loading import load_model
from .models.supervised import SupervisedModule
from .prediction_columns import Cell, has_categories, result_columns, result_rows
from .runs.logs import capture_everything
from .seeding import seed_generators

log = logging.getLogger(__name__)

# The number of names in a message; the table has them all.
NAMES_SHOWN = 5
UNKNOWN = "inputs hold a value that training never saw"
# The alternative to reading files that a model does not know how to read, by command.
INSTEAD = {
    "predict": "leave input out of the command to predict on the datamodule's predict_dataloader",
    "serve": "predict.py writes what its predict_step returns for the datamodule's loader",
}


def predict(cfg: DictConfig) -> None:
    """Predict `cfg.input`, or the batches of the datamodule's predict loader, and write a file.

    Args:
        cfg: the config composed from `configs/predict.yaml`.

    Raises:
        UserError: the checkpoint or the input cannot be read, or the file cannot be written.
    """
    check_complete(cfg)
    capture_everything()
    if cfg.input is None:
        # Imported here: matplotlib would delay predictions for files.
        from .loader_predictions import predict_loader

        predict_loader(cfg)
    else:
        predict_inputs(cfg)


def predict_inputs(cfg: DictConfig) -> None:
    """Predict `cfg.input` with the model of `cfg.ckpt_path` and write a CSV table.

    A model with the method `continue_text` continues the text of the file instead.

    Raises:
        UserError: the checkpoint or the input cannot be read, or the file cannot be written.
    """
    loaded = load_model(cfg.ckpt_path, cfg.trust_config)
    if hasattr(loaded, "continue_text"):
        continue_file(cfg, loaded)
        return
    model = as_predictor(loaded, cfg.ckpt_path, "predict")
    inputs = read_inputs(model.hparams["preprocessing"], Path(cfg.input))
    unreadable = inputs.errors
    device = device_of(cfg.trainer.accelerator)
    inputs, outputs = run_model(model, inputs, cfg.batch_size, device)
    write_table(Path(cfg.output), inputs, model, outputs)
    log.info("%d predictions written to %s", len(inputs.good), cfg.output)
    warn_of(inputs.names, unreadable, "inputs could not be read", "error")
    not_finite = {i: inputs.errors[i] for i in inputs.errors.keys() - unreadable.keys()}
    warn_of(inputs.names, not_finite, "predictions are not finite numbers", "error")
    warn_of(inputs.names, inputs.unknown, UNKNOWN, "unknown")


def continue_file(cfg: DictConfig, model: LightningModule) -> None:
    """Write the text of `cfg.input` and its continuation to `cfg.output`, with `.txt` for `.csv`.

    Raises:
        UserError: the input cannot be read, or the file cannot be written.
    """
    prompt = read_text(Path(cfg.input).expanduser())
    if cfg.seed is not None:
        seed_generators(cfg.seed)
    continued = model.to(device_of(cfg.trainer.accelerator)).continue_text(prompt, **cfg.writing)
    path = Path(cfg.output)
    if path.suffix == ".csv":
        path = path.with_suffix(".txt")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(prompt + continued, "utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error
    log.info("the text and %d more characters written to %s", len(continued), path)


def warn_of(names: list[str], told: dict[int, str], what: str, column: str) -> None:
    """Log how many rows have a remark in a column, and name the first of them."""
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


def load_predictor(
    path: str | Path, trust_config: bool = False, command: str = "predict"
) -> SupervisedModule:
    """The classifier or regressor in a checkpoint, on the CPU.

    Args:
        path: the checkpoint.
        trust_config: see `load_model`.
        command: "predict" or "serve", for the message.

    Raises:
        UserError: the checkpoint cannot be read, or its model cannot read files.
    """
    return as_predictor(load_model(path, trust_config), path, command)


def as_predictor(model: LightningModule, path: str | Path, command: str) -> SupervisedModule:
    """The model of a checkpoint as a classifier or regressor.

    Raises:
        UserError: it is another one, and cannot read files.
    """
    if hasattr(model, "continue_text"):
        raise UserError(
            f"{path} holds a {type(model).__name__}, and serve.py serves classifiers and "
            "regressors: continue a text with predict.py input=prompt.txt."
        )
    # The user's own datamodules need not describe how a file becomes an input.
    if not (isinstance(model, SupervisedModule) and model.hparams.get("preprocessing")):
        raise UserError(
            f"{path} holds a {type(model).__name__} that does not know how a file becomes its "
            f"input: {INSTEAD[command]}."
        )
    return model


def device_of(accelerator: str) -> str:
    """The device of `trainer.accelerator`, "cuda" or "cpu".

    Raises:
        UserError: a GPU is required and there is none.
    """
    has_gpu = accelerator != "cpu" and torch.cuda.is_available()
    if accelerator in ("gpu", "cuda") and not has_gpu:
        raise UserError(
            f"trainer.accelerator={accelerator} needs a CUDA device, and there is none; "
            "trainer=auto uses what this machine has."
        )
    return "cuda" if has_gpu else "cpu"


@torch.inference_mode()
def run_model(
    model: SupervisedModule, inputs: Inputs, batch_size: int, device: str | None = None
) -> tuple[Inputs, NDArray[Any]]:
    """Predict all good inputs.

    Args:
        model: the model, which is moved to the device.
        inputs: what to predict.
        batch_size: number of inputs that are predicted at a time.
        device: "cuda" or "cpu"; None for the GPU if there is one.

    Returns:
        The inputs, with those whose prediction is not finite moved to `errors`; and the predictions
        for the good ones: probabilities float32 (N, num_classes), or values float64 (N,) or
        (N, len(output_names)) in the target's own unit.
    """
    if not inputs.good:
        return inputs, np.empty(0)
    device = device or device_of("auto")
    model = model.to(device)
    batches = [model(to_device(batch, device)).cpu() for batch in inputs.x.split(batch_size)]
    outputs = model.in_target_unit(torch.cat(batches)).numpy()
    finite = np.isfinite(outputs.reshape(len(outputs), -1)).all(axis=1)
    good = [position for position, is_finite in zip(inputs.good, finite, strict=True) if is_finite]
    lost = dict.fromkeys(sorted({*inputs.good} - {*good}), "the prediction is not a finite number")
    kept = replace(inputs, x=inputs.x[finite], good=good, errors=inputs.errors | lost)
    return kept, outputs[finite]


def to_device(x: Any, device: str) -> Any:
    """A tensor, or a dictionary of tensors, on a device."""
    return apply_to_collection(x, Tensor, lambda tensor: tensor.to(device))


def write_table(path: Path, inputs: Inputs, model: SupervisedModule, outputs: NDArray[Any]) -> None:
    """Write one row per input, including those that could not be predicted.

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
    """Column names and one row per input: its name, the prediction, and remarks.

    Column names are unique, and numbers have the digits that read back to the same value.
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
