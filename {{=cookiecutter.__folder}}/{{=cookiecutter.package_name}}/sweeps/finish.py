"""What is left of a sweep: the leaderboard, the winner and its test, the report."""

import logging
import os
from pathlib import Path

from . import trial as trials
from .earlier import plan_of_trial
from .plan import Plan
from .records import Outcome, TrialRecord, trial_folder
from .results import best_trials, write_leaderboard
from .search import Record
from .winner import write_best
from .workers import Workers, run_alone

log = logging.getLogger(__name__)


def finish(plan: Plan, record: Record) -> None:
    """Write `leaderboard.csv`, `best.yaml` and `report.html`; once all is done, test the winner."""
    records = record.records()
    write_leaderboard(plan.folder / "leaderboard.csv", records, plan.objectives)
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
        facts["retrain the winner"] = f"python train.py experiment={_short(path)}"
        if record.is_finished():
            for metric, value in sorted(test_winner(own, record, winner).items()):
                facts[metric] = f"{value:.4g}"
    journal = plan.folder / "journal.log"
    if journal.is_file():
        facts["look at the study"] = f"optuna-dashboard {_short(journal)}"
    write_page(plan, record, records, facts)
    for name, fact in facts.items():
        log.info("%s: %s", name, fact)


def test_winner(plan: Plan, record: Record, winner: TrialRecord) -> dict[str, float]:
    """The winner's metrics on the test set, measured once and then remembered."""
    known = record.recall("tested")
    if known.get("number") == winner.number:
        return known["metrics"]
    folder = plan.folder / trial_folder(winner.number)
    result = run_alone(
        Workers(1), folder / "test.log", trials.test_trial, plan.base, winner.params, folder
    )
    if isinstance(result, Outcome):
        log.warning("the winner could not be tested: %s", result.error)
        return {}
    record.remember("tested", {"number": winner.number, "metrics": result})
    return result


def write_page(
    plan: Plan, record: Record, records: list[TrialRecord], facts: dict[str, str]
) -> None:
    """Write `report.html`."""
    from .report import write_report

    path = plan.folder / "report.html"
    try:
        write_report(path, plan.name, records, plan.objectives, plan.space, facts, record.figures())
    except Exception:
        # The trials are worth more than a page about them.
        log.exception("the report could not be written")
        return
    facts["report"] = _short(path)


def _short(path: Path) -> str:
    """A path as it is typed, relative to where the command was given if it lies below."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
