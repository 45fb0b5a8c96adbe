"""The built-in callbacks; `configs/callbacks/` enables and configures them."""

from .activations import ActivationStats
from .augmented_inputs import AugmentedInputs
from .averaging import EMA, SWA, WeightAverage
from .checkpoints import BestCheckpoint, LastCheckpoint
from .console import EpochLog, NetSummary, progress_bar
from .gradients import GradientNorms, Histograms
from .metrics import MetricPrecision, ObjectiveCheck
from .nan_guard import NaNGuard
from .records import MetricHistory, StepLog
from .resources import DeviceStats, EpochTimer
from .resuming import ContinuedLogs, ScheduleState, WithinEpoch
from .run_description import HyperparameterLogger, RunTexts
from .seeds import EpochSeed, EvaluationSeed
from .stopping import EarlyStopping, Stopping, TimeLimit
from .unfreezing import GradualUnfreezing

__all__ = [
    "EMA",
    "SWA",
    "ActivationStats",
    "AugmentedInputs",
    "BestCheckpoint",
    "ContinuedLogs",
    "DeviceStats",
    "EarlyStopping",
    "EpochLog",
    "EpochSeed",
    "EpochTimer",
    "EvaluationSeed",
    "GradientNorms",
    "GradualUnfreezing",
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
