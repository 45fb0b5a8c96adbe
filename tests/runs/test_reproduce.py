"""The same run again, and what two runs differ in when they are not the same."""

import copy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from ..conftest import BakedProject
from ..support.training_runs import TrainedRun, is_same, run_all, script

# Groups, callbacks and a found value that the default experiment does not have.
OTHER = (
    "scheduler=step",
    "scheduler.every=2",
    "optimizer=sgd",
    "model=mlp",
    "callbacks=[default,ema]",
    "finders=lr",
    "logger=csv",
    "data.shift=1",
    "trainer.max_epochs=4",
    "trainer.max_time='00:01:00:00'",
    "seed=3",
)


@dataclass(frozen=True)
class Repeated:
    """Folders of runs, and the sentence of a refused command."""

    folder: Path
    refused: str

    def run(self, name: str) -> TrainedRun:
        """A run by the name of its folder."""
        return TrainedRun(self.folder / name, None)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def repeated(
    demo: BakedProject, digits: TrainedRun, tmp_path_factory: pytest.TempPathFactory
) -> Repeated:
    folder = tmp_path_factory.mktemp("repeated")
    relative = digits.folder.relative_to(demo.root)

    def train(name: str, *options: str) -> tuple[str, ...]:
        return ("train.py", f"hydra.run.dir={folder / name}", *options)

    again = f"experiment={folder / 'other' / 'config.yaml'}"
    answers = run_all(
        demo,
        train("digits", f"experiment={relative / 'config.yaml'}"),
        train("other", *OTHER),
        train("same", again),
        train("seed", again, "seed=4", "trainer.max_time='00:02:00:00'"),
        train("refused", again, "optimizer=adamw"),
    )
    assert answers[:4] == [""] * 4
    return Repeated(folder, answers[4])


# experiment=<run>/config.yaml


def assert_same(one: TrainedRun, other: TrainedRun) -> None:
    """Weights and metrics agree to the last bit."""
    for name in ("best", "last"):
        assert is_same(one.saved(name)["state_dict"], other.saved(name)["state_dict"]), name
    assert one.metrics == other.metrics


def test_config_of_a_run_repeats_it(repeated: Repeated, digits: TrainedRun) -> None:
    """With the standard aids, in another process, the path given from the project's folder."""
    assert_same(repeated.run("digits"), digits)


def test_nothing_of_the_defaults_is_mixed_in(repeated: Repeated) -> None:
    """A schedule or callback of the default experiment would make it another run."""
    one, other = repeated.run("other"), repeated.run("same")
    assert_same(one, other)
    text = json.dumps(one.manifest["config"]).replace(str(one.folder), str(other.folder))
    assert json.loads(text) == other.manifest["config"]
    assert list(one.manifest["config"]["callbacks"]) == list(other.manifest["config"]["callbacks"])
    assert one.manifest["found"]["optimizer.lr"] == other.manifest["config"]["optimizer"]["lr"]


def test_other_values_reach_all_that_follow_from_them(repeated: Repeated) -> None:
    """Epochs that keep the old seed, while the run says it had another, are no new sample."""
    run = repeated.run("seed")
    callbacks = run.manifest["config"]["callbacks"]
    assert (run.manifest["seed"], callbacks["epoch_seed"]["seed"]) == (4, 4)
    assert callbacks["time_limit"]["duration"] == "00:02:00:00"
    assert str(repeated.run("other").folder) not in json.dumps(run.manifest["config"])
    assert not is_same(run.saved()["state_dict"], repeated.run("other").saved()["state_dict"])


def test_group_beside_a_whole_run_is_refused(repeated: Repeated) -> None:
    """Half of one optimizer and half of another would be trained without a word."""
    assert "optimizer=adamw would be mixed" in repeated.refused
    assert not (repeated.folder / "refused").exists()


# runs.py diff


def test_same_runs_differ_in_time_alone(demo: BakedProject, repeated: Repeated) -> None:
    """Who repeats a run wants to hear that it is the same."""
    folders = (str(repeated.folder / name) for name in ("other", "same"))
    assert script(demo, "runs.py", "diff", *folders).stdout == (
        "The two runs differ in nothing but time.\n"
    )


def test_difference_names_cause_and_results(demo: BakedProject, repeated: Repeated) -> None:
    """A table of results without their cause, or the other way round, explains nothing."""
    names = ("diff", "other", "seed", "--log-dir", str(repeated.folder))
    lines = script(demo, "runs.py", *names).stdout.splitlines()
    rows = [re.split(r"\s*│\s*", line.strip("│ ")) for line in lines if line.startswith("│")]
    assert rows[0][1:] == ["seed", "3", "4"]
    (row,) = (row for row in rows if row[-3] == "best.val/loss")
    metrics = [repeated.run(name).metrics["best"]["val/loss"] for name in ("other", "seed")]
    assert row[-2:] == [str(value) for value in metrics]
    assert not any("output_dir" in word or "dirpath" in word for row in rows for word in row)


