"""What is left of a sweep: the leaderboard, the winner and its test, the report."""

import logging
import os
import shlex
from dataclasses import replace
from pathlib import Path

from ..shell import option
from .earlier import plan_of_trial
from .leaderboard import best_trials, finished, write_leaderboard
from .notes import notes, why_no_winner
from .plan import Plan
from .search import Record
from .settings import Tested
from .testing import test_trials
from .types import TrialRecord, trial_folder
from .winner import write_best
from .workers import Workers

log = logging.getLogger(__name__)


def finish(plan: Plan, record: Record, testers: Workers) -> None:
    """Write `leaderboard.csv`, `best.yaml` and `report.html`; once all is done, test the winner.

    Args:
        plan: of the sweep.
        record: of its trials.
        testers: test the winner, or all trials that finished.
    """
    records = record.records()
    table = plan.folder / "leaderboard.csv"
    # Before the tests, which take their time.
    write_leaderboard(table, records, plan.objectives, plan.unit)
    best = best_trials(records, plan.objectives)
    facts = {}
    if best:
        winner = best[0]
        values = ", ".join(
            f"{objective.metric} {value:.4g}"
            for objective, value in zip(plan.objectives, winner.values, strict=True)
        )
        log.info("best: trial %d, %s", winner.number, values)
        path = plan.folder / "best.yaml"
        note = f"Trial {winner.number} of {plan.name}: {values}."
        if plan.has_schedules:
            model = plan.folder / trial_folder(winner.number) / "checkpoints" / "best.ckpt"
            facts["the model of the winner"] = _short(model)
            note += "\nThese are its last options: report.html shows how they changed meanwhile."
        # An earlier command may have had other options.
        own = plan_of_trial(plan, record, winner)
        write_best(path, winner, own.fixed, own.groups, note)
        facts["retrain the winner"] = f"python train.py {option('experiment', _short(path))}"
    if record.is_finished() and (chosen := _to_test(plan, records)):
        tested = test_trials(plan, record, chosen, testers)
        for winner in best[:1]:
            known = sorted(tested.get(winner.number, {}).items())
            facts |= {metric: f"{value:.4g}" for metric, value in known}
        if plan.settings.test is Tested.ALL:
            records = [replace(r, metrics=r.metrics | tested.get(r.number, {})) for r in records]
            write_leaderboard(table, records, plan.objectives, plan.unit)
    journal = plan.folder / "journal.log"
    if journal.is_file():
        facts["look at the study"] = f"optuna-dashboard {shlex.quote(_short(journal))}"
    remarks = notes(records, plan.objectives)
    no_winner = why_no_winner(records, plan.objectives, plan.settings.limits)
    # The command ends with it.
    first = [] if no_winner is None else [no_winner]
    write_page(plan, record, records, facts, [*first, *remarks])
    for name, fact in facts.items():
        log.info("%s: %s", name, fact)
    for remark in remarks:
        log.warning("%s", remark)


def _to_test(plan: Plan, records: list[TrialRecord]) -> list[TrialRecord]:
    match plan.settings.test:
        case Tested.ALL:
            return finished(records, plan.objectives)
        case Tested.WINNER:
            return best_trials(records, plan.objectives)[:1]
        case Tested.NOTHING:
            return []


def write_page(
    plan: Plan,
    record: Record,
    records: list[TrialRecord],
    facts: dict[str, str],
    remarks: list[str],
) -> None:
    """Write `report.html`."""
    from .report import write_report

    path = plan.folder / "report.html"
    try:
        write_report(
            path,
            plan.name,
            records,
            plan.objectives,
            plan.space,
            facts,
            record.figures(),
            remarks,
            plan.unit,
        )
    except Exception:
        # The trials are worth more than a page about them.
        log.exception("the report could not be written")
        return
    facts["report"] = _short(path)


def _short(path: Path) -> str:
    """A path as it is typed, relative to where the command was given if it lies below."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
