"""Sweeps: a search space, concurrent trials, and a study on disk that any later command can join.

Top down: `start.py` starts a sweep, `command.py` reads a command into a plan, `preflight.py` checks
one configuration, and `loop.py` runs the trials. `space.py` holds what varies, `engines.py` finds
the engine that proposes and judges, `workers.py` manages processes, `trial.py` is what runs in
them, and `results.py` and `report_page.py` write the results. `application.py` is for Hydra
applications that are not projects of the template, and so are the functions below.
"""

from .trial_channel import TrialEnded, earlier_folders, report

__all__ = ["TrialEnded", "earlier_folders", "report"]
