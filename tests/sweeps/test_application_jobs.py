"""A trial of a Hydra application sees what Hydra's own job shows."""

import pytest
from omegaconf import OmegaConf

from ..support.applications import Application

# Derived values, a group, lists and mappings, and what Hydra derives from the options.
COMPOSED = """
defaults:
  - _self_
  - net: small
x: 1
y: ${x}
z: foo
layers: [1, 2]
folder: ${hydra:job.override_dirname}
hydra:
  job:
    env_copy: [FROM_OUTSIDE]
    config:
      override_dirname: {kv_sep: "-", item_sep: "+", exclude_keys: [y]}
"""


def test_trial_has_the_config_of_hydras_own_job(
    sphere: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial would train with other options than the same command without our sweeper."""
    monkeypatch.setenv("FROM_OUTSIDE", "1")
    conf = sphere.root / "conf"
    (conf / "config.yaml").write_text(COMPOSED, "utf-8")
    (conf / "net").mkdir()
    for name, width in (("small", 8), ("large", 64)):
        (conf / "net" / f"{name}.yaml").write_text(f"width: {width}\ndepth: null\n", "utf-8")
    options = ["net=large", "x=interval(0,1)", "y=1,2", "z=foo,'a b'", "net.depth=1,null"]
    options += ["+more={a:1},[2]", "++layers=[3],[]", "+net.seed=0.5,1.0"]
    done = sphere.sweep(*options, "hydra.sweeper.n_trials=5", is_warm=False)
    for number in range(5):
        trial = done.folder / "trials" / f"{number:04d}" / ".hydra"
        overrides = OmegaConf.to_container(OmegaConf.load(trial / "overrides.yaml"))
        assert isinstance(overrides, list)
        place = sphere.root / "alone" / str(number)
        words = map(str, overrides)
        sphere.run("app.py", *words, f"hydra.run.dir={place}", is_warm=False)
        for name in ("config.yaml", "overrides.yaml"):
            expected = (place / ".hydra" / name).read_text("utf-8")
            assert (trial / name).read_text("utf-8") == expected
        ours, theirs = (
            OmegaConf.load(one / "hydra.yaml").hydra for one in (trial, place / ".hydra")
        )
        assert ours.job.env_set == theirs.job.env_set == {"FROM_OUTSIDE": "1"}
        assert ours.job.override_dirname == theirs.job.override_dirname
        assert "+y-" not in theirs.job.override_dirname
        assert ours.runtime.choices.net == theirs.runtime.choices.net == "large"


# What a function and a callback may look at while Hydra runs a job; x=0 fails.
INSPECTED = """
import logging
import os
from dataclasses import dataclass

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from look import SEEN


@dataclass
class Config:
    x: float = 1
    name: str = "${hydra:job.name}"


ConfigStore.instance().store(name="schema", node=Config)


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def inspect(cfg: DictConfig) -> float:
    logging.getLogger("app").info("in the log")
    SEEN["type"], SEEN["config"] = OmegaConf.get_type(cfg).__name__, dict(cfg)
    SEEN["flags"] = [OmegaConf.is_struct(cfg), OmegaConf.is_readonly(HydraConfig.get())]
    SEEN["function"] = [os.getcwd(), os.environ["SET"]]
    cfg.x = 1 / cfg.x
    return cfg.x


if __name__ == "__main__":
    inspect()
"""
LOOK = """
import json
import os
from pathlib import Path

from hydra.experimental.callback import Callback

SEEN = {}


class Look(Callback):
    def on_job_start(self, config, task_function, **kwargs):
        SEEN["start"] = [config.x, task_function.__name__, os.environ["SET"]]

    def on_job_end(self, config, job_return, **kwargs):
        SEEN["end"] = [job_return.status.name, job_return.task_name, job_return.cfg.x]
        SEEN["end"] += [sorted(job_return.hydra_cfg), list(job_return.overrides)[0], os.getcwd()]
        SEEN["end"] += [job_return.working_dir, "SET" in os.environ]
        folder = Path(config.hydra.runtime.output_dir)
        text = json.dumps(SEEN).replace(str(folder.absolute()), "OUTPUT")
        (folder / "seen.json").write_text(text)
"""
INSPECTED_CONFIG = """
defaults:
  - schema
  - _self_
hydra:
  job:
    chdir: true
    env_set: {SET: "1"}
  callbacks:
    look: {_target_: look.Look}
"""


def test_function_and_callbacks_see_what_hydras_own_job_shows(sphere: Application) -> None:
    """An application whose callbacks, folders or typed configs work alone fails in the sweep."""
    (sphere.root / "app.py").write_text(INSPECTED, "utf-8")
    (sphere.root / "look.py").write_text(LOOK, "utf-8")
    (sphere.root / "conf" / "config.yaml").write_text(INSPECTED_CONFIG, "utf-8")
    done = sphere.sweep("x=4,0", "hydra.sweeper.max_retries=0", is_warm=False)
    for number, x in enumerate((4, 0)):
        alone = sphere.root / "alone" / str(x)
        sphere.run("app.py", f"x={x}", f"hydra.run.dir={alone}", check=False, is_warm=False)
        trial = done.folder / "trials" / f"{number:04d}"
        for name in ("seen.json", ".hydra/config.yaml"):
            assert (trial / name).read_text("utf-8") == (alone / name).read_text("utf-8")
        assert "] - in the log\n" in (trial / "app.log").read_text("utf-8")
    assert [trial.value for trial in done.study.trials] == [0.25, None]
