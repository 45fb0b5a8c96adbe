"""Running an entry point: a user's mistake ends in one sentence, not in a traceback."""

import argparse
import atexit
import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from .config_checks import check_complete
from .errors import UserError
from .experiment_files import register_experiments
from .group_help import find_group, print_group
from .hydra_errors import explain
from .project import project
from .redact import redact
from .runs.config import folds_to_train
from .runs.directory import CLAIMS, register_resolvers, release

# The modules that a command imports from an extra of pyproject.toml.
EXTRAS = {
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "serve": ("fastapi", "uvicorn"),
}


def run(main: Callable[[], Any]) -> None:
    """Run a Hydra entry point from the command line."""
    # Hydra would otherwise print errors itself, over several lines, and exit.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Idle threads would spin: beside other programs, training a small network takes 20 times as
    # long. The variable is only read when torch is imported, which happens later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # The imports of a training create two million objects and hardly any garbage: looking for it
    # after every 700 objects, as Python does, takes an eighth of their time.
    gc.set_threshold(10_000)
    # Called after all functions that are registered later.
    atexit.register(_end_soon)
    _list_fewer_groups()
    sys.argv[1:] = [new for word in sys.argv[1:] for new in _without_null(word)]
    with one_sentence_errors():
        if (group := find_group(sys.argv[1:])) is not None:
            print_group(group, Path(sys.argv[0]).name)
            return
        register_resolvers()
        register_experiments(sys.argv[1:])
        main()


def _end_soon() -> None:
    """Keep the garbage collector away from the imports of a command that ends.

    The interpreter would search half a million objects for garbage, three times, which takes a
    second. Triton's objects are among them, and nanobind, by which it is built, reports whatever is
    not collected as leaks.
    """
    if "triton" in sys.modules:
        with suppress(OSError, ValueError):
            sys.stderr.flush()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    gc.freeze()


def _list_fewer_groups() -> None:
    """Let Hydra list groups once, where --help does it twice, and its own ones for --hydra-help.

    There are 40 groups, with three lookups each, and two thirds are Hydra's.
    """
    find = Hydra.list_all_config_groups
    has_all = "--hydra-help" in sys.argv

    @cache
    def groups(self: Hydra, parent: str = "") -> Sequence[str]:
        return find(self, parent) if has_all or parent != "hydra" else []

    Hydra.list_all_config_groups = groups  # type: ignore[method-assign]


def _without_null(word: str) -> list[str]:
    """Translate `group=null` into the words by which Hydra leaves out a group."""
    group, _, value = word.partition("=")
    if value != "null" or not group or not (project().configs / group).is_dir():
        return [word]
    if (project().configs / group / "none.yaml").is_file():
        return [f"{group}=none"]
    choices = _default_choices(Path(sys.argv[0]).stem)
    if isinstance(choices.get(group), ListConfig):
        return [f"{group}=[]"]
    # Hydra refuses to leave out a group that is not chosen.
    return [] if group in choices and choices[group] is None else [f"~{group}"]


def _default_choices(name: str) -> dict[str, Any]:
    """What `configs/<name>.yaml` chooses of each group: a file, several, or nothing."""
    defaults = OmegaConf.load(project().configs / f"{name}.yaml").defaults
    chosen = [entry for entry in defaults if not isinstance(entry, str)]
    return {key: choice for entry in chosen for key, choice in entry.items()}


@contextmanager
def command(cfg: DictConfig, extra: str | None = None) -> Iterator[None]:
    """Check the config of a command before its body runs; mistakes print one sentence.

    Args:
        cfg: the composed config.
        extra: the extra of `pyproject.toml` that the command needs.
    """
    with one_sentence_errors():
        if extra is not None:
            _check_extra(f"{cfg.task_name}.py", extra)
        check_complete(cfg)
        # The folds of a cross-validation are trained by other processes.
        if folds_to_train(cfg) is None:
            _import_torch()
        yield


def _import_torch() -> None:
    """Import torch, and keep the garbage collector away from what it consists of.

    These are 280,000 objects that stay until the end.
    """
    import torch  # noqa: F401

    # nanobind, by which Triton is built, reports its objects as leaks if they are never collected.
    if "triton" not in sys.modules:
        gc.freeze()


def _check_extra(script: str, extra: str) -> None:
    """Refuse a command whose packages are missing, before anything heavy is imported.

    Raises:
        UserError: at least one of them is not installed.
    """
    missing = [name for name in EXTRAS[extra] if find_spec(name) is None]
    if missing:
        raise UserError(
            f"{script} needs {', '.join(missing)}: install what is missing with "
            f"`uv sync --extra {extra}` or `pip install {' '.join(missing)}`."
        )


@contextmanager
def one_sentence_errors() -> Iterator[None]:
    """Print a mistake in the command, config or data as one sentence, and exit with code 1.

    Any other error is a bug and keeps its traceback.
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
    """Report what argparse does not understand in one sentence."""
    hint = "--help lists all options"
    if "overrides" in parser.format_usage() and message.startswith("unrecognized"):
        is_flag = message.partition(": ")[2].startswith("-")
        hint = (
            "options are written key=value, without dashes"
            if is_flag
            else "flags such as -m must come before all options"
        )
    raise UserError(f"{message[:1].upper()}{message[1:]}: {hint}.")


def _remove_empty_folder() -> None:
    """Remove the folder that Hydra creates for every command, if it contains nothing but a log."""
    if not HydraConfig.initialized():
        return
    # In a sweep, the folder of a run is unknown.
    with suppress(OSError, MissingMandatoryValue):
        log = Path(HydraConfig.get().runtime.output_dir) / "run.log"
        if {path.name for path in log.parent.iterdir()} <= {log.name, CLAIMS}:
            log.unlink(missing_ok=True)
            release(log.parent)
        log.parent.rmdir()
