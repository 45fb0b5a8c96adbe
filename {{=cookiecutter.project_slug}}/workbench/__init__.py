"""The infrastructure of a training project: runs, callbacks, data, evaluation and sweeps.

Importing it imports nothing heavy, so that `python train.py --help` answers immediately.
"""

__version__ = "0.2.0"
