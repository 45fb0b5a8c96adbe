"""The config that a trial trains with is that of the command, and only its own."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ..conftest import Bake
from ..support.sweeps import LR, sweep
from ..support.template_package import Part


def test_task_is_the_config_without_hydras_part(package: Part) -> None:
    """Code that reads the config of a trial finds what it would find in a single training."""
    content: dict[str, Any] = {
        "before": "${model}",
        "lr": 0.1,
        "paths": {"output_dir": "${hydra.runtime.output_dir}", "log": "${.output_dir}/log"},
        "model": {"lr": "${lr}", "layers": [{"width": "${...lr}"}, None], "none": None},
        "objective": None,
        "after": "${model}",
        "hydra": {"runtime": {"output_dir": "runs/1"}, "job": {"name": "${lr}"}},
    }
    config = OmegaConf.create(content)
    OmegaConf.set_struct(config, True)
    task = package("sweeps.workers").task_of(config)
    model = {"lr": 0.1, "layers": [{"width": 0.1}, None], "none": None}
    # Without `resolve`: nothing is left to resolve.
    assert OmegaConf.to_container(task) == {
        "before": model,
        "lr": 0.1,
        "paths": {"output_dir": "runs/1", "log": "runs/1/log"},
        "model": model,
        "objective": None,
        "after": model,
    }
    assert OmegaConf.is_struct(task)
    assert task.model._get_full_key("lr") == "model.lr"
    task.model.lr = 0.2
    assert (task.before.lr, task.after.lr) == (0.1, 0.1)
    # Hydra's part still reads the rest.
    assert config.hydra.job.name == 0.1


def test_command_replaces_what_the_files_cannot_resolve(bake: Bake, tmp_path: Path) -> None:
    """A cluster's configs may name variables that exist only there."""
    project = bake(project_slug="variables", package_name="variables")
    file = project.root / "configs" / "paths" / "default.yaml"
    text = file.read_text("utf-8")
    assert "${paths.root_dir}/logs" in text
    file.write_text(text.replace("${paths.root_dir}/logs", "${oc.env:NO_SUCH_FOLDER}"), "utf-8")
    options = (f"paths.log_dir={tmp_path}", "hydra.sweeper.n_trials=2", "hydra.sweeper.workers=1")
    swept = sweep(project, tmp_path / "study", LR, *options)
    assert swept.states() == {"COMPLETE": 2}
