"""The results of a sweep: the winner as an experiment, the test, the leaderboard and the report."""

import logging
import os
import re
import shlex
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from ..experiment_files import is_experiment_file, read_experiment
from ..files import replace_text
from ..project import project
from ..redact import redact
from ..shell import option as quoted_option
from . import trial as trials
from .engines import Record
from .figures import Figure, draw_figures
from .identity import plan_of_trial
from .leaderboard import best_trials, finished, write_leaderboard
from .notes import notes, why_no_winner
from .plan import Plan
from .settings import Tested
from .space import options_of, text
from .types import TrialOutcome, TrialRecord, Verdict, trial_folder
from .workers import Progress, Workers

log = logging.getLogger(__name__)

# Name under which the study stores the metrics of tested trials, by their numbers.
TESTED = "tested"


def finish(plan: Plan, record: Record, testers: Workers) -> None:
    """Write `leaderboard.csv`, `best.yaml` and `report.html`; if all trials have ended, test.

    Args:
        plan: of the sweep.
        record: of its trials.
        testers: run the tests.
    """
    records = record.records()
    table = plan.folder / "leaderboard.csv"
    # Before the tests, which take time.
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
            note += "\nThese are its final options: report.html shows how they changed."
        # It may have been trained by an earlier command with other options.
        own = plan_of_trial(plan, record, winner)
        if own.base.is_application:
            words = [*own.fixed, *options_of(winner.params)]
            script = _short(Path(own.base.script))
            facts["retrain the winner"] = shlex.join(["python", script, *map(redact, words)])
            replace_text(path, f"# {note}\n{OmegaConf.to_yaml({'options': words})}")
        else:
            write_best(path, winner, own.fixed, own.groups, note)
            command = f"python train.py {quoted_option('experiment', _short(path))}"
            facts["retrain the winner"] = command
    drawn: list[Figure] = []
    if record.is_finished() and (chosen := _to_test(plan, records)):
        # While the tests run, whose results are only in the tables.
        draw = partial(_draw, drawn, plan, records)
        tested = test_trials(plan, record, chosen, testers, meanwhile=draw)
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
    # Not logged here: it is the last line of the command.
    first = [] if no_winner is None else [no_winner]
    _write_page(plan, record, records, facts, [*first, *remarks], drawn)
    for name, fact in facts.items():
        log.info("%s: %s", name, fact)
    for remark in remarks:
        log.warning("%s", remark)


def _draw(drawn: list[Figure], plan: Plan, records: list[TrialRecord]) -> None:
    """Fill a list with the figures of the report, or leave it empty if that fails."""
    with suppress(Exception):
        drawn += [*draw_figures(records, plan.objectives, plan.space, plan.unit)]


def _write_page(
    plan: Plan,
    record: Record,
    records: list[TrialRecord],
    facts: dict[str, str],
    remarks: list[str],
    drawn: list[Figure],
) -> None:
    from .report_page import write_report

    path = plan.folder / "report.html"
    figures = record.figures()
    about = (plan.name, records, plan.objectives, plan.space, facts)
    try:
        write_report(path, *about, figures, remarks, plan.unit, drawn or None)
    except Exception:
        # A page about the trials must not cost the trials.
        log.exception("the report could not be written")
        return
    facts["report"] = _short(path)


