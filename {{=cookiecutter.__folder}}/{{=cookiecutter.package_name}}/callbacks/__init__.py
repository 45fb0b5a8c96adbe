"""Training aids, one a file; `configs/callbacks/` switches and tunes them."""

from .activations import ActivationStats
from .averaging import WeightAverage
from .best_checkpoint import BestCheckpoint
from .continued_logs import ContinuedLogs
from .device import DeviceStats
from .ema import EMA
from .epoch_log import EpochLog
from .epoch_seed import EpochSeed
from .gradient_norms import GradientNorms
from .histograms import Histograms
from .hparams import HyperparameterLogger
from .loss_curves import LossCurves
from .metric_history import MetricHistory
from .model_summary import NetSummary
from .nan_guard import NaNGuard
from .progress import progress_bar
from .run_texts import RunTexts
from .steady_key import EarlyStopping, LastCheckpoint
from .step_log import StepLog
from .swa import SWA
from .time_limit import TimeLimit
from .timing import EpochTimer

__all__ = [
    "EMA",
    "SWA",
    "ActivationStats",
    "BestCheckpoint",
    "ContinuedLogs",
    "DeviceStats",
    "EarlyStopping",
    "EpochLog",
    "EpochSeed",
    "EpochTimer",
    "GradientNorms",
    "Histograms",
    "HyperparameterLogger",
    "LastCheckpoint",
    "LossCurves",
    "MetricHistory",
    "NaNGuard",
    "NetSummary",
    "RunTexts",
    "StepLog",
    "TimeLimit",
    "WeightAverage",
    "progress_bar",
]
