"""The page about W&B sweeps: its client turns the page's file into a command that trains."""

import json
from pathlib import Path

import pytest
import yaml

from ..conftest import ROOT, BakedProject, run
from ..support.doc_code import read_blocks
from ..support.training_runs import ON_CPU

PAGE = ROOT / "docs" / "wandb-sweeps.md"
# What the server would send; the rest is done by the client.
ORDER = {
    "type": "run",
    "program": "train.py",
    "run_id": "abc123",
    "args": {"optimizer.lr": {"value": 0.01}, "model.net.width": {"value": 32}},
}
AGENT = """
import json
import sys
from queue import Queue

from wandb.wandb_agent import Agent

order, command = json.loads(sys.argv[1])
agent = Agent(None, Queue(), sweep_id="sweep")
agent._sweep_command = command
answer = agent._process_command(order)
assert "exception" not in answer, answer
(process,) = agent._run_processes.values()
sys.exit(process.wait())
"""


@pytest.mark.slow
def test_agent_trains_with_the_file_of_the_page(demo: BakedProject, tmp_path: Path) -> None:
    """A W&B run gets the parameters of its sweep, and is the one that the agent announced."""
    pytest.importorskip("wandb")
    (block,) = (block for block in read_blocks(PAGE) if block.file == "sweep.yaml")
    sweep = yaml.safe_load(block.code)
    assert sweep["parameters"].keys() == ORDER["args"].keys()  # type: ignore[attr-defined]
    # There is no server here.
    command = [word.replace("offline=false", "offline=true") for word in sweep["command"]]
    short = ["model=mlp", "trainer.max_epochs=1", f"hydra.run.dir={tmp_path / 'run'}"]
    words = json.dumps([ORDER, [*command, *short]])
    variables = {"WANDB_DIR": str(tmp_path), "WANDB_SWEEP_ID": "sweep", "WANDB_MODE": "offline"}
    run("python", "-c", AGENT, words, cwd=demo.root, check=True, **ON_CPU, **variables)
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text("utf-8"))
    assert (config["optimizer"]["lr"], config["model"]["net"]["width"]) == (0.01, 32)
    (folder,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    assert folder.name.endswith("-abc123")
