"""What the fork server imports once, so that no trial has to.

No trainer and no CUDA tensor is made here: each trial starts CUDA itself, on its own GPUs.
"""

import tensorboard.summary  # noqa: F401
import torch.utils.tensorboard  # noqa: F401

from .. import analysis, callbacks, comparison, data, finders, models, training  # noqa: F401
from . import reporting, trial  # noqa: F401
