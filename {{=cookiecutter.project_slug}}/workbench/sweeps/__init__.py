"""Sweeps: a search space, concurrent trials, and a study on disk that any later command can join.

Top down: `command.py` reads a command into a plan, `preflight.py` checks one configuration, and
`loop.py` runs the trials. `space.py` holds what varies, `engines.py` finds the engine that proposes
and judges, `workers.py` manages processes, `trial.py` is what runs in them, and `results.py` and
`report.py` write the results.
"""
