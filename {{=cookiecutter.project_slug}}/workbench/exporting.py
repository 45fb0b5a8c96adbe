"""Exports a checkpoint as an ONNX file, which runs without PyTorch and without this project.

Of a classifier or regressor, the file contains everything from raw pixels or features to
probabilities or values in the target's unit; of any other model, its `forward`.
"""

import inspect
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
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
from torch.utils import _pytree

from .analysis.collect import first_loader
from .building import has_loader, has_step
from .config_checks import check_top_level
from .data.batches import inputs_and_targets
from .data.images import Normalise
from .data.sequences import CODES, MASK
from .errors import UserError, first_line
from .evaluation import find_data
from .files import replacing
from .models.supervised import SupervisedModule
from .prediction_columns import has_categories
from .rebuilding import rebuild
from .runs.logs import capture_everything

# The number of validation batches for which the file must predict what the model predicts.
BATCHES_COMPARED = 10
# The input of a model that is neither a classifier nor a regressor.
INPUT = "input"
METADATA = ("class_names", "target_name", "preprocessing")
# They log every step of the exporter.
TALKATIVE = ("onnxscript", "onnx_ir")
UNKNOWN_CATEGORIES = (
    "A category that is not among the levels of its column sets the feature '<column>=?' to 1, as "
    "a missing value does. Unless values were missing in training, the weight of that feature is "
    "untrained: the file predicts without notice, and the prediction may be wrong."
)


class InTargetUnit(nn.Module):
    """A module, followed by the conversion of its predictions to the target's own unit.

    Shapes: inputs of the module to class probabilities (B, num_classes), or to values (B,) in
    float64, because float32 cannot tell 1,700,000,000 from 1,700,000,060.
    """

    def __init__(self, module: nn.Module, model: SupervisedModule) -> None:
        super().__init__()
        self.module, self.model = module, model

    def forward(self, *inputs: Tensor) -> Tensor:
        """Predictions for a batch."""
        return self.model.in_target_unit(self.module(*inputs))


class FromCodes(nn.Module):
    """A model of texts, with its inputs as separate arguments.

    Shapes: input_ids and attention_mask, both int64 (B, length), to class probabilities
    (B, num_classes) or values (B,).
    """

    def __init__(self, model: SupervisedModule) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Predictions for a batch of texts."""
        return self.model({CODES: input_ids, MASK: attention_mask})


class FromPixels(nn.Module):
    """The normalisation of images, followed by the model.

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
        """Predictions for a batch of images."""
        return self.model((pixels.float() - self.mean) / self.std)

    def pixels(self, x: Tensor) -> Tensor:
        """The images (B, C, H, W) that became the inputs x."""
        return (x * self.std + self.mean).round().clamp(0, 255).to(torch.uint8)


class FromValues(FromPixels):
    """The scaling and normalisation of images of more than 8 bits, followed by the model.

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
        UserError: the checkpoint cannot be read, there are no data to compare on, ONNX cannot
            express the network, or the file's predictions differ.
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
                    f"The exported model's predictions differ by {difference:.2g}, which is more "
                    f"than tolerance={cfg.tolerance}; no file was kept."
                )
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror}.") from error
    print_file(output)
    print(
        f"compared  {samples} samples, at most {difference:.1e} from the checkpoint's predictions"
    )
    return output


def validation_loader(datamodule: LightningDataModule) -> Any:
    """The loader on whose batches predictions are compared.

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
    """Write the file and compare it: the largest difference, and the number of samples.

    Raises:
        UserError: ONNX cannot express the model.
    """
    if isinstance(model, SupervisedModule):
        write(model, path)
        return compare(model, path, islice(loader, BATCHES_COMPARED))
    inputs = list(inputs_of(model, islice(loader, BATCHES_COMPARED)))
    if not inputs:
        raise UserError("The validation loader is empty, so there is nothing to compare on.")
    example_batch = {INPUT: torch.cat([inputs[0][:1]] * 2)}
    longest = getattr(model, "longest_input", None)
    proto = to_onnx(type(model).__name__, model, example_batch, longest=longest)
    onnx.save(proto, path)
    if longest is not None:
        inputs = [part for x in inputs for part in of_several_lengths(x)]
    return compare_forward(model, open_session(path), inputs)


def write(model: SupervisedModule, path: Path) -> None:
    """Write a classifier or regressor with its preprocessing, unit and metadata.

    Raises:
        UserError: ONNX cannot express the network.
    """
    module, batch = example(model)
    output = "values" if model.task == "regression" else "probabilities"
    longest = model.hparams["input_shape"][0] if reads_texts(model) else None
    whole = InTargetUnit(module, model).eval()
    proto = to_onnx(type(model).__name__, whole, batch, [output], longest)
    onnx.helper.set_model_props(proto, describe(model))
    onnx.save(proto, path)


