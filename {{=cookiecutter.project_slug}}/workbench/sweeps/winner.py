"""The winner of a sweep as an experiment config, ready to run or to be changed."""

import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from ..experiment_files import is_experiment_file, read_experiment
from ..files import replace_text
from ..project import project
from ..redact import redact
from .space import text
from .types import TrialRecord


def write_best(
    path: Path, trial: TrialRecord, fixed: Sequence[str], groups: Collection[str], note: str
) -> None:
    """Write a trial as an experiment that composes to the very config the trial ran with.

    Args:
        path: the YAML file.
        trial: the winner.
        fixed: the options of the sweep's command that did not vary.
        groups: which options choose a config file.
        note: where the file comes from.
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
        # How the sweep ran is no part of the experiment.
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
    """An experiment config in the making."""

    comments: list[str]
    includes: list[Any] = field(default_factory=list)
    choices: dict[str, Any] = field(default_factory=dict)
    values: DictConfig = field(default_factory=lambda: OmegaConf.create({}))

    def begin_with(self, name: str) -> None:
        """Include another experiment."""
        if not is_experiment_file(name):
            # Absolute: it must mean the same wherever this file lies.
            self.includes.append(f"/experiment/{name}")
            return
        # Taken over, so that the winner does not need the folder of an earlier sweep.
        self.values = read_experiment(name)
        for entry in self.values.pop("defaults", []):
            if isinstance(entry, DictConfig) and str(next(iter(entry))).startswith("override "):
                self.choices.update(entry)
            elif entry != "_self_":
                self.includes.append(entry)

    def include(self, option: Override) -> None:
        """Include configs of a group that comes after the experiment and chooses nothing itself.

        Such a group cannot be overridden here, and would overrule the values of this file.
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
        """Say what the file does not hold: a deletion, an element of a list, a password."""
        words = shlex.quote(redact(option.input_line or ""))
        self.comments.append(f"No file can say {words}: add it to the command.")

    def to_yaml(self) -> str:
        """The text of the file."""
        choices = [{key: choice} for key, choice in self.choices.items()]
        # Hydra wants overrides after everything else that is included.
        defaults = OmegaConf.create({"defaults": [*self.includes, *choices, "_self_"]})
        header = "".join(f"# {line}\n" for line in self.comments)
        values = OmegaConf.to_yaml(self.values) if self.values else ""
        return header + OmegaConf.to_yaml(defaults) + values


def _defaults() -> dict[str, Any]:
    """The groups of `configs/train.yaml` in their order, and what each chooses."""
    entries = OmegaConf.load(project().configs / "train.yaml").defaults
    return {key: name for entry in entries if entry != "_self_" for key, name in entry.items()}


def _names(option: Override) -> list[str]:
    """What an option chooses from its group: nothing, one, or a list."""
    value = None if option.is_delete() else option.value()
    return [] if value is None else value if isinstance(value, list) else [str(value)]
