"""A checkpoint as an ONNX file, which runs without PyTorch and without this project."""

import json
import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor, nn

from .analysis.collect import first_loader
from .building import has_loader
from .data.images import Normalise
from .errors import UserError, first_line
from .evaluation import find_data
from .files import replacing
from .forward_export import (
    check_exportable,
    compare_forward,
    distance,
    inputs_of,
    write_forward,
)
from .models.supervised import SupervisedModule
from .prediction import has_categories
from .runs.config_checks import check_top_level
from .runs.logs import capture_everything
from .runs.rebuilding import rebuild

# So many batches of real data show whether a file computes what the model computes.
BATCHES_COMPARED = 10
METADATA = ("class_names", "target_name", "preprocessing")
# Each step of the exporter has a line of log.
TALKATIVE = ("onnxscript", "onnx_ir")
UNKNOWN_CATEGORIES = (
    "A category that is not among the levels of its column sets the feature '<column>=?' to 1, as "
    "a missing value does. Unless values were missing in training, the weight of that feature is "
    "untrained: the file predicts without notice, and the prediction may be wrong."
)


class InTargetUnit(nn.Module):
    """The conversion of predictions to the target's own unit behind a module.

    Shapes: inputs of the module to class probabilities (B, num_classes), or to values (B,), which
    are float64, because float32 cannot tell 1,700,000,000 from 1,700,000,060.
    """

    def __init__(self, module: nn.Module, model: SupervisedModule) -> None:
        super().__init__()
        self.module, self.model = module, model

    def forward(self, x: Tensor) -> Tensor:
        """Predictions for a batch."""
        return self.model.in_target_unit(self.module(x))


class FromPixels(nn.Module):
    """The model with the normalisation of pictures before it.

    Shapes: uint8 (B, C, H, W), 0..255, to class probabilities (B, num_classes) or values (B,).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: SupervisedModule) -> None:
        super().__init__()
        normalise = Normalise(model.hparams["preprocessing"])
        self.model = model
        self.register_buffer("mean", normalise.mean)
        self.register_buffer("std", normalise.std)

    def forward(self, pixels: Tensor) -> Tensor:
        """Predictions for a batch of pictures."""
        return self.model((pixels.float() - self.mean) / self.std)

    def pixels(self, x: Tensor) -> Tensor:
        """The pictures (B, C, H, W) that became the inputs x."""
        return (x * self.std + self.mean).round().clamp(0, 255).to(torch.uint8)


class FromValues(FromPixels):
    """The model with the scaling and normalisation of images of more than 8 bits before it.

    Shapes: float32 (B, C, H, W), the values of the files, to the same outputs. Values outside
    `value_range` of the metadata are clipped to it.
    """

    def __init__(self, model: SupervisedModule) -> None:
        super().__init__(model)
        self.low, high = model.hparams["preprocessing"]["value_range"]
        self.scale = 255 / (high - self.low)

    def forward(self, pixels: Tensor) -> Tensor:
        """Predictions for a batch of values."""
        scaled = ((pixels - self.low) * self.scale).clamp(0, 255)
        return self.model((scaled - self.mean) / self.std)

    def pixels(self, x: Tensor) -> Tensor:
        """The values (B, C, H, W) that became the inputs x."""
        return (x * self.std + self.mean) / self.scale + self.low


def export(cfg: DictConfig) -> Path:
    """Write `cfg.ckpt_path` as an ONNX file, verified against the checkpoint.

    Args:
        cfg: the config composed from `configs/export.yaml`.

    Returns:
        The path of the file.

    Raises:
        UserError: no readable checkpoint, no data to compare on, a net that ONNX cannot express, or
            a file that predicts something else.
    """
    check_top_level(cfg)
    capture_everything()
    for library in TALKATIVE:
        logging.getLogger(library).setLevel(logging.WARNING)
    rebuilt = rebuild(cfg.ckpt_path, cfg.trust_config)
    if not isinstance(rebuilt.model, SupervisedModule):
        check_exportable(rebuilt.model)
    loader = validation_loader(find_data(cfg, rebuilt))
    output = Path(cfg.output or Path(cfg.ckpt_path).with_suffix(".onnx"))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(output) as partial:
            difference, samples = write_and_compare(rebuilt.model, loader, partial)
            if not difference <= cfg.tolerance:
                raise UserError(
                    "The exported model predicts something else: it differs by "
                    f"{difference:.2g}, and tolerance={cfg.tolerance} allows less; no file was "
                    "kept."
                )
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror}.") from error
    print_file(output)
    print(
        f"compared  {samples} samples, at most {difference:.1e} from the checkpoint's predictions"
    )
    return output


def validation_loader(datamodule: LightningDataModule) -> Any:
    """The loader whose batches are compared.

    Raises:
        UserError: the datamodule has none.
    """
    if not has_loader(datamodule, "val_dataloader"):
        raise UserError(
            f"{type(datamodule).__name__} has no val_dataloader, so there are no samples to "
            "compare the file on: define it."
        )
    return first_loader(datamodule.val_dataloader())


def write_and_compare(model: LightningModule, loader: Any, path: Path) -> tuple[float, int]:
    """Write the file; the largest difference of its predictions to the model's, and of how many.

    Raises:
        UserError: ONNX cannot express the model.
    """
    if isinstance(model, SupervisedModule):
        write(model, path)
        return compare(model, path, islice(loader, BATCHES_COMPARED))
    inputs = list(inputs_of(model, islice(loader, BATCHES_COMPARED)))
    if not inputs:
        raise UserError("The validation loader is empty, so there is nothing to compare on.")
    write_forward(model, inputs[0], path)
    return compare_forward(model, open_session(path), inputs)


def write(model: SupervisedModule, path: Path) -> None:
    """Write the model with a batch axis of any length.

    Raises:
        UserError: the net does something that ONNX has no word for.
    """
    module, name, batch = example(model)
    try:
        program = torch.onnx.export(
            InTargetUnit(module, model).eval(),
            (batch,),
            input_names=[name],
            output_names=["values" if model.task == "regression" else "probabilities"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            # The exporter would leave out the addition of a target's mean of 1e-12: almost zero.
            # Runtimes optimise the file when they load it.
            optimize=False,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise UserError(
            f"{type(model).__name__} cannot be exported: {first_line(error)}."
        ) from error
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, describe(model))
    onnx.save(proto, path)


def example(model: SupervisedModule) -> tuple[nn.Module, str, Tensor]:
    """What is exported, the name of its input, and a batch of two."""
    shape, preprocessing = model.hparams["input_shape"], model.hparams["preprocessing"] or {}
    if preprocessing.get("kind") != "image":
        name = "features" if preprocessing else "input"
        return model, name, torch.zeros((2, *shape))
    if preprocessing["value_range"] is None:
        return FromPixels(model).eval(), "pixels", torch.zeros((2, *shape), dtype=torch.uint8)
    return FromValues(model).eval(), "pixels", torch.zeros((2, *shape))


def describe(model: SupervisedModule) -> dict[str, str]:
    """What the numbers mean, as JSON: the file's metadata."""
    facts = {name: model.hparams[name] for name in METADATA if name in model.hparams}
    facts["output_names"] = model.output_names
    if has_categories(model):
        facts["unknown_categories"] = UNKNOWN_CATEGORIES
    return {name: json.dumps(value) for name, value in facts.items()}


