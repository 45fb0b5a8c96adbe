"""Several trainings in one SLURM job: each has its own folder, and finds it after a requeue."""

import csv
import json
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..conftest import BakedProject
from ..support.in_process import SMALL, Project
from ..support.training_runs import ON_CPU, is_same

JOB = {
    "SLURM_JOB_ID": "777",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}
EVERY_EPOCH = (
    "+callbacks.each._target_=pytorch_lightning.callbacks.ModelCheckpoint",
    "+callbacks.each.dirpath=${paths.output_dir}/checkpoints",
    "+callbacks.each.filename='epoch-{epoch}'",
    "+callbacks.each.auto_insert_metric_name=false",
    "+callbacks.each.save_top_k=-1",
)


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of a batch job that runs one task."""
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    # Set by the first training of a process, for its processes.
    monkeypatch.setenv("MASTER_PORT", "15777")
    return monkeypatch


@pytest.fixture(scope="module")
def project(demo: BakedProject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(demo.root)
        yield Project(demo.root, tmp_path_factory.mktemp("slurm"))


@pytest.fixture
def directories(project: Project) -> Any:
    """The module that chooses folders."""
    return project.module("runs.directory")


def start(project: Project, log_dir: Path, *options: str) -> tuple[Path, Any]:
    """What Hydra does before `main`: the folder and the config of a command."""
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, open_dict

    project.module("runs.directory").register_resolvers()
    with initialize_config_dir(str(project.root / "configs"), version_base="1.3"):
        cfg = compose("train", [*options, f"paths.log_dir={log_dir}"], return_hydra_config=True)
    folder = Path(OmegaConf.select(cfg, "hydra.run.dir"))
    with open_dict(cfg):
        cfg.hydra.runtime.output_dir = str(folder)
        HydraConfig.instance().set_config(cfg)
        del cfg["hydra"]
    return folder, cfg


def manifest_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "run.json").read_text("utf-8"))
    return content


def test_trainings_of_one_job_do_not_overwrite_each_other(
    demo: BakedProject, side_by_side: ThreadPoolExecutor, tmp_path: Path
) -> None:
    """`srun ... & srun ... & wait` with the same command: two whole runs, nothing interleaved."""
    command = ("train.py", *SMALL, "logger=csv", f"paths.log_dir={tmp_path}")

    def start_one() -> None:
        demo.run_warm(*command, check=True, **JOB, **ON_CPU)

    for started in [side_by_side.submit(start_one) for _ in range(2)]:
        started.result()
    folders = sorted((tmp_path / "train" / "runs").iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert folder.name.startswith("slurm-777_digits_")
        manifest = manifest_of(folder)
        assert manifest["status"] == "finished"
        assert manifest["slurm"]["job"] == "777"
        config = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
        assert config["paths"]["output_dir"] == str(folder)
        assert manifest["checkpoints"]["best"] == str(folder / "checkpoints" / "best.ckpt")
        assert (folder / "checkpoints" / "best.ckpt").is_file()
        with (folder / "csv" / "metrics.csv").open(newline="") as file:
            epochs = [row["epoch"] for row in csv.DictReader(file) if row["val/loss"]]
        assert epochs == ["0", "1", "2", "3", "4", "5"]
        assert (folder / "run.log").read_text("utf-8").count("epoch 6/6") == 1


def test_requeued_job_resumes_each_training_in_its_own_folder(
    project: Project, job: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Killed after epoch 3 of 6 and requeued: the same weights, without training anew."""
    options = (*SMALL, *EVERY_EPOCH, "test=false", "seed=1")
    other, _ = start(project, tmp_path, *options[:-1], "seed=2")
    folder, cfg = start(project, tmp_path, *options)
    assert folder != other
    train = project.module("training").train
    train(cfg)
    whole = project.module("runs.checkpoints").read_checkpoint(folder / "checkpoints" / "last.ckpt")
    # What a kill leaves: the checkpoint of the third epoch, and a run that never ended.
    checkpoints = folder / "checkpoints"
    shutil.copy(checkpoints / "epoch-2.ckpt", checkpoints / "last.ckpt")
    for number in (0, 1, 2, 3, 4, 5):
        (checkpoints / f"epoch-{number}.ckpt").unlink()
    manifest = manifest_of(folder) | {"status": "running"}
    (folder / "run.json").write_text(json.dumps(manifest), "utf-8")

    job.setenv("SLURM_RESTART_COUNT", "1")
    again, cfg = start(project, tmp_path, *options)
    assert again == folder
    train(cfg)
    resumed = project.module("runs.checkpoints").read_checkpoint(checkpoints / "last.ckpt")
    assert is_same(resumed["state_dict"], whole["state_dict"])
    # Only the epochs that were missing.
    assert {path.name for path in checkpoints.glob("epoch-*")} == {
        "epoch-3.ckpt",
        "epoch-4.ckpt",
        "epoch-5.ckpt",
    }
    assert manifest_of(folder)["status"] == "finished"
    assert start(project, tmp_path, *options[:-1], "seed=2")[0] == other


