"""A small transformer encoder for texts."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class EncoderBlock(nn.Module):
    """Attention and a two-layer perceptron, each added to its normalised input."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, width) to the same shape; no position attends to where mask (B, T) is false."""
        # Three times (B, heads, T, width / heads).
        q, k, v = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        x = x + self.dropout(self.out(attended.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.mlp(self.norm_2(x)))


class TextEncoder(nn.Module):
    """Embeddings of codes and positions, blocks, and the mean over the codes of each text.

    A convolution over neighbouring codes makes words of bytes.

    Shapes: input_ids and attention_mask (B, T), with T up to the maximum length, to
    (B, num_outputs).
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_outputs: int,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        kernel: int = 9,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width={width} is not divisible by heads={heads}")
        max_length, vocab_size = input_shape
        self.codes = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(max_length, width)
        self.neighbours = nn.Conv1d(width, width, kernel, padding="same")
        self.features = nn.ModuleList(EncoderBlock(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_outputs)
        for embedding in (self.codes, self.positions):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits or standardised targets."""
        mask = attention_mask.bool()
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.codes(input_ids) + self.positions(places)
        # Zeros instead of padding, as beyond the end.
        x = x + self.neighbours((x * mask.unsqueeze(-1)).transpose(1, 2)).transpose(1, 2)
        for block in self.features:
            x = block(x, mask)
        weights = attention_mask.unsqueeze(-1).to(x.dtype)
        return self.head((self.norm(x) * weights).sum(dim=1) / weights.sum(dim=1))
