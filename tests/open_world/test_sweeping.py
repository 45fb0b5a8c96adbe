"""A sweep over a module's own options: it runs, prunes, resumes and reports."""

from pathlib import Path

import pytest

from ..conftest import BakedProject
from ..support.sweeps import Swept, sweep
from .cases import CASES
from .world import SMALL

# One of each kind: a sweep starts two commands.
SWEPT = (
    "tutorial",
    "plateau",
    "dictionaries",
    "own_objects",
    "two_loaders",
    "train_only",
    "stream",
    "gan",
    "skips_batches",
    "named_classes",
    "built_in_model",
    "built_in_setup",
    "odd_values",
)
# Nothing that learns has a loss above it, and what diverges has.
THRESHOLD = ("hydra/sweeper/pruner=threshold", "hydra.sweeper.pruner.upper=5")


@pytest.mark.slow
@pytest.mark.parametrize("name", SWEPT)
def test_own_options_are_swept(their_project: BakedProject, tmp_path: Path, name: str) -> None:
    """A grid of two good values and one that is pruned, begun with two trials."""
    check(their_project, tmp_path / "study", name)


def test_options_of_objects_are_swept(their_project: BakedProject, tmp_path: Path) -> None:
    """The optimizer is an object in the model's config."""
    swept = check(their_project, tmp_path / "study", "hydra_style")
    best = (swept.folder / "best.yaml").read_text("utf-8")
    assert "model.optimizer.lr" in best or "optimizer:" in best


def check(project: BakedProject, folder: Path, name: str) -> Swept:
    case = CASES[name]
    key = case.swept
    options = (
        *SMALL,
        *case.command,
        f"objective.metric={case.loss}",
        "objective.mode=min",
        "search_space=none",
        f"{key}=0.01,0.02,100",
        *THRESHOLD,
        "hydra/sweeper/sampler=grid",
        "hydra.sweeper.workers=2",
    )
    sweep(project, folder, *options, "hydra.sweeper.n_trials=2", small=False)
    swept = sweep(project, folder, *options, small=False)
    assert swept.states() == {"COMPLETE": 2, "PRUNED": 1}
    assert (folder / "report.html").is_file()
    assert {float(row[key]): row["state"] for row in swept.rows} == {
        0.01: "finished",
        0.02: "finished",
        100.0: "pruned",
    }
    finished = [row for row in swept.rows if row["state"] == "finished"]
    values = [float(row[case.loss]) for row in finished]
    assert values == sorted(values)
    # The winner alone is tested.
    assert all(swept.printed.count(f"{metric}: ") == 1 for metric in case.tested)
    return swept
