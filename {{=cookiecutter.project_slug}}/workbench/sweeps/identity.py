"""Whether a command may join a study: everything that the results depend on must be the same.

The locations of files, the number of trials and the logging may differ, so that another machine or
another checkout can join.
"""

import hashlib
import logging
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
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
from .plan import Base, Identity, Plan, make_base
from .space import options_of, typed
from .types import TrialRecord

log = logging.getLogger(__name__)

# Name under which a study stores the identities of its commands.
IDENTITIES = "identities"
# Options that change no result; data are compared by content, not by path.
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
# More of them would make the message unreadable.
MOST_DIFFERENCES = 4


def identify(plan: Plan, data: Mapping[str, dict[str, Any]]) -> Identity:
    """The identity of a sweep.

    Args:
        plan: of the sweep.
        data: size and fingerprint of each split.
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
    find = _sources_of_application if plan.base.is_application else _sources
    code = {path.as_posix(): digest for path, digest in find(plan.config)}
    # Secrets are not written down.
    fixed = [redact(option) for option in plan.fixed]
    return Identity(question, sweeper, options, code, facts, fixed)


def join(known: list[Identity], now: Identity, plan: Plan) -> int:
    """Find the identity of a command among those of a study, or append it.

    Args:
        known: the identities of earlier commands, the latest last.
        now: the identity of this command.
        plan: of the sweep.

    Returns:
        The index of the identity.

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
    """Reject a folder with the trials of another study, which have the same numbers.

    Raises:
        UserError: there are trials in the folder.
    """
    trials = folder / "trials"
    if trials.is_dir() and any(trials.iterdir()):
        raise UserError(
            f"{folder} contains the trials of another study: give another "
            "hydra.sweeper.study_name, or move the folder away."
        )


def option_texts(config: DictConfig, base: Base) -> dict[str, str]:
    """The options of a config that affect results, as texts; interpolations are not resolved."""
    content = OmegaConf.to_container(config, resolve=False)
    # What the options of an application mean is not known.
    return dict(_flat(content, "", ("hydra",) if base.is_application else WITHOUT_EFFECT))


def _flat(node: Any, key: str, ignored: Sequence[str]) -> Iterator[tuple[str, str]]:
    if key in ignored:
        return
    if isinstance(node, dict) and node and all(NAME.fullmatch(str(name)) for name in node):
        for name, value in node.items():
            yield from _flat(value, f"{key}.{name}".lstrip("."), ignored)
        return
    yield key, redact(f"{key}={typed(node)}").partition("=")[2]


def _options_by_choice(plan: Plan) -> Iterator[tuple[str, str | None]]:
    """All options; if config groups vary, those of the first choices, then the differences."""
    varied = {parameter.key.lstrip("+") for parameter in plan.space.parameters}
    groups = [parameter for parameter in plan.space.parameters if parameter.is_group]
    first = [f"{group.key}={group.first()}" for group in groups]
    texts = option_texts(plan.compose(first) if first else plan.config, plan.base)
    base = {key: value for key, value in texts.items() if key not in varied}
    yield from base.items()
    for group in groups:
        for choice in (group.choices or ())[1:]:
            option = f"{group.key}={choice}"
            chosen = [word for word in first if word != f"{group.key}={group.first()}"]
            other = option_texts(plan.compose([*chosen, option]), plan.base)
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
    """The sampler, the pruner and the limits, as given."""
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
    """A digest of the configurations to try first, which may come from a file that changes."""
    points = read_points(plan.settings.enqueue, plan.space)
    listed = "; ".join(" ".join(options_of(point)) for point in points)
    digest = hashlib.sha256(listed.encode()).hexdigest()[:6]
    return f"<{len(points)} configurations, {digest}>" if points else "null"


def _sources(config: DictConfig) -> Iterator[tuple[Path, str]]:
    """The modules of the package, and modules of the project in the config, with their hashes."""
    names = {target.partition(".")[0] for target in targets(plain(config, resolve=False))}
    root = project().root
    for name in sorted(names | {project().package, LIBRARY}):
        module, folder = root / f"{name}.py", root / name
        for path in [*([module] if module.is_file() else []), *sorted(folder.rglob("*.py"))]:
            yield path.relative_to(root), _digest(path)


def _sources_of_application(config: DictConfig) -> Iterator[tuple[Path, str]]:
    """The modules of an application that it has imported, and the packages in its config."""
    standard = tuple(sysconfig.get_paths().values())
    folders = [Path(name).absolute() for name in sys.path]
    names = {target.partition(".")[0] for target in targets(plain(config, resolve=False))}
    files = {Path(str(getattr(module, "__file__", None))) for module in list(sys.modules.values())}
    files |= {p for folder in folders for name in names for p in (folder / name).rglob("*.py")}
    for path in sorted(file.absolute() for file in files if file.suffix == ".py"):
        place = next((folder for folder in folders if path.is_relative_to(folder)), path.parent)
        name = path.relative_to(place)
        is_installed = str(path).startswith(standard) or "site-packages" in path.parts
        if not (is_installed or name.parts[0] in (LIBRARY, "hydra_plugins")) and path.is_file():
            yield name, _digest(path)


def _digest(path: Path) -> str:
    # As text: line endings may differ between checkouts.
    text = path.read_text("utf-8", errors="replace")
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def targets(node: Any) -> Iterator[str]:
    """The full names of the classes and functions that a config instantiates."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


def _varied_files(plan: Plan) -> Iterator[tuple[str, str]]:
    """Hashes of the data files that a sweep varies; `data` covers only the first of them."""
    for parameter in plan.space.parameters:
        if parameter.key.lstrip("+") == "data.path":
            for choice in parameter.choices or ():
                path = Path(str(choice).strip("'\"")).expanduser()
                if path.is_file():
                    yield path.name, hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _check_differences(before: Identity, now: Identity, plan: Plan) -> None:
    """Compare two identities.

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
        # Another sampler or pruner has other options anyway.
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
    splits = []
    for split in dict.fromkeys([*now, *before]):
        old, new = before.get(split, {}), now.get(split, {})
        if old != new:
            sizes = [facts.get("samples") for facts in (old, new)]
            is_resized = None not in sizes and sizes[0] != sizes[1]
            resized = f"{split} ({sizes[1]} samples instead of {sizes[0]})"
            splits.append(resized if is_resized else split)
    if splits:
        yield f"other data in {', '.join(splits)}"


def plan_of_trial(plan: Plan, record: Record, trial: TrialRecord) -> Plan:
    """The plan with the options of a trial, which another command may have started.

    Args:
        plan: of this command.
        record: the study.
        trial: of the study.

    Raises:
        UserError: config files of the trial no longer exist.
    """
    assert plan.identity is not None
    origin = Identity(**record.recall(IDENTITIES)["all"][trial.version])
    if origin.is_same(plan.identity):
        return plan
    if origin.data != plan.identity.data:
        log.warning("the data have changed since trial %d was trained", trial.number)
    # Secrets are not stored; this command may have the same ones.
    secrets = {redact(option): option for option in plan.fixed}
    fixed = [secrets.get(option, option) for option in origin.fixed]
    fixed = [option for option in fixed if HIDDEN not in option]
    try:
        earlier = _with_options(plan, fixed)
    except HydraException as error:
        raise UserError(
            f"The options of trial {trial.number} can no longer be composed "
            f"({first_line(error)}): restore its config files and run the command again."
        ) from error
    # Undo changes of config files.
    varied = {key.lstrip("+") for key in trial.params}
    texts = option_texts(earlier.base.compose(trial.params, plan.folder), plan.base)
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
