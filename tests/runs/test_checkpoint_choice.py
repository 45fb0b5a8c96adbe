"""Checkpoints by name: a command that takes the wrong run gives a right-looking wrong number."""

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from ..support.template_package import Part


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs, of which the one with the first name started last, and a later trial."""
    folder = tmp_path / "logs"
    write_run(folder / "train" / "runs" / "b_digits_1", "2026-01-01T10:00:00", "best", "last")
    write_run(folder / "train" / "runs" / "a_digits_2", "2026-01-03T10:00:00", "last")
    write_run(folder / "other" / "runs" / "c_csv_3", "2026-01-02T10:00:00", "best", "swa")
    trial = folder / "train" / "sweeps" / "study" / "trials" / "0001"
    write_run(trial, "2026-02-01T10:00:00", "best", "last")
    monkeypatch.chdir(tmp_path)
    return folder


def write_run(folder: Path, started: str, *checkpoints: str) -> None:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"started": started}))
    for name in checkpoints:
        (folder / "checkpoints" / f"{name}.ckpt").touch()


def test_newest_run_is_the_one_that_started_last(package: Part, logs: Path) -> None:
    """Neither the order of names nor a trial of a sweep decides."""
    find = package("runs.checkpoints").find_checkpoint
    newest = logs / "train" / "runs" / "a_digits_2"
    assert find("last", logs) == str(newest / "checkpoints" / "last.ckpt")
    # The run that is starting has already written its run.json when other processes join it.
    own = logs / "train" / "runs" / "d_digits_4"
    write_run(own, "2026-03-01T10:00:00")
    assert find("last", logs, own=own) == str(newest / "checkpoints" / "last.ckpt")


def test_folds_are_not_the_newest_run(package: Part, logs: Path) -> None:
    """None of them stands for the cross-validation, whose folder has no checkpoint itself."""
    choice = package("runs.checkpoints")
    folder = logs / "train" / "runs" / "e_folds_5"
    write_run(folder, "2026-03-01T10:00:00")
    (folder / "run.json").write_text('{"started": "2026-03-01T10:00:00", "folds": ["fold_0"]}')
    write_run(folder / "fold_0", "2026-03-01T10:00:01", "best")
    with pytest.raises(package("errors").UserError, match=r"name a fold, such as e_folds_5/fold_0"):
        choice.find_checkpoint("best", logs)
    found = choice.find_checkpoint("e_folds_5/fold_0/best", logs)
    assert Path(found) == folder / "fold_0" / "checkpoints" / "best.ckpt"
    # Folds that start from an earlier run do not mean the cross-validation that they are of.
    newest = choice.newest_run(logs, own=folder / "fold_0")
    assert newest == logs / "train" / "runs" / "a_digits_2"


@pytest.mark.parametrize(
    "name",
    [
        "other/runs/c_csv_3/best",  # as runs.py shows it
        "c_csv_3/best",
        "logs/other/runs/c_csv_3/best",  # its folder
    ],
)
def test_run_is_named_as_in_the_table_or_by_its_folder(
    package: Part, logs: Path, name: str
) -> None:
    found = package("runs.checkpoints").find_checkpoint(name, logs)
    folder = logs / "other" / "runs" / "c_csv_3"
    assert Path(found).samefile(folder / "checkpoints" / "best.ckpt")


def test_files_take_precedence(package: Part, logs: Path, tmp_path: Path) -> None:
    """A path that worked before must not start to mean another file."""
    find = package("runs.checkpoints").find_checkpoint
    for path in ("some/where/best.ckpt", "best.ckpt", "weights.ckpt", "s3://bucket/last.ckpt"):
        assert find(path, logs) == path
    (tmp_path / "last").touch()
    assert find("last", logs) == "last"


def test_what_is_missing_is_told(package: Part, logs: Path) -> None:
    """Another run's checkpoint instead would go unnoticed."""
    find = package("runs.checkpoints").find_checkpoint
    user_error = package("errors").UserError
    with pytest.raises(user_error, match=r"a_digits_2 has no best checkpoint; there are: last\."):
        find("best", logs)
    with pytest.raises(user_error, match="There is no run 'c_csv_4'"):
        find("c_csv_4/best", logs)
    with pytest.raises(user_error, match=r"no run below .*empty"):
        find("last", logs.parent / "empty")


@pytest.mark.parametrize("option", ["ckpt_path", "weights_from"])
def test_config_gets_the_file(
    package: Part, logs: Path, option: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The config of the new run has to say which file it was, also when there is a newer one."""
    cfg: Any = OmegaConf.create({option: "c_csv_3/swa", "paths": {"log_dir": str(logs)}})
    with caplog.at_level("INFO"):
        package("runs.checkpoints").resolve_checkpoints(cfg)
    file = str(logs / "other" / "runs" / "c_csv_3" / "checkpoints" / "swa.ckpt")
    assert cfg[option] == file
    assert file in caplog.text
