"""Metrics on the test set, of the winner or of every trial that finished."""

import logging
from collections.abc import Sequence

from . import trial as trials
from .earlier import plan_of_trial
from .plan import Plan
from .search import Record
from .types import TrialOutcome, TrialRecord, Verdict, trial_folder
from .workers import Progress, Workers

log = logging.getLogger(__name__)

# Under which the study remembers the metrics, by the numbers of the trials.
TESTED = "tested"


def test_trials(
    plan: Plan, record: Record, chosen: Sequence[TrialRecord], workers: Workers
) -> dict[int, dict[str, float]]:
    """Test the best checkpoint of each trial, once: later commands remember the metrics.

    Args:
        plan: of the sweep.
        record: remembers the metrics.
        chosen: the trials, which have finished.
        workers: test as many at once.

    Returns:
        The metrics by the numbers of the trials, without those that could not be tested.
    """
    known: dict[str, dict[str, float]] = dict(record.recall(TESTED))
    left = [trial for trial in chosen if str(trial.number) not in known]
    failed: dict[str, list[int]] = {}
    try:
        while left or workers.running:
            while left and workers.free_worker() is not None:
                trial = left.pop(0)
                # An earlier command may have had other options.
                _start(plan_of_trial(plan, record, trial), trial, workers)
            for event in workers.wait(timeout=1):
                if isinstance(event, Progress):
                    workers.answer(event.number, Verdict.CONTINUE)
                elif isinstance(event.result, TrialOutcome):
                    failed.setdefault(event.result.error, []).append(event.number)
                else:
                    known[str(event.number)] = event.result
    finally:
        # Also after Ctrl-C: no trial is tested twice.
        record.remember(TESTED, known)
    for error, numbers in failed.items():
        log.warning("not tested: trial %s (%s)", ", ".join(map(str, numbers)), error)
    return {t.number: known[str(t.number)] for t in chosen if str(t.number) in known}


def _start(plan: Plan, record: TrialRecord, workers: Workers) -> None:
    folder = plan.folder / trial_folder(record.number)
    task = (trials.test_trial, plan.base, record.params, folder)
    workers.start(record.number, folder / "test.log", *task)
