"""Data, models, callbacks and the training loop of this project.

Kept free of heavy imports, so that `python train.py --help` answers at once.
"""
