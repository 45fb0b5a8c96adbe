"""Writes what a model's `predict_step` returns for the datamodule's loader to a file."""

import csv
import logging
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from omegaconf import DictConfig
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from torch import Tensor

from .building import has_loader, has_step
from .errors import UserError, first_line
from .evaluation import build_evaluator, find_data
from .floats import exact_floats
from .models.supervised import SupervisedModule
from .prediction_columns import result_columns, result_rows
from .rebuilding import rebuild

log = logging.getLogger(__name__)

# The column of predictions that are single tensors.
NAME = "prediction"
LOADER = "dataloader_idx"

Columns = dict[str, list[Any]]


def predict_loader(cfg: DictConfig) -> Path:
    """Write what `predict_step` returns for every batch of the datamodule's predict loader.

    If every batch yields tensors (B,) or (B, K), lists of B values, or dictionaries, tuples or
    dataclasses of these, the file is a CSV table with a row for each sample. Otherwise it is a
    `.pt` file that contains a list with an entry for each batch.

    Args:
        cfg: the config composed from `configs/predict.yaml`.

    Returns:
        The file.

    Raises:
        UserError: the checkpoint cannot be read, there are no data, the model predicts nothing, or
            the file cannot be written.
    """
    rebuilt = rebuild(cfg.ckpt_path, cfg.trust_config, in_trainer=True)
    model = rebuilt.model
    check_predicts(model)
    datamodule = find_data(cfg, rebuilt)
    choose_loader(datamodule)
    trainer = build_evaluator(cfg, rebuilt)
    outputs = run_predictions(trainer, model, datamodule)
    batches = [batch for loader in outputs for batch in loader]
    if all(batch is None for batch in batches):
        log.info("predict_step returned nothing, so no file was written")
        return Path(cfg.output)
    path = Path(cfg.output)
    columns = None if path.suffix == ".pt" else table_of(model, outputs)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if columns is None:
            path = path.with_suffix(".pt")
            torch.save(as_saved(outputs if len(outputs) > 1 else outputs[0]), path)
            what = f"predictions of {len(batches)} batches"
        else:
            rows = write_columns(path, columns)
            what = f"{rows} predictions"
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from error
    log.info("%s written to %s", what, path)
    return path


def check_predicts(model: LightningModule) -> None:
    """Reject a model that cannot predict.

    Raises:
        UserError: it has neither `predict_step` nor `forward`.
    """
    if not (has_step(model, "predict_step") or has_step(model, "forward")):
        raise UserError(
            f"{type(model).__name__} has neither predict_step nor forward, so it predicts nothing: "
            "define predict_step(self, batch, batch_idx)."
        )


def choose_loader(datamodule: LightningDataModule) -> None:
    """Use the test loader of data without a predict loader.

    Raises:
        UserError: there is neither.
    """
    if has_loader(datamodule, "predict_dataloader"):
        return
    name = type(datamodule).__name__
    if not has_loader(datamodule, "test_dataloader"):
        raise UserError(
            f"{name} has neither predict_dataloader nor test_dataloader: define predict_dataloader."
        )
    log.info("%s has no predict_dataloader: predicting on the test split", name)
    datamodule.setup("test")
    datamodule.predict_dataloader = datamodule.test_dataloader


def run_predictions(
    trainer: Trainer, model: LightningModule, datamodule: LightningDataModule
) -> list[list[Any]]:
    """The predictions for each loader and batch.

    Raises:
        UserError: the model has no `predict_step`, and its `forward` does not take a batch.
    """
    try:
        outputs = trainer.predict(model, datamodule)
    except Exception as error:
        if has_step(model, "predict_step"):
            if "dataloader_idx" in str(error):
                raise UserError(f"{first_line(error)}.") from error
            raise
        raise UserError(
            f"{type(model).__name__} has no predict_step, so Lightning passed a whole batch to "
            f"forward, which failed ({first_line(error)}): define predict_step(self, batch, "
            "batch_idx)."
        ) from error
    # Without gradients, which a step may have enabled.
    kept: Any = apply_to_collection(outputs, Tensor, torch.detach)
    return [kept] if len(trainer.num_predict_batches) == 1 else kept


