"""Data, models, callbacks and the training loop of this project.

Kept free of heavy imports, so that `python train.py --help` answers at once.
"""

from .lightning_names import use_one_lightning

use_one_lightning()