def to_onnx(
    shown: str,
    module: nn.Module,
    batch: dict[str, Tensor],
    outputs: list[str] | None = None,
    longest: int | None = None,
) -> Any:
    """A module as ONNX, with a batch axis of any length.

    Args:
        shown: name of the model, for the message.
        module: in evaluation mode.
        batch: an example of its inputs by name, of at least two samples: one would become a
            constant.
        outputs: names of the outputs.
        longest: the maximum length of a sequence, if the second axis is dynamic too.

    Raises:
        UserError: ONNX cannot express what the module does.
    """
    axes = {0: torch.export.Dim("batch")}
    if longest is not None:
        axes[1] = torch.export.Dim("length", max=longest)
    try:
        program = torch.onnx.export(
            module,
            tuple(batch.values()),
            input_names=list(batch),
            output_names=outputs,
            dynamic_shapes=dynamic_shapes(module, [axes] * len(batch)),
            dynamo=True,
            # The optimizer would drop the addition of a target mean of 1e-12 as almost zero.
            # Runtimes optimize the file when they load it.
            optimize=False,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise UserError(f"{shown} cannot be exported: {first_line(error)}.") from error
    assert program is not None
    return program.model_proto


def dynamic_shapes(module: nn.Module, axes: list[dict[int, Any]]) -> tuple[Any, ...]:
    """The axes of each argument, in one tuple if `forward` collects its arguments."""
    (first, *_) = inspect.signature(module.forward).parameters.values()
    return (tuple(axes),) if first.kind is first.VAR_POSITIONAL else tuple(axes)


def of_several_lengths(x: Tensor) -> list[Tensor]:
    """A batch of sequences (B, T), and the first half and the first element of each."""
    return [x, x[:, : max(1, x.shape[1] // 2)], x[:, :1]]


def reads_texts(model: SupervisedModule) -> bool:
    """Whether the inputs of a model are texts."""
    return (model.hparams["preprocessing"] or {}).get("kind") == "text"


def example(model: SupervisedModule) -> tuple[nn.Module, dict[str, Tensor]]:
    """The module to export, and an example batch with the names of its inputs."""
    shape, preprocessing = model.hparams["input_shape"], model.hparams["preprocessing"] or {}
    if reads_texts(model):
        codes = torch.zeros((2, shape[0]), dtype=torch.int64)
        return FromCodes(model).eval(), {CODES: codes, MASK: torch.ones_like(codes)}
    if preprocessing.get("kind") != "image":
        name = "features" if preprocessing else "input"
        return model, {name: torch.zeros((2, *shape))}
    if preprocessing["value_range"] is None:
        pixels = torch.zeros((2, *shape), dtype=torch.uint8)
        return FromPixels(model).eval(), {"pixels": pixels}
    return FromValues(model).eval(), {"pixels": torch.zeros((2, *shape))}


def describe(model: SupervisedModule) -> dict[str, str]:
    """The file's metadata: the meaning of inputs and outputs, as JSON."""
    facts = {name: model.hparams[name] for name in METADATA if name in model.hparams}
    facts["output_names"] = model.output_names
    if has_categories(model):
        facts["unknown_categories"] = UNKNOWN_CATEGORIES
    return {name: json.dumps(value) for name, value in facts.items()}


def compare(model: SupervisedModule, path: Path, batches: Iterator[Any]) -> tuple[float, int]:
    """The largest difference between the file's and the model's predictions; number of samples.

    Differences are those of probabilities or standardised values, relative for values above one.
    Each batch is compared as a whole, and its first sample alone.
    """
    session = open_session(path)
    module, example_batch = example(model)
    largest, samples = 0.0, 0
    for batch in batches:
        x, _ = inputs_and_targets(batch)
        with torch.inference_mode():
            expected = model(x).numpy()
        inputs = x if isinstance(x, Mapping) else dict.fromkeys(example_batch, x)
        if isinstance(module, FromPixels):
            inputs = {name: module.pixels(x) for name in inputs}
        for size in (1, len(expected)):
            part = {name: values[:size].numpy() for name, values in inputs.items()}
            (found,) = session.run(None, part)
            largest = max(largest, distance(standardised(model, found), expected[:size]))
        samples += len(expected)
    return largest, samples


def standardised(model: SupervisedModule, found: NDArray[Any]) -> NDArray[Any]:
    """A file's predictions as the model's: those of a regression in standard deviations."""
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
    """A session that predicts with the file on the CPU."""
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def check_exportable(model: LightningModule) -> None:
    """Reject a model whose `forward` does not take exactly one argument.

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
    """The input of `forward` for each batch: the batch, or the first element of (x, ...).

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


def compare_forward(
    model: LightningModule, session: Any, inputs: Iterable[Tensor]
) -> tuple[float, int]:
    """The same as `compare`, for the outputs of `forward`."""
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
    """The largest difference between two arrays, relative for values above one.

    Infinite for different shapes and NaN.
    """
    if found.shape != expected.shape:
        return np.inf
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    difference = np.abs(found - expected) / np.maximum(1, np.abs(expected))
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0))


def print_file(path: Path) -> None:
    """Print the file with its inputs and outputs."""
    session = open_session(path)
    print(f"file      {path}")
    for kind, nodes in (("input", session.get_inputs()), ("output", session.get_outputs())):
        for node in nodes:
            print(f"{kind:<9} {node.name} ({', '.join(map(str, node.shape))}), {node.type}")
