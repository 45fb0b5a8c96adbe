"""What the results of a study depend on, and how a command differs from an earlier one.

A command joins a study only if all of this is the same. Where files lie, how many trials there are
and how they are logged may differ, so that another machine or another checkout can join.
"""

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from ..errors import UserError, first_line
from ..project import LIBRARY, project
from ..redact import HIDDEN, redact
from ..runs.config import plain
from .engines import Record
from .enqueue import read_points
from .plan import Identity, Plan, make_base
from .space import options_of, typed
from .types import TrialRecord

log = logging.getLogger(__name__)

# Under which a study remembers the identities of its commands.
IDENTITIES = "identities"
# Options that change no result; data are compared by their content, not by their place.
WITHOUT_EFFECT = (
    "data.num_workers",
    "data.path",
    "hydra",
    "logger",
    "name",
    "objective",
    "paths",
    "task_name",
    "trainer.default_root_dir",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
)
NAME = re.compile(r"\w+")
# More would hide the first.
MOST_DIFFERENCES = 4


def identify(plan: Plan, data: Mapping[str, dict[str, Any]]) -> Identity:
    """The identity of a command's sweep.

    Args:
        plan: what the sweep is to do.
        data: size and fingerprint of each split, as a datamodule tells them.
    """
    options = dict(_options_by_choice(plan))
    sweeper = dict(_sweeper_options(plan))
    question = dict(_question(plan))
    if plan.engine.keeps_algorithms:
        question |= sweeper | {"hydra.sweeper.n_trials": str(plan.n_trials)}
        question["hydra.sweeper.enqueue"] = _points_to_try(plan)
        sweeper = {}
    facts = dict(data)
    facts |= {path: {"fingerprint": content} for path, content in _varied_files(plan)}
    code = {path.as_posix(): digest for path, digest in _sources(plan.config)}
    # Secrets are not written down.
    fixed = [redact(option) for option in plan.fixed]
    return Identity(question, sweeper, options, code, facts, fixed)


def join(known: list[Identity], now: Identity, plan: Plan) -> int:
    """Find a command's place among the identities of a study; a new one is appended.

    Args:
        known: the identities of earlier commands, the latest last.
        now: that of this command.
        plan: what the sweep is to do.

    Returns:
        The index of the command's identity.

    Raises:
        UserError: the command differs from the study.
    """
    for index, earlier in enumerate(known):
        if earlier.is_same(now):
            return index
    if known:
        _check_differences(known[-1], now, plan)
    else:
        check_unused(plan.folder)
    known.append(now)
    return len(known) - 1


def check_unused(folder: Path) -> None:
    """Refuse the folder of another study for a new one: their trials would have the same numbers.

    Raises:
        UserError: there are trials in the folder.
    """
    trials = folder / "trials"
    if trials.is_dir() and any(trials.iterdir()):
        raise UserError(
            f"{folder} holds the trials of another study: give another hydra.sweeper.study_name, "
            "or move the folder away."
        )


def option_texts(config: DictConfig) -> dict[str, str]:
    """The options of a trial's config that matter, as they are typed; references stay as such."""
    content = OmegaConf.to_container(config, resolve=False)
    return dict(_flat(content, ""))


def _flat(node: Any, key: str) -> Iterator[tuple[str, str]]:
    if key in WITHOUT_EFFECT:
        return
    if isinstance(node, dict) and node and all(NAME.fullmatch(str(name)) for name in node):
        for name, value in node.items():
            yield from _flat(value, f"{key}.{name}".lstrip("."))
        return
    yield key, redact(f"{key}={typed(node)}").partition("=")[2]


def _options_by_choice(plan: Plan) -> Iterator[tuple[str, str | None]]:
    """All options; where config groups vary, those of the first choices, then the differences."""
    varied = {parameter.key.lstrip("+") for parameter in plan.space.parameters}
    groups = [parameter for parameter in plan.space.parameters if parameter.is_group]
    first = [f"{group.key}={group.first()}" for group in groups]
    texts = option_texts(plan.compose(first) if first else plan.config)
    base = {key: value for key, value in texts.items() if key not in varied}
    yield from base.items()
    for group in groups:
        for choice in (group.choices or ())[1:]:
            option = f"{group.key}={choice}"
            chosen = [word for word in first if word != f"{group.key}={group.first()}"]
            other = option_texts(plan.compose([*chosen, option]))
            for key in dict.fromkeys([*base, *other]):
                if key not in varied and base.get(key) != other.get(key):
                    yield f"{key} with {option}", other.get(key)


def _question(plan: Plan) -> Iterator[tuple[str, str]]:
    first, *others = plan.objectives
    yield "hydra/sweeper", plan.engine.name
    yield "objective.metric", first.metric
    yield "objective.mode", first.mode
    more = {objective.metric: objective.mode for objective in others}
    yield "hydra.sweeper.more_objectives", typed(more or None)
    yield "hydra.sweeper.seeds", str(plan.settings.seeds)
    yield "data.folds", typed(OmegaConf.select(plan.config, "data.folds"))
    for parameter in plan.space.parameters:
        yield parameter.key, parameter.typed


