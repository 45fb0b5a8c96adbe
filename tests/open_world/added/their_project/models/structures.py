"""Models for batches that are no (x, y)."""

from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.structures import Graphs, Padded


class Logs(LightningModule):
    """Logs the loss of all stages; a subclass says how a batch becomes logits (B,) and labels."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__()
        self.save_hyperparameters()

    def outputs(self, batch: Any) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def step(self, batch: Any, stage: str) -> Tensor:
        logits, y = self.outputs(batch)
        loss = F.binary_cross_entropy_with_logits(logits, y.float())
        self.log(f"{stage}/bce", loss, on_step=False, on_epoch=True, batch_size=len(y))
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.step(batch, "train")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.step(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.step(batch, "test")

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return self.outputs(batch)[0].sigmoid()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"])


class ReviewClassifier(Logs):
    """Dictionaries; asks the data for one fact by name."""

    def __init__(self, num_words: int, width: int = 8, lr: float = 0.05) -> None:
        super().__init__(lr)
        self.save_hyperparameters()
        self.embedding = nn.EmbeddingBag(num_words, width)
        self.head = nn.Linear(width, 1)

    def outputs(self, batch: Any) -> tuple[Tensor, Tensor]:
        assert all(isinstance(text, str) for text in batch["text"])
        return self.head(self.embedding(batch["tokens"])).squeeze(1), batch["label"]

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        return {"text": batch["text"], "probability": self.outputs(batch)[0].sigmoid()}


class MeanOfLists(Logs):
    """Lists of tensors of different lengths."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__(lr)
        self.head = nn.Linear(4, 1)

    def outputs(self, batch: Any) -> tuple[Tensor, Tensor]:
        sequences, labels = batch
        means = torch.stack([self.head(x).mean() for x in sequences])
        return means, torch.stack(labels)

    def predict_step(self, batch: Any, batch_idx: int) -> list[dict[str, Tensor]]:
        return [{"each": self.head(x).squeeze(1)} for x in batch[0]]


class PaddedTransformer(Logs):
    """Dataclasses; its layers take the path of nested tensors in evaluation."""

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__(lr)
        layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=8, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=1)
        self.head = nn.Linear(4, 1)

    def outputs(self, batch: Padded) -> tuple[Tensor, Tensor]:
        encoded = self.encoder(batch.x, src_key_padding_mask=~batch.mask)
        # Positions that no sequence of the batch reaches are cut off by the encoder's fast path.
        real = batch.mask[:, : encoded.shape[1], None]
        pooled = (encoded * real).sum(dim=1) / real.sum(dim=1)
        return self.head(pooled).squeeze(1), batch.y


class GraphClassifier(Logs):
    """An object that no library knows, so that nothing tells the size of the batch."""

    def __init__(self, lr: float = 0.05) -> None:
        super().__init__(lr)
        self.message = nn.Linear(4, 6)
        self.head = nn.Linear(6, 1)

    def outputs(self, batch: Graphs) -> tuple[Tensor, Tensor]:
        messages = self.message(batch.nodes).relu()
        sums = messages.new_zeros(len(batch.y), 6).index_add(0, batch.graph, messages)
        return self.head(sums).squeeze(1), batch.y
