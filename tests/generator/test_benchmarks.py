"""The benchmarks run: a number that nobody can measure again proves nothing."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import ROOT, BakedProject, run

PRINTED = {
    "epochs": (
        "CNN of width 4: 1 epochs of each, by turns",
        "| raw loop ",
        "| Lightning, barebones ",
        "| Lightning, defaults ",
        "| ours, standard config ",
        "| the usual template's path ",
        "| ours to barebones ",
    ),
    "gpu": (
        "bf16 peak: ",
        "cnn, bf16-mixed, not compiled, batches of 4, cpu: 1 epochs of each, by turns",
        "| Lightning, barebones, our module ",
        "Ours to the raw loop, at most 1.05: steps ",
        "cnn: calls that would wait, 2 steps",
        "Trials of digits, 1 epochs each, on one device (cpu)",
    ),
    "start": (
        "From the start of a command, 1 rounds",
        "| --help ",
        "| the first optimizer step ",
    ),
    "scale": ("Simulated workers, a report a second, tpe, promote", "| journal | 10 "),
    "size": ("A study of 8 parameters", "| 10 "),
    "bake": ("A project is written, 1 rounds", "| ours ", "| the smallest template "),
}


@pytest.fixture(scope="module")
def printed(demo: BakedProject, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What all benchmarks print, at their smallest size."""
    copy = tmp_path_factory.mktemp("benchmarks") / "project"
    shutil.copytree(demo.root, copy, ignore=shutil.ignore_patterns("logs"))
    driver = Path(__file__).parents[1] / "support" / "small_benchmarks.py"
    done = run(sys.executable, str(driver), str(copy), cwd=ROOT, OMP_NUM_THREADS="1")
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("subject", PRINTED)
def test_benchmark_prints_its_table(printed: str, subject: str) -> None:
    """Who changes the template is to see what it costs, not that the benchmark has rotted."""
    assert [text for text in PRINTED[subject] if text not in printed] == []


def test_a_wrong_subject_is_told() -> None:
    """An hour of benchmarks for a misspelt name of one would be the alternative."""
    command = (sys.executable, "-m", "benchmarks", "epoch")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "there are aids, bake, epochs, gpu, one_second, samplers, scale, start, " in done.stderr
