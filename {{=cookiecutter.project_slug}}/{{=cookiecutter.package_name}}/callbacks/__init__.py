"""Your callbacks, one per file; each has a file in `configs/callbacks/`.

The built-in ones are in `workbench.callbacks`. `loss_curves.py` is an example that is in use.
"""