def _sweeper_options(plan: Plan) -> Iterator[tuple[str, str]]:
    """The sampler, the pruner and the limits, as they were asked for."""
    config = plain(plan.base.master.hydra.sweeper)
    for kind in ("sampler", "pruner"):
        options = config[kind]
        options = options if isinstance(options, dict) else {"name": options}
        yield f"hydra/sweeper/{kind}", str(options.get("name"))
        for name, value in options.items():
            if name != "name":
                yield f"hydra.sweeper.{kind}.{name}", typed(value)
    yield "hydra.sweeper.limits", typed(config["limits"] or None)


def _points_to_try(plan: Plan) -> str:
    """The points to try first, which may come from a table that changes."""
    points = read_points(plan.settings.enqueue, plan.space)
    listed = "; ".join(" ".join(options_of(point)) for point in points)
    digest = hashlib.sha256(listed.encode()).hexdigest()[:6]
    return f"<{len(points)} points, {digest}>" if points else "null"


def _sources(config: DictConfig) -> Iterator[tuple[Path, str]]:
    """The modules of the package, and those of the project that the config names; their hashes."""
    names = {str(target).partition(".")[0] for target in _targets(plain(config, resolve=False))}
    root = project().root
    for name in sorted(names | {project().package, LIBRARY}):
        module, folder = root / f"{name}.py", root / name
        for path in [*([module] if module.is_file() else []), *sorted(folder.rglob("*.py"))]:
            # As text: another checkout may end its lines in another way.
            text = path.read_text("utf-8", errors="replace")
            yield path.relative_to(root), hashlib.sha256(text.encode()).hexdigest()[:12]


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)


def _varied_files(plan: Plan) -> Iterator[tuple[str, str]]:
    """Hashes of the tables that a sweep varies over; the data that it was checked with are one."""
    for parameter in plan.space.parameters:
        if parameter.key.lstrip("+") == "data.path":
            for choice in parameter.choices or ():
                path = Path(str(choice).strip("'\"")).expanduser()
                if path.is_file():
                    yield path.name, hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _check_differences(before: Identity, now: Identity, plan: Plan) -> None:
    """Say what differs.

    Raises:
        UserError: the question differs, or anything else without `allow_changes`.
    """
    questions = list(_changed(before.question, now.question))
    others = [
        *_changed(before.sweeper, now.sweeper),
        *_changed(before.options, now.options),
        *_changed_code(before.code, now.code),
        *_changed_data(before.data, now.data),
    ]
    # The number of folds is an option too.
    found = list(dict.fromkeys([*questions, *others]))
    listed = ", ".join(found[:MOST_DIFFERENCES])
    if len(found) > MOST_DIFFERENCES:
        listed += f" and {len(found) - MOST_DIFFERENCES} more"
    if not questions and plan.settings.allow_changes:
        log.warning("the study continues with changes: %s", listed)
        return
    ways = "give another hydra.sweeper.study_name to start a new study"
    if not questions:
        ways = f"add hydra.sweeper.allow_changes=true to continue it anyway, or {ways}"
    raise UserError(f"This command differs from the study {plan.name!r} ({listed}): {ways}.")


def _changed(before: Mapping[str, str | None], now: Mapping[str, str | None]) -> Iterator[str]:
    renamed: list[str] = []
    for name in dict.fromkeys([*now, *before]):
        old, new = before.get(name), now.get(name)
        # The options of another sampler or pruner are others anyway.
        if old == new or name.startswith(tuple(renamed)):
            continue
        if name.startswith("hydra/sweeper/"):
            renamed.append(name.replace("/", ".") + ".")
        key, _, condition = name.partition(" with ")
        suffix = f" with {condition}" if condition else ""
        if new is None:
            yield f"no {key}, which was {old}{suffix}"
        elif old is None:
            yield f"{key}={new}, which was not set{suffix}"
        else:
            yield f"{key}={new} instead of {old}{suffix}"


def _changed_code(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for path in sorted({*before, *now}):
        if before.get(path) != now.get(path):
            what = "new" if path not in before else "missing" if path not in now else "changed"
            yield f"{what} code in {path}"


def _changed_data(
    before: Mapping[str, dict[str, Any]], now: Mapping[str, dict[str, Any]]
) -> Iterator[str]:
    parts = []
    for part in dict.fromkeys([*now, *before]):
        old, new = before.get(part, {}), now.get(part, {})
        if old != new:
            sizes = [facts.get("samples") for facts in (old, new)]
            is_resized = None not in sizes and sizes[0] != sizes[1]
            resized = f"{part} ({sizes[1]} samples instead of {sizes[0]})"
            parts.append(resized if is_resized else part)
    if parts:
        yield f"other data in {', '.join(parts)}"


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
