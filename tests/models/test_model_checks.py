"""The checks that owners of a project inherit for their models: each has to find its fault."""

import re
from pathlib import Path

import pytest

from ..conftest import Bake
from ..support.training_runs import script

MODELS = Path(__file__).parents[1] / "support" / "models_to_check.py"
FAILED = re.compile(r"^FAILED .*::Test(\w+)::test_(\w+)", re.MULTILINE)
CHECKS = {
    "builds",
    "one_step_changes_weights",
    "checkpoint_reloads_to_identical_outputs",
    "overfits_one_batch",
    "repeats_under_a_seed",
    "accepts_a_batch_of_one",
    "runs_in_bf16",
}
FAULTS = {
    "LeftOut": {"one_step_changes_weights"},
    "Unsaved": {"checkpoint_reloads_to_identical_outputs"},
    "Unlearnable": {"overfits_one_batch"},
    "Unseeded": {"repeats_under_a_seed"},
    "Normalized": {"accepts_a_batch_of_one"},
    "Squeezed": {"accepts_a_batch_of_one"},
    "SinglePrecision": {"runs_in_bf16"},
    "NotBuilt": CHECKS,
}


def run_checks(bake: Bake, *options: str) -> tuple[dict[str, set[str]], str]:
    """The checks that failed, by the name of the class, and what pytest printed."""
    project = bake(project_name="Demo", author_email="ada@example.org", git="yes")
    (project.root / "tests" / "test_wrong.py").write_text(MODELS.read_text("utf-8"), "utf-8")
    command = ("-m", "pytest", "-q", "--tb=short", "tests/test_wrong.py", *options)
    try:
        printed = script(project, *command, check=False).stdout
    finally:
        (project.root / "tests" / "test_wrong.py").unlink()
    failed: dict[str, set[str]] = {}
    for model, check in FAILED.findall(printed):
        failed.setdefault(model, set()).add(check)
    return failed, printed


def test_each_check_finds_its_fault_and_no_other(bake: Bake) -> None:
    """A check that passes for a broken model, or fails for a sound one, is worse than none."""
    failed, printed = run_checks(bake)
    assert failed == FAULTS, printed[-3000:]
    # Of sound models: training alone, own loaders, no length, two loaders, manual optimization.
    for name in ("Right", "TrainOnly", "OwnLoaders", "Iterable", "TwoLoaders", "Manual"):
        assert f"class Test{name}(" in MODELS.read_text("utf-8")
    assert "training did not change net.0.weight, net.0.bias: pass them to the optimizer" in printed
    assert "SKIPPED [1] tests/model_checks.py" in printed, "manual optimization returns no loss"
    passed = re.search(r"(\d+) passed, 1 skipped", printed)
    assert passed
    # Seven checks for each class, two of them without one, one skipped.
    classes = MODELS.read_text("utf-8").count("class Test")
    assert int(passed[1]) == 7 * classes - 2 - 1 - sum(map(len, FAULTS.values()))


@pytest.mark.slow
def test_compiled_models_are_compared_with_plain_ones(bake: Bake) -> None:
    failed, printed = run_checks(bake, "-m", "slow", "-k", "TestRight or TestNotCompilable")
    assert failed == {"NotCompilable": {"runs_compiled"}}, printed[-3000:]
    assert "1 failed, 1 passed" in printed
