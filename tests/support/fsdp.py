"""FSDP on the CPU: Lightning allows it on GPUs only, PyTorch anywhere."""

from typing import Any
from unittest.mock import patch

import torch
from pytorch_lightning.strategies import FSDPStrategy
from torch.distributed import fsdp
from torch.nn import Module


class OnCPU(fsdp.FullyShardedDataParallel):
    """Lightning passes the number of a GPU, which is None here."""

    def __init__(self, module: Module, device_id: None, **options: Any) -> None:
        super().__init__(module, device_id=torch.device("cpu"), **options)


class FSDPOnCPU(FSDPStrategy):
    """Another class, because Lightning's check is for the class itself."""

    def _setup_model(self, model: Module) -> Module:
        with patch.object(fsdp, "FullyShardedDataParallel", OnCPU):
            return super()._setup_model(model)
