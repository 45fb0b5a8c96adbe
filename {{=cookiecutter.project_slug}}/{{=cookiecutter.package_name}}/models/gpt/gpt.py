"""A language model that predicts the next character or byte."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.checks import check_integer, check_number
from workbench.errors import UserError
from workbench.models.base import BaseModule
from workbench.models.precision import EpochMean, at_least_float32

from ...data.text import IGNORED
from ...data.tokens import begins_character, decode, encode
from .bits import BitsPerCharacter
from .transformer import Transformer

Batch = tuple[Tensor, Tensor]
STAGES = ("train", "val", "test")


class GPT(BaseModule):
    """A decoder-only transformer over characters or bytes.

    Logs the loss in nats per code, and in bits per character (`val/bpc`).

    Args:
        optimizer: `name` and options of the optimizer.
        scheduler: `name` and options of the learning-rate schedule.
        n_layer: number of blocks.
        n_head: number of attention heads.
        n_embd: width, divisible by `n_head`.
        dropout: probability of dropout.
        characters: the characters of the text, sorted; None for bytes.
        block_size: the maximum context.

    Raises:
        UserError: an argument that cannot be used.
    """

    tasks = ("text",)

    def __init__(
        self,
        optimizer: dict[str, Any],
        scheduler: dict[str, Any],
        n_layer: int,
        n_head: int,
        n_embd: int,
        dropout: float,
        characters: str | None,
        block_size: int,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        sizes = {"n_layer": n_layer, "n_head": n_head, "n_embd": n_embd}
        for name, value in sizes.items():
            check_integer(f"model.{name}", value, 1)
        check_number("model.dropout", dropout, least=0, below=1)
        if n_embd % n_head:
            raise UserError(
                f"model.n_embd={n_embd} is not divisible by model.n_head={n_head}: each head gets "
                "an equal part of the width."
            )
        self.begins: Tensor
        self.register_buffer("begins", begins_character(characters), persistent=False)
        self.net = Transformer(len(self.begins), block_size, dropout=dropout, **sizes)
        self.losses = nn.ModuleDict({f"{stage}_loss": EpochMean() for stage in STAGES})
        self.bits = nn.ModuleDict({f"{stage}_bpc": BitsPerCharacter() for stage in STAGES})

    def forward(self, codes: Tensor) -> Tensor:
        """Logits (B, T, V) of the code after each of the codes (B, T)."""
        return at_least_float32(self.net(codes))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Without weight decay for biases and layer norms."""
        weights = list(self.net.parameters())
        return [
            {"params": [weight for weight in weights if weight.dim() > 1]},
            {"params": [weight for weight in weights if weight.dim() == 1], "weight_decay": 0.0},
        ]

    def shared_step(self, batch: Batch, stage: str) -> Tensor:
        """Mean loss of a batch in nats; also updates the metrics of the stage."""
        x, y = batch
        loss = F.cross_entropy(self(x).flatten(0, 1), y.flatten(), ignore_index=IGNORED)
        is_scored = y != IGNORED
        count = is_scored.sum()
        characters = (is_scored & self.begins[y.clamp(min=0)]).sum()
        self.losses[f"{stage}_loss"].update(loss, count)  # type: ignore[operator]
        self.bits[f"{stage}_bpc"].update(loss * count, characters)  # type: ignore[operator]
        return loss

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One optimization step."""
        return self.shared_step(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """One batch of the validation split."""
        self.shared_step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """One batch of the test split."""
        self.shared_step(batch, "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Each character or byte of the text, and the bits that the model needs for it."""
        x, y = batch
        nats = F.cross_entropy(self(x).transpose(1, 2), y, ignore_index=IGNORED, reduction="none")
        is_scored = y != IGNORED
        tokens = self.hparams["characters"] or range(256)
        codes = y[is_scored].tolist()
        return {"token": [tokens[c] for c in codes], "bits": nats[is_scored] / math.log(2)}

    def on_train_start(self) -> None:
        """Log the metrics of an epoch that a resumed run continues rather than starts."""
        if self.trainer.fit_loop.restarted_mid_epoch:
            self.log_metrics("train")

    def log_metrics(self, stage: str) -> None:
        """Have Lightning compute, log and reset the metrics of a stage when its epoch ends."""
        self.log(f"{stage}/loss", self.losses[f"{stage}_loss"])
        self.log(f"{stage}/bpc", self.bits[f"{stage}_bpc"])

    def on_train_epoch_start(self) -> None:
        """Log the metrics of an epoch of training."""
        self.log_metrics("train")

    def on_validation_epoch_start(self) -> None:
        """Log the metrics of a validation."""
        self.log_metrics("val")

    def on_test_epoch_start(self) -> None:
        """Log the metrics of a test."""
        self.log_metrics("test")

    @property
    def metric_names(self) -> list[str]:
        """Every name this model logs."""
        return [f"{stage}/{name}" for stage in STAGES for name in ("loss", "bpc")]

    @property
    def longest_input(self) -> int:
        """The largest number of codes in an input (B, T); export.py makes T dynamic."""
        return int(self.hparams["block_size"])

    @torch.inference_mode()
    def continue_text(self, prompt: str, length: int = 500, temperature: float = 0.8) -> str:
        """What follows a prompt, of which the last `block_size` codes count.

        Args:
            prompt: a text of at least one character.
            length: number of characters or bytes to write.
            temperature: 0 for the most probable code at each position, 1 for the probabilities of
                the model; lower values write more common text.

        Raises:
            UserError: the prompt holds a character that the training text does not.
        """
        codes = encode(prompt, self.hparams["characters"]).to(self.device)[None]
        for _ in range(length):
            logits = self(codes[:, -self.longest_input :])[:, -1]
            if temperature == 0:
                next_code = logits.argmax(dim=-1, keepdim=True)
            else:
                next_code = torch.multinomial((logits / temperature).softmax(dim=-1), 1)
            codes = torch.cat([codes, next_code], dim=1)
        return decode(codes[0, -length:], self.hparams["characters"])
