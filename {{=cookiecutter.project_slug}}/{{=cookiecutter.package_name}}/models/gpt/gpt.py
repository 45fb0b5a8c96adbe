"""A language model that predicts the next character or byte."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.checks import check_integer, check_number
from workbench.data.tokens import begins_character, decode, encode
from workbench.data.windows import IGNORED
from workbench.errors import UserError
from workbench.models.bits import BitsPerCharacter
from workbench.models.epoch_logging import STAGES, SharedStep
from workbench.models.precision import EpochMean, at_least_float32

from .transformer import Transformer

Batch = tuple[Tensor, Tensor]


class GPT(SharedStep):
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
        for name in ("n_layer", "n_head", "n_embd"):
            check_integer(f"model.{name}", self.hparams[name], 1)
        check_number("model.dropout", dropout, least=0, below=1)
        if n_embd % n_head:
            raise UserError(
                f"model.n_embd={n_embd} is not divisible by model.n_head={n_head}: each head gets "
                "an equal part of the width."
            )
        self.longest_input = block_size
        self.begins: Tensor
        self.register_buffer("begins", begins_character(characters), persistent=False)
        vocab_size = len(self.begins)
        self.net = Transformer(vocab_size, block_size, n_layer, n_head, n_embd, dropout)
        self.losses = nn.ModuleDict({f"{stage}/loss": EpochMean() for stage in STAGES})
        self.bits = nn.ModuleDict({f"{stage}/bpc": BitsPerCharacter() for stage in STAGES})

    def forward(self, codes: Tensor) -> Tensor:
        """Logits (B, T, V) of the code after each of the codes (B, T)."""
        return at_least_float32(self.net(codes))

    def shared_step(self, batch: Batch, stage: str) -> Tensor:
        """Mean loss of a batch in nats; also updates the metrics of the stage."""
        x, y = batch
        loss = F.cross_entropy(self(x).flatten(0, 1), y.flatten(), ignore_index=IGNORED)
        is_scored = y != IGNORED
        count, characters = is_scored.sum(), (is_scored & self.begins[y.clamp(min=0)]).sum()
        self.losses[f"{stage}/loss"].update(loss, count)  # type: ignore[operator]
        self.bits[f"{stage}/bpc"].update(loss * count, characters)  # type: ignore[operator]
        return loss

    def log_metrics(self, stage: str) -> None:
        """Have Lightning compute, log and reset the metrics of a stage when its epoch ends."""
        self.log(f"{stage}/loss", self.losses[f"{stage}/loss"])
        self.log(f"{stage}/bpc", self.bits[f"{stage}/bpc"])

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Each character or byte of the text, and the bits that the model needs for it."""
        x, y = batch
        nats = F.cross_entropy(self(x).transpose(1, 2), y, ignore_index=IGNORED, reduction="none")
        tokens = self.hparams["characters"] or range(256)
        codes = y[y != IGNORED].tolist()
        return {"token": [tokens[c] for c in codes], "bits": nats[y != IGNORED] / math.log(2)}

    @property
    def metric_names(self) -> list[str]:
        """Every name this model logs."""
        return [*self.losses, *self.bits]

    @torch.inference_mode()
    def continue_text(self, prompt: str, length: int = 500, temperature: float = 0.8) -> str:
        """What follows a prompt, of which the last `block_size` codes count.

        Args:
            prompt: at least one character, only those of the training text.
            length: number of characters or bytes to write.
            temperature: 0 always writes the most probable one, 1 follows the probabilities.
        """
        codes = encode(prompt, self.hparams["characters"]).to(self.device)
        for _ in range(length):
            logits = self(codes[None, -self.longest_input :])[0, -1]
            if temperature == 0:
                chosen = logits.argmax(dim=0, keepdim=True)
            else:
                chosen = torch.multinomial((logits / temperature).softmax(dim=0), 1)
            codes = torch.cat([codes, chosen])
        return decode(codes[-length:], self.hparams["characters"])