def test_requeued_job_keeps_what_has_finished(
    project: Project, job: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A loop starts from its beginning after a requeue; hours of training must not be repeated."""
    options = (*SMALL, "trainer.max_epochs=1")
    folder, cfg = start(project, tmp_path, *options)
    metrics = project.module("training").train(cfg)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.is_file()}
    job.setenv("SLURM_RESTART_COUNT", "1")
    again, cfg = start(project, tmp_path, *options)
    assert again == folder
    assert project.module("training").train(cfg) == metrics
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.is_file()}
    assert after == before
    # Another command is another run.
    assert start(project, tmp_path, *options, "optimizer.lr=0.5")[0] != folder


def test_failed_training_is_not_taken_over(
    directories: Any, job: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`for i in 1 2 3; do srun python train.py; done`: without a requeue all are new runs."""
    folders = [directories.claim_in_job(tmp_path / "run") for _ in range(3)]
    assert [folder.name for folder in folders] == ["run", "run_2", "run_3"]
    # SLURM starts the script from its beginning.
    job.setenv("SLURM_RESTART_COUNT", "1")
    again = [directories.claim_in_job(tmp_path / "run") for _ in range(4)]
    assert [folder.name for folder in again] == ["run", "run_2", "run_3", "run_4"]


def test_named_folder_is_only_reused_after_a_requeue(
    directories: Any, project: Project, job: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`hydra.run.dir` in a job: the second start with other options would overwrite the first."""
    from omegaconf import OmegaConf

    slurm, errors = project.module("runs.slurm"), project.module("errors")
    cfg, changed = OmegaConf.create({"seed": 1}), OmegaConf.create({"seed": 2})
    run = {"status": "failed"} | slurm.describe_job(cfg)
    (tmp_path / "run.json").write_text(json.dumps(run))
    with pytest.raises(errors.UserError, match="already holds a run"):
        directories.claim_directory(tmp_path, None, cfg)
    job.setenv("SLURM_RESTART_COUNT", "1")
    directories.claim_directory(tmp_path, None, cfg)
    with pytest.raises(errors.UserError, match="already holds a run"):
        directories.claim_directory(tmp_path, None, changed)
    job.setenv("SLURM_JOB_ID", "778")
    with pytest.raises(errors.UserError, match="already holds a run"):
        directories.claim_directory(tmp_path, None, cfg)


def test_processes_that_start_together_get_folders_of_their_own(
    directories: Any, job: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Asking first and making the folder afterwards would give two processes one folder."""
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(directories.claim_in_job, [tmp_path / "run"] * 64))
    assert len(set(folders)) == 64


def test_tasks_of_one_training_share_a_folder(
    directories: Any, job: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A second task that writes elsewhere would not find the checkpoint to resume from."""
    names: dict[str, list[str]] = {}
    # The second task may come first, and two trainings may follow each other.
    for rank in ("1", "0", "1", "0"):
        job.setenv("SLURM_PROCID", rank)
        names.setdefault(rank, []).append(directories.claim_in_job(tmp_path / "run").name)
    assert names == {"0": ["run", "run_2"], "1": ["run", "run_2"]}


@pytest.mark.parametrize(
    ("variables", "pattern"),
    [
        ({}, r"slurm-777_x_0123abcd"),
        ({"SLURM_ARRAY_JOB_ID": "770", "SLURM_ARRAY_TASK_ID": "3"}, r"slurm-770_3_x_0123abcd"),
        # A shell on a node, where one command follows another.
        ({"SLURM_JOB_NAME": "interactive"}, r"\d{4}-\d\d-\d\d_[\d-]+_x_[0-9a-f]{8}"),
        ({"SLURM_JOB_NAME": "bash"}, r"\d{4}-\d\d-\d\d_[\d-]+_x_[0-9a-f]{8}"),
        ({"SLURM_JOB_ID": ""}, r"\d{4}-\d\d-\d\d_[\d-]+_x_[0-9a-f]{8}"),
    ],
)
def test_folder_tells_the_job(
    directories: Any,
    job: pytest.MonkeyPatch,
    tmp_path: Path,
    variables: dict[str, str],
    pattern: str,
) -> None:
    """People look for the folder of the job that squeue shows them."""
    for name, value in variables.items():
        job.setenv(name, value)
    folder = Path(directories.run_directory(str(tmp_path), "train", "x", "0123abcdef"))
    assert folder.parent == tmp_path / "train" / "runs"
    assert re.fullmatch(pattern, folder.name)


def test_steps_of_a_job_meet_at_ports_of_their_own(
    project: Project, job: pytest.MonkeyPatch
) -> None:
    """Two trainings of two tasks each would wait for, or join, each other's processes."""
    ports = []
    for step in ("0", "1"):
        job.delenv("MASTER_PORT")
        job.setenv("SLURM_STEP_ID", step)
        project.module("runs.slurm").use_own_port()
        ports.append(os.environ["MASTER_PORT"])
    assert ports == ["15777", "25777"]


def test_refused_command_leaves_no_folder_in_a_job(demo: BakedProject, tmp_path: Path) -> None:
    """A folder with nothing but marks would be counted as a start by the next command."""
    command = ("python", "train.py", "data.batch_size=0", f"paths.log_dir={tmp_path}")
    done = demo.run(*command, check=False, **JOB)
    assert "data.batch_size must be an integer" in done.stderr
    assert list((tmp_path / "train" / "runs").iterdir()) == []
