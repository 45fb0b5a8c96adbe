"""Sweeps: one search space, trials in parallel, and a study on disk that any later command joins.

The parts, from the outside in: `sweeper.py` is the loop, `space.py` what is varied,
`optuna_search.py` and `ax_search.py` what proposes and judges, `workers.py` the processes,
`trial.py` what happens in one of them, `results.py` and `report.py` what is left at the end.
"""