def compare(
    model: SupervisedModule, path: Path, batches: Iterator[tuple[Tensor, Tensor]]
) -> tuple[float, int]:
    """The largest difference between the file's predictions and the model's, and of how many.

    Differences are those of probabilities, or of standardised values; relative where these are
    larger than one. Each batch is tried whole, and its first sample alone.
    """
    session = open_session(path)
    module, name, _ = example(model)
    largest, samples = 0.0, 0
    for x, _ in batches:
        inputs = module.pixels(x) if isinstance(module, FromPixels) else x
        with torch.inference_mode():
            expected = model(x).numpy()
        for size in (1, len(x)):
            (found,) = session.run(None, {name: inputs[:size].numpy()})
            largest = max(largest, distance(standardised(model, found), expected[:size]))
        samples += len(x)
    return largest, samples


def standardised(model: SupervisedModule, found: NDArray[Any]) -> NDArray[Any]:
    """What a file predicts, as the model predicts it: a regression in standard deviations."""
    if model.task != "regression":
        return found
    # Each target may have several quantiles.
    columns = found.shape[1] if found.ndim == 2 else 1
    mean, std = (
        np.repeat(values, columns // len(values))
        for values in (np.atleast_1d(model.hparams[f"target_{name}"]) for name in ("mean", "std"))
    )
    return (found - mean) / std


def open_session(path: Path) -> Any:
    """The file, ready to predict on the CPU."""
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def print_file(path: Path) -> None:
    """Print where the file is, and what goes into it and comes out."""
    session = open_session(path)
    print(f"file      {path}")
    for kind, nodes in (("input", session.get_inputs()), ("output", session.get_outputs())):
        for node in nodes:
            print(f"{kind:<9} {node.name} ({', '.join(map(str, node.shape))}), {node.type}")