def _short(path: Path) -> str:
    """A path for the command line, relative to the current folder if it is below."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _to_test(plan: Plan, records: list[TrialRecord]) -> list[TrialRecord]:
    match plan.settings.test:
        case Tested.ALL:
            return finished(records, plan.objectives)
        case Tested.WINNER:
            return best_trials(records, plan.objectives)[:1]
        case Tested.NOTHING:
            return []


def test_trials(
    plan: Plan,
    record: Record,
    chosen: Sequence[TrialRecord],
    workers: Workers,
    meanwhile: Callable[[], None],
) -> dict[int, dict[str, float]]:
    """Test the best checkpoint of each trial once, also over several commands.

    Args:
        plan: of the sweep.
        record: stores the metrics.
        chosen: trials that finished.
        workers: run as many tests at once.
        meanwhile: called once the first tests run.

    Returns:
        Metrics by trial number, without trials that could not be tested.
    """
    known: dict[str, dict[str, float]] = dict(record.recall(TESTED))
    left = [trial for trial in chosen if str(trial.number) not in known]
    failed: dict[str, list[int]] = {}
    is_first = True
    try:
        while left or workers.running:
            while left and workers.free_worker() is not None:
                _start_test(plan, record, left.pop(0), workers)
            if is_first:
                meanwhile()
            is_first = False
            for event in workers.wait(timeout=1):
                if isinstance(event, Progress):
                    workers.answer(event.number, Verdict.CONTINUE)
                elif isinstance(event.result, TrialOutcome):
                    failed.setdefault(event.result.error, []).append(event.number)
                else:
                    known[str(event.number)] = event.result
    finally:
        # Also after Ctrl-C, so that no trial is tested twice.
        record.remember(TESTED, known)
    for error, numbers in failed.items():
        log.warning("not tested: trial %s (%s)", ", ".join(map(str, numbers)), error)
    return {t.number: known[str(t.number)] for t in chosen if str(t.number) in known}


def _start_test(plan: Plan, record: Record, trial: TrialRecord, workers: Workers) -> None:
    # It may have been trained by an earlier command with other options.
    own = plan_of_trial(plan, record, trial)
    folder = own.folder / trial_folder(trial.number)
    task = (trials.test_trial, own.base, trial.params, folder)
    workers.start(trial.number, folder / "test.log", *task)


def write_best(
    path: Path, trial: TrialRecord, fixed: Sequence[str], groups: Collection[str], note: str
) -> None:
    """Write a trial as an experiment config that composes to the config of the trial.

    Args:
        path: the YAML file.
        trial: the winner.
        fixed: the options of the sweep's command that did not vary.
        groups: the options that choose a config file.
        note: a comment on the origin of the file.
    """
    words = [*fixed, *(f"{key}={text(value)}" for key, value in trial.params.items())]
    options = OverridesParser.create().parse_overrides(words)
    defaults = _defaults()
    named = [option for option in options if option.key_or_group == "experiment"]
    experiment = _Experiment(comments=["@package _global_", *note.splitlines()])
    for name in _names(named[-1]) if named else [defaults["experiment"]]:
        experiment.begin_with(name)
    groups_after = list(defaults)[list(defaults).index("experiment") + 1 :]
    for option in options:
        # How the sweep ran is not part of the experiment.
        if option in named or option.is_hydra_override():
            continue
        if redact(option.input_line or "") != option.input_line:
            experiment.leave_out(option)
        elif option.key_or_group in groups_after and defaults[option.key_or_group] is None:
            experiment.include(option)
        elif option.key_or_group in groups_after:
            experiment.leave_out(option)
        elif option.key_or_group in groups:
            experiment.choose(option)
        else:
            experiment.set(option)
    replace_text(path, experiment.to_yaml())


@dataclass
class _Experiment:
    """An experiment config under construction."""

    comments: list[str]
    includes: list[Any] = field(default_factory=list)
    choices: dict[str, Any] = field(default_factory=dict)
    values: DictConfig = field(default_factory=lambda: OmegaConf.create({}))

    def begin_with(self, name: str) -> None:
        """Include another experiment."""
        if not is_experiment_file(name):
            # Absolute, so that it is independent of the location of this file.
            self.includes.append(f"/experiment/{name}")
            return
        # Copied, so that the winner does not depend on the folder of an earlier sweep.
        self.values = read_experiment(name)
        for entry in self.values.pop("defaults", []):
            if isinstance(entry, DictConfig) and str(next(iter(entry))).startswith("override "):
                self.choices.update(entry)
            elif entry != "_self_":
                self.includes.append(entry)

    def include(self, option: Override) -> None:
        """Include configs of a group that follows the experiment and has no default.

        Such a group cannot be overridden here, and would take precedence over this file.
        """
        self.includes += [f"/{option.key_or_group}/{name}" for name in _names(option)]

    def choose(self, option: Override) -> None:
        """Choose a config of a group."""
        group = option.key_or_group + (f"@{option.package}" if option.package else "")
        if option.is_add():
            self.includes.append({f"/{group}": option.value()})
        else:
            self.choices[f"override /{group}"] = None if option.is_delete() else option.value()

    def set(self, option: Override) -> None:
        """Set a single value."""
        if option.is_delete() or re.search(r"[.\[]\d", option.key_or_group):
            self.leave_out(option)
        else:
            OmegaConf.update(self.values, option.key_or_group, option.value(), force_add=True)

    def leave_out(self, option: Override) -> None:
        """Note what the file cannot contain: a deletion, a list element, a password."""
        words = shlex.quote(redact(option.input_line or ""))
        self.comments.append(f"A file cannot contain {words}: add it to the command.")

    def to_yaml(self) -> str:
        """The text of the file."""
        choices = [{key: choice} for key, choice in self.choices.items()]
        # Hydra requires overrides after all other entries.
        defaults = OmegaConf.create({"defaults": [*self.includes, *choices, "_self_"]})
        header = "".join(f"# {line}\n" for line in self.comments)
        values = OmegaConf.to_yaml(self.values) if self.values else ""
        return header + OmegaConf.to_yaml(defaults) + values


def _defaults() -> dict[str, Any]:
    """The groups of `configs/train.yaml` in their order, with their defaults."""
    entries = OmegaConf.load(project().configs / "train.yaml").defaults
    return {key: name for entry in entries if entry != "_self_" for key, name in entry.items()}


def _names(option: Override) -> list[str]:
    """The choices of an option: none, one, or a list."""
    value = None if option.is_delete() else option.value()
    return [] if value is None else value if isinstance(value, list) else [str(value)]
