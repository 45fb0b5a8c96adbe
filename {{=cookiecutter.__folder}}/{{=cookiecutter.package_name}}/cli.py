"""Running an entry point: a user's mistake ends in one sentence, not in a traceback."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .errors import UserError
from .experiment_files import register_experiments
from .mistakes import explain
from .redact import redact


def run(main: Callable[[], Any]) -> None:
    """Run a Hydra entry point from the command line."""
    # Hydra would otherwise print errors itself, over several lines, and exit.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Waiting threads would spin: beside other programs a fit of a small network takes 20 times as
    # long. Only read when torch is imported, which happens later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Hydra reads nan as a number; after debug= it is the name of a preset.
    sys.argv = ["debug='nan'" if word == "debug=nan" else word for word in sys.argv]
    with one_sentence_errors():
        register_experiments(sys.argv[1:])
        main()


@contextmanager
def one_sentence_errors() -> Iterator[None]:
    """Print a mistake in command, config or data as one sentence and exit with code 1.

    Everything else is a bug, whose traceback is wanted.
    """
    try:
        yield
    except UserError as error:
        sys.exit(redact(f"error: {error}"))
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        sys.exit(redact(f"error: {sentence}"))
