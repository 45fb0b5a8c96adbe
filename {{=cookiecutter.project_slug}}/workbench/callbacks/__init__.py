"""Training aids, one a file; `configs/callbacks/` switches and tunes them."""

from .activations import ActivationStats
from .averaging import WeightAverage
from .best_checkpoint import BestCheckpoint
from .continued_logs import ContinuedLogs
from .device import DeviceStats
from .early_stopping import EarlyStopping
from .ema import EMA
from .epoch_log import EpochLog
from .epoch_seed import EpochSeed, EvaluationSeed
from .gradient_norms import GradientNorms
from .histograms import Histograms
from .hparams import HyperparameterLogger
from .last_checkpoint import LastCheckpoint
from .metric_history import MetricHistory
from .metric_precision import MetricPrecision
from .model_summary import NetSummary
from .nan_guard import NaNGuard
from .objective_check import ObjectiveCheck
from .progress import progress_bar
from .run_texts import RunTexts
from .schedule_state import ScheduleState
from .step_log import StepLog
from .stopping import Stopping
from .swa import SWA
from .time_limit import TimeLimit
from .timing import EpochTimer
from .within_epoch import WithinEpoch

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
    "EvaluationSeed",
    "GradientNorms",
    "Histograms",
    "HyperparameterLogger",
    "LastCheckpoint",
    "MetricHistory",
    "MetricPrecision",
    "NaNGuard",
    "NetSummary",
    "ObjectiveCheck",
    "RunTexts",
    "ScheduleState",
    "StepLog",
    "Stopping",
    "TimeLimit",
    "WeightAverage",
    "WithinEpoch",
    "progress_bar",
]
