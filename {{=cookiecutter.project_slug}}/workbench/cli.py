"""Running an entry point: a user's mistake ends in one sentence, not in a traceback."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from .errors import UserError
from .experiment_files import register_experiments
from .extras import check_extra
from .hydra_errors import explain
from .project import project
from .redact import redact
from .runs.config_checks import check_complete
from .runs.directory import CLAIMS, register_resolvers, release


def run(main: Callable[[], Any]) -> None:
    """Run a Hydra entry point from the command line."""
    # Hydra would otherwise print errors itself, over several lines, and exit.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Waiting threads would spin: beside other programs a fit of a small network takes 20 times as
    # long. Only read when torch is imported, which happens later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Hydra 1.3 copies all configs that it keeps for each of the hundred questions behind --help;
    # the store is one of a kind, and 1.4 copies it no longer.
    ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]
    sys.argv[1:] = [new for word in sys.argv[1:] for new in _without_null(word)]
    with one_sentence_errors():
        register_resolvers()
        register_experiments(sys.argv[1:])
        main()


def _without_null(word: str) -> list[str]:
    """Leave a group out where `group=null` is given, for which Hydra has other words."""
    group, _, value = word.partition("=")
    if value != "null" or not group or not (project().configs / group).is_dir():
        return [word]
    if (project().configs / group / "none.yaml").is_file():
        return [f"{group}=none"]
    # Hydra can only leave out what would be there.
    return [] if group in _empty_groups(Path(sys.argv[0]).stem) else [f"~{group}"]


def _empty_groups(name: str) -> set[str]:
    """The groups of `configs/<name>.yaml` that choose nothing."""
    defaults = OmegaConf.load(project().configs / f"{name}.yaml").defaults
    chosen = [entry for entry in defaults if not isinstance(entry, str)]
    return {key for entry in chosen for key, choice in entry.items() if choice is None}


@contextmanager
def command(cfg: DictConfig, extra: str | None = None) -> Iterator[None]:
    """Check the config of a command before its body runs; mistakes print one sentence.

    Args:
        cfg: the composed config.
        extra: the extra of `pyproject.toml` that the command needs.
    """
    with one_sentence_errors():
        if extra is not None:
            check_extra(f"{cfg.task_name}.py", extra)
        check_complete(cfg)
        yield


@contextmanager
def one_sentence_errors() -> Iterator[None]:
    """Print a mistake in command, config or data as one sentence and exit with code 1.

    Everything else is a bug, whose traceback is wanted.
    """
    # It would print its usage, over many lines.
    argparse.ArgumentParser.error = _refuse_flag  # type: ignore[assignment,method-assign]
    try:
        yield
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        _remove_empty_folder()
        sys.exit(redact(f"error: {sentence}"))


def _refuse_flag(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    """Say what argparse does not understand, in a sentence."""
    hint = "--help shows all there is"
    if "overrides" in parser.format_usage() and message.startswith("unrecognized"):
        is_flag = message.partition(": ")[2].startswith("-")
        hint = (
            "options are written key=value, without dashes"
            if is_flag
            else "flags such as -m stand before all options"
        )
    raise UserError(f"{message[:1].upper()}{message[1:]}: {hint}.")


def _remove_empty_folder() -> None:
    """Take back the folder that Hydra makes for every command, if nothing but a log is in it."""
    if not HydraConfig.initialized():
        return
    # A sweep has no folder here.
    with suppress(OSError, MissingMandatoryValue):
        log = Path(HydraConfig.get().runtime.output_dir) / "run.log"
        if {path.name for path in log.parent.iterdir()} <= {log.name, CLAIMS}:
            log.unlink(missing_ok=True)
            release(log.parent)
        log.parent.rmdir()
