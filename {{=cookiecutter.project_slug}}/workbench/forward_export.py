"""The `forward` of any model as an ONNX file, if it takes one tensor."""

import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.utils import _pytree

from .building import has_step
from .errors import UserError, first_line

INPUT = "input"


def check_exportable(model: LightningModule) -> None:
    """Refuse a model whose `forward` does not take exactly one argument.

    Raises:
        UserError: there is no `forward`, or it takes more arguments.
    """
    name = type(model).__name__
    if not has_step(model, "forward"):
        raise UserError(f"{name} has no forward, so there is nothing to export: define it.")
    parameters = inspect.signature(model.forward).parameters.values()
    required = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    if len(required) != 1:
        given = ", ".join(p.name for p in required) or "nothing"
        raise UserError(
            f"forward of {name} takes {given}, and export.py exports a model whose forward takes "
            "one tensor: export yours with torch.onnx.export."
        )


def inputs_of(model: LightningModule, batches: Iterable[Any]) -> Iterator[Tensor]:
    """What `forward` takes of each batch: the batch, or the first part of (x, ...).

    Raises:
        UserError: that is not a tensor.
    """
    for batch in batches:
        x = batch[0] if isinstance(batch, list | tuple) and batch else batch
        if not isinstance(x, Tensor) or x.dim() == 0:
            raise UserError(
                "A batch of the validation loader does not begin with a tensor, so what forward of "
                f"{type(model).__name__} takes is not known: export it with torch.onnx.export."
            )
        yield x


def write_forward(model: LightningModule, x: Tensor, path: Path) -> None:
    """Write a model with a batch axis of any length.

    Args:
        model: in evaluation mode.
        x: an example of its input (B, ...).
        path: the file.

    Raises:
        UserError: ONNX cannot express what the model does.
    """
    try:
        program = torch.onnx.export(
            model,
            # A batch axis of one would be taken for a constant.
            (torch.cat([x[:1], x[:1]]),),
            input_names=[INPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            optimize=False,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise UserError(
            f"{type(model).__name__} cannot be exported: {first_line(error)}."
        ) from error
    assert program is not None
    onnx.save(program.model_proto, path)


def compare_forward(
    model: LightningModule, session: Any, inputs: Iterable[Tensor]
) -> tuple[float, int]:
    """The largest difference between the file's outputs and the model's, and of how many samples.

    Each batch is tried whole, and its first sample alone.
    """
    largest, samples = 0.0, 0
    for x in inputs:
        for part in (x[:1], x):
            with torch.inference_mode():
                expected = [leaf for leaf in _pytree.tree_leaves(model(part)) if _is_tensor(leaf)]
            found = session.run(None, {INPUT: part.numpy()})
            for one, other in zip(found, expected, strict=True):
                largest = max(largest, distance(one, other.numpy()))
        samples += len(x)
    return largest, samples


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def distance(found: Any, expected: Any) -> float:
    """The largest difference of two arrays, relative to values above one.

    Infinite for another shape, or for values that are not numbers.
    """
    if found.shape != expected.shape:
        return np.inf
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    difference = np.abs(found - expected) / np.maximum(1, np.abs(expected))
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))
