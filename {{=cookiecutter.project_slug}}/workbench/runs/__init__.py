"""The records of a run: its folder, config, log, manifest and checkpoints.

Nothing here builds or loads a model: `workbench.loading` does.
"""