# What is changed in a manifest, and the row that tells it: what and the two values.
CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], tuple[str, str] | None]] = {
    "package": (lambda m: m["packages"].update(torch="2.0"), ("packages", "torch")),
    "python": (lambda m: m.update(python="3.9.1"), ("machine", "python")),
    "threads": (lambda m: m["hardware"].update(threads=64), ("machine", "threads")),
    "GPU": (lambda m: m["hardware"].update(gpus=["A", "B"]), ("machine", "gpus")),
    "commit": (lambda m: m["git"].update(commit="f" * 40), ("code", "commit")),
    "diff": (
        lambda m: m["git"].update(changed={"x.py": "f" * 64}),
        ("code", "x.py (uncommitted)"),
    ),
    "untracked": (
        lambda m: m["git"].update(untracked={"n.py": "a"}),
        ("code", "n.py (not in git)"),
    ),
    "data": (
        lambda m: m["data"]["test"].update(fingerprint="0"),
        ("data", "test.fingerprint"),
    ),
    "value": (lambda m: m["config"]["optimizer"].update(lr=7), ("config", "optimizer.lr")),
    "list": (lambda m: m["config"]["data"].update(drop=["id"]), ("config", "data.drop")),
    "end": (lambda m: m.update(status="failed"), ("status", "how it ended")),
    "time": (lambda m: m.update(started="1", ended="2", timings={}), None),
    "checkpoints": (lambda m: m.update(checkpoints={"best": "/elsewhere"}), None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_kind_of_difference_is_told(
    package: Any, digits: TrainedRun, tmp_path: Path, change: str
) -> None:
    """run.json must be enough to say why two results are not the same."""
    make, told = CHANGES[change]
    manifest = copy.deepcopy(digits.manifest)
    make(manifest)
    (tmp_path / "run.json").write_text(json.dumps(manifest))
    rows = package("runs.difference").compare_runs(digits.folder, tmp_path)
    assert [row[:2] for row in rows] == ([] if told is None else [told])


def test_wrong_name_is_told_in_one_sentence(demo: BakedProject, repeated: Repeated) -> None:
    """A traceback, or all the runs of a year, would hide the mistyped letter."""
    command = ("runs.py", "diff", "other", "sead", "--log-dir", str(repeated.folder))
    done = script(demo, *command, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: There is no run 'sead'; did you mean 'seed'?\n"


def test_trials_are_listed_when_asked_for(
    demo: BakedProject, digits: TrainedRun, tmp_path: Path
) -> None:
    """Two hundred trials between three runs leave no table of runs."""
    for name in ("train/runs/one", "train/sweeps/s/trials/0000", "train/sweeps/s/trials/0001"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text(json.dumps(digits.manifest))

    def listed(*options: str) -> int:
        return script(demo, "runs.py", *options, "--csv").stdout.count("finished")

    done = script(demo, "runs.py", str(tmp_path))
    assert "trials/" not in done.stdout and "train/runs/one" in done.stdout
    assert (
        done.stderr
        == "2 sweep trials and folds of cross-validations are left out: --trials shows them.\n"
    )
    assert listed(str(tmp_path), "--trials") == 3
    assert listed(str(tmp_path / "train" / "sweeps" / "s")) == 2


# The fingerprint of the data


def test_fingerprint_tells_data_apart(package: Any, tmp_path: Path) -> None:
    """One changed cell, or the same rows in other parts, are other data."""
    table = tmp_path / "table.csv"
    rows = [f"{number % 7},{number}" for number in range(40)]

    def parts(**options: Any) -> Any:
        table.write_text("\n".join(["x,y", *rows]) + "\n")
        data = package("data").CSVDataModule(path=str(table), target="y", **options)
        data.setup()
        return data.fingerprints()

    first = parts()
    assert first["train"]["samples"] == 26
    assert parts() == first
    assert parts(split_seed=1).keys() == first.keys()
    assert parts(split_seed=1) != first
    rows[3] = "99,3"
    assert parts() != first


def test_fingerprint_of_pictures_reads_no_picture(package: Any, tmp_path: Path) -> None:
    """A folder of a million pictures must not be read twice; a replaced file must show."""
    files = package("data.image_files").Images
    paths = [tmp_path / f"{name}.png" for name in "ab"]
    for path in paths:
        path.write_bytes(b"no picture")
    size = {"channels": 1, "height": 1, "width": 1}
    preprocessing = {**size, "value_range": None, "mean": [0.0], "std": [1.0]}

    def fingerprint(labels: list[int]) -> str:
        pictures = files(paths, torch.tensor(labels).numpy())
        dataset = package("data.image_files").ImageDataset(pictures, preprocessing)
        return str(dataset.fingerprint())

    first = fingerprint([0, 1])
    assert fingerprint([0, 1]) == first
    assert fingerprint([1, 0]) != first
    paths[0].write_bytes(b"another picture")
    assert fingerprint([0, 1]) != first
