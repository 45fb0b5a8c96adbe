"""Training aids, one a file; `configs/callbacks/` switches and tunes them."""

from .best_checkpoint import BestCheckpoint
from .epoch_log import EpochLog
from .epoch_seed import EpochSeed
from .hparams import HyperparameterLogger
from .loss_curves import LossCurves
from .metric_history import MetricHistory
from .model_summary import NetSummary
from .nan_guard import NaNGuard
from .progress import progress_bar
from .step_log import StepLog

__all__ = [
    "BestCheckpoint",
    "EpochLog",
    "EpochSeed",
    "HyperparameterLogger",
    "LossCurves",
    "MetricHistory",
    "NaNGuard",
    "NetSummary",
    "StepLog",
    "progress_bar",
]
