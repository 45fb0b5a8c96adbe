"""The pruner that `hydra/sweeper/pruner=auto` selects, and why."""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from .plan import Plan
from .promotion import PROMOTE, Rungs, read_options
from .settings import default_options

if TYPE_CHECKING:
    from optuna import Study

log = logging.getLogger(__name__)

# Name under which a study stores the pruner that it began with.
PRUNER = "automatic_pruner"
# For searches that promotion does not suit.
OTHER = "percentile"
# Samplers that learn from finished trials only, of which promotion has few.
NEED_RESULTS = ("cmaes", "nsga2", "nsga3")


def settled(plan: Plan) -> Plan:
    """The plan with another pruner if the one of its engine does not suit it."""
    if plan.settings.pruner["name"] != PROMOTE:
        return plan
    if reason := _why_not_promote(plan):
        return _with_pruner(plan, OTHER, reason)
    options = read_options(plan.settings.pruner)
    rungs = Rungs.between(options["min_epochs"], plan.length, options["factor"], "min")
    *pauses, last = map(str, rungs.steps)
    reason = f"which pauses trials after {', '.join(pauses)} of {last} epochs"
    return replace(plan, why_pruner=reason)


def kept(plan: Plan, study: "Study", is_new: bool) -> Plan:
    """The plan with the pruner that its study began with, if it is not named."""
    if plan.why_pruner is None:
        return plan
    name = str(plan.settings.pruner["name"])
    # Earlier versions stored no name, and pruned searches by another default.
    before = OTHER if name == PROMOTE and not is_new else name
    first = study.user_attrs.get(PRUNER, before)
    if PRUNER not in study.user_attrs:
        study.set_user_attr(PRUNER, first)
    if first != name and (first != PROMOTE or can_promote(plan)):
        plan = _with_pruner(plan, first, "as the study began with it")
    log.info("pruner: %s, %s", plan.settings.pruner["name"], plan.why_pruner)
    return plan


def can_promote(plan: Plan) -> bool:
    """Whether trials pause in their first seed or fold only; others would be trained again."""
    return len(plan.base.repeats()) == 1 or plan.length is not None


def _with_pruner(plan: Plan, name: str, reason: str) -> Plan:
    settings = replace(plan.settings, pruner=default_options("pruner", name))
    return replace(plan, settings=settings, why_pruner=reason)


def _why_not_promote(plan: Plan) -> str | None:
    """Why paused trials could not be resumed, or why pausing them would save little."""
    settings, sampler = plan.settings, plan.settings.sampler.get("name")
    options = read_options(settings.pruner)
    least = 2 * options["min_epochs"]
    if plan.base.is_application:
        return "as an application may not be able to resume its trials"
    if OmegaConf.select(plan.config, "callbacks.last_checkpoint") is None:
        return "as trials cannot resume without callbacks.last_checkpoint"
    if settings.storage is not None:
        return "as machines that share a database may not share checkpoints"
    if sampler in NEED_RESULTS:
        return f"as {sampler} learns from finished trials only"
    if settings.terminator:
        return "as the terminator judges finished trials only"
    if plan.length is None:
        return "as the number of epochs of a trial is not known"
    if plan.length < least:
        return f"as trials have fewer than {least} epochs"
    if plan.n_trials < options["factor"]:
        return f"as there are fewer than {options['factor']} trials"
    return None