def table_of(model: LightningModule, outputs: list[list[Any]]) -> Columns | None:
    """The columns of a table with a row for each sample; None if the outputs are not rows."""
    table: Columns = {}
    for number, batches in enumerate(outputs):
        for batch in batches:
            columns = built_in_columns(model, batch) or columns_of(batch)
            if columns is None or len({len(values) for values in columns.values()}) != 1:
                return None
            if len(outputs) > 1:
                rows = len(next(iter(columns.values())))
                columns = {LOADER: [number] * rows} | columns
            if table and table.keys() != columns.keys():
                return None
            for name, values in columns.items():
                table.setdefault(name, []).extend(values)
    return table


def built_in_columns(model: LightningModule, output: Any) -> Columns | None:
    """The columns that predictions for new inputs have."""
    if not (isinstance(model, SupervisedModule) and isinstance(output, Tensor)):
        return None
    width = len(model.output_names)
    # A subclass may return something else.
    if output.shape[1:] != (width,) and not (output.dim() == width == 1):
        return None
    names = result_columns(model)
    rows = result_rows(model, model.in_target_unit(output.float()).numpy())
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def columns_of(output: Any, name: str = "") -> Columns | None:
    """The columns of a batch's output; None if the output is not rows.

    Args:
        output: a tensor, a list of plain values, or a dictionary, tuple or dataclass of these.
        name: prefix of the columns' names.
    """
    if isinstance(output, Tensor):
        return _columns_of_tensor(output, name or NAME)
    if isinstance(output, list) and output and all(_is_cell(value) for value in output):
        return {name or NAME: list(output)}
    parts = _parts_of(output)
    if not parts:
        return None
    columns: Columns = {}
    for key, part in parts.items():
        found = columns_of(part, f"{name}_{key}" if name else key)
        if found is None or found.keys() & columns.keys():
            return None
        columns |= found
    return columns


def _columns_of_tensor(values: Tensor, name: str) -> Columns | None:
    if values.dim() not in (1, 2) or values.is_complex() or values.layout != torch.strided:
        return None
    if values.dim() == 1:
        return {name: _cells(values)}
    return {f"{name}_{place}": _cells(column) for place, column in enumerate(values.unbind(dim=1))}


def _cells(values: Tensor) -> list[Any]:
    if not values.is_floating_point():
        return values.tolist()
    # NumPy has no bfloat16.
    exact = values if values.dtype in (torch.float32, torch.float64) else values.float()
    cells: list[Any] = exact_floats(exact)
    return cells


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _parts_of(output: Any) -> dict[str, Any]:
    """The named parts of an output; those of a tuple are numbered."""
    if isinstance(output, Mapping):
        return {str(key): value for key, value in output.items()}
    if is_dataclass(output) and not isinstance(output, type):
        return {part.name: getattr(output, part.name) for part in fields(output)}
    if hasattr(output, "_asdict"):  # a named tuple
        return dict(output._asdict())
    if isinstance(output, list | tuple):
        return {f"output_{place}": value for place, value in enumerate(output)}
    if hasattr(output, "__array__"):
        return {NAME: torch.as_tensor(output)}
    return {}


def write_columns(path: Path, columns: Columns) -> int:
    """Write a CSV file and return its number of rows."""
    rows = list(zip(*columns.values(), strict=True))
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(rows)
    return len(rows)


def as_saved(output: Any) -> Any:
    """An output of types that `torch.load` reads with `weights_only=True`; others as text."""
    if isinstance(output, Tensor):
        return output.detach().clone()
    if output is None or type(output) in (bool, int, float, complex, str, bytes):
        return output
    if isinstance(output, list | tuple) and not hasattr(output, "_asdict"):
        return [as_saved(part) for part in output]
    if hasattr(output, "__array__"):
        return torch.as_tensor(output)
    parts = _parts_of(output)
    if isinstance(output, Mapping) or parts:
        return {name: as_saved(part) for name, part in parts.items()}
    return repr(output)
