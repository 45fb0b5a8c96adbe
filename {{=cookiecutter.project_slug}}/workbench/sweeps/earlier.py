"""The plan of a trial that an earlier command started, with other options than this command's."""

import logging
from dataclasses import replace

from hydra.errors import HydraException

from ..errors import UserError, first_line
from ..redact import HIDDEN, redact
from .identity import IDENTITIES, Identity, option_texts
from .plan import Plan, make_base
from .search import Record
from .types import TrialRecord

log = logging.getLogger(__name__)


def plan_of_trial(plan: Plan, record: Record, trial: TrialRecord) -> Plan:
    """The plan with the options that a trial was trained with.

    Args:
        plan: of this command.
        record: the study.
        trial: started by one of the study's commands.

    Raises:
        UserError: the config files of the trial are gone.
    """
    assert plan.identity is not None
    origin = Identity(**record.recall(IDENTITIES)["all"][trial.version])
    if origin.is_same(plan.identity):
        return plan
    if origin.data != plan.identity.data:
        log.warning("the data have changed since trial %d was trained", trial.number)
    # Secrets were not written down; this command may have the same ones.
    secrets = {redact(option): option for option in plan.fixed}
    fixed = [secrets.get(option, option) for option in origin.fixed]
    fixed = [option for option in fixed if HIDDEN not in option]
    try:
        earlier = _with_options(plan, fixed)
    except HydraException as error:
        raise UserError(
            f"The options of trial {trial.number} cannot be composed any more "
            f"({first_line(error)}): restore its config files and give the command again."
        ) from error
    # What the config files have changed meanwhile.
    varied = {key.lstrip("+") for key in trial.params}
    texts = option_texts(earlier.base.compose(trial.params, plan.folder))
    found = {key: value for key, value in texts.items() if key not in varied}
    wanted = origin.options_of_trial(trial.params)
    changed = [
        f"++{key}={value}"
        for key, value in wanted.items()
        if found.get(key) != value and HIDDEN not in value
    ]
    added = [f"~{key}" for key in found if key not in wanted]
    return _with_options(plan, [*fixed, *added, *changed])


def _with_options(plan: Plan, fixed: list[str]) -> Plan:
    base = make_base(plan.base.config_loader, plan.base.master, fixed, plan.space, plan.settings)
    base = replace(base, study=plan.name, parent_run=plan.base.parent_run)
    return replace(plan, base=base, fixed=fixed)
