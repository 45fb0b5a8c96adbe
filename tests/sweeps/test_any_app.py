"""Sweeps of Hydra applications that are no projects of the template, with the installed library."""

import os
import signal
from pathlib import Path

import optuna
import pytest
import torch

from ..conftest import run
from ..support.applications import SPHERE, Application, application
from ..support.sweeps import Swept, processes_of, wait_until

VARIED = ("x=interval(-5,5)", "y=interval(-5,5)", "z=foo,bar")

# A line fitted by gradient descent; a learning rate above 1 diverges.
LOOP = """
import time
from pathlib import Path

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from workbench.sweeps import earlier_folders, report


@hydra.main(version_base="1.3", config_path=None, config_name="config")
def fit(cfg: DictConfig) -> float:
    folder = Path(HydraConfig.get().runtime.output_dir)
    weight, trained = torch.zeros(1), []
    for earlier in earlier_folders():
        if (earlier / "state.pt").is_file():
            state = torch.load(earlier / "state.pt")
            weight, trained = state["weight"], state["trained"]
            break
    for step in range(len(trained) + 1, cfg.steps + 1):
        weight -= cfg.lr * (weight - 3)
        loss = float((weight - 3) ** 2)
        trained.append(step)
        torch.save({"weight": weight, "trained": trained}, folder / "partial")
        (folder / "partial").rename(folder / "state.pt")
        with (folder / "steps.txt").open("a") as file:
            file.write(f"{step}\\n")
        time.sleep(cfg.pause)
        try:
            report(step, loss)
        except Exception:
            print("a handler of all exceptions")
    return loss


if __name__ == "__main__":
    fit()
"""


@pytest.fixture
def loop(library: Path, tmp_path: Path) -> Application:
    """A training without Lightning."""
    config = "lr: 0.1\nsteps: 6\npause: 0\n"
    (tmp_path / "config.yaml").write_text(config, "utf-8")
    return application(tmp_path, library, LOOP.replace("config_path=None", 'config_path="."'))


def returning(app: Application, expression: str) -> Application:
    """The same application with another result."""
    (app.root / "app.py").write_text(SPHERE.replace("RESULT", expression), "utf-8")
    return app


# What a trial is


def test_number_is_the_objective(sphere: Application) -> None:
    """The example of every sweeper works, without a trainer or a project, and leaves records."""
    options = ("hydra.sweeper.n_trials=6", "hydra.sweeper.workers=2")
    done = sphere.sweep(*VARIED, *options, is_warm=False)
    assert done.states() == {"COMPLETE": 6}
    for trial in done.study.trials:
        x, y, z = (trial.params[name] for name in "xyz")
        expected = x**2 + y**2 + (z == "bar")
        assert trial.value == pytest.approx(expected, rel=1e-12)
        folder = done.folder / "trials" / f"{trial.number:04d}"
        assert f"z={z}" in (folder / ".hydra" / "overrides.yaml").read_text("utf-8")
    values = [float(row["objective"]) for row in done.rows]
    assert values == sorted(values), "lower is better unless the user says otherwise"
    assert {row["worker"] for row in done.rows} == {"0", "1"}
    logs = [path.read_text("utf-8") for path in done.folder.glob("trials/*/run.log")]
    assert len({log.split()[1] for log in logs}) == 6, "trials of one process affect each other"
    assert (done.folder / "report.html").is_file()
    assert f"x={done.rows[0]['x']}" in (done.folder / "best.yaml").read_text("utf-8")


def test_same_command_continues_the_study(sphere: Application) -> None:
    """More trials are added to those of yesterday, although Hydra names folders by the time."""
    options = (*VARIED, "hydra/sweeper/sampler=random", "hydra.sweeper.seed=1")
    first = sphere.sweep(*options, "hydra.sweeper.n_trials=2")
    more = sphere.sweep(*options, "hydra.sweeper.n_trials=4")
    assert "continuing study: 2 of 4" in more.printed
    assert [trial.params for trial in more.study.trials[:2]] == [
        trial.params for trial in first.study.trials[:2]
    ]
    assert more.states() == {"COMPLETE": 4}
    returning(sphere, "value + 1")
    changed = sphere.sweep(*options, "hydra.sweeper.n_trials=6", check=False)
    assert "changed code in app.py" in changed.printed
    assert more.states() == {"COMPLETE": 4}, "values of another function are not comparable"


@pytest.mark.parametrize(
    ("expression", "options"),
    [
        ("{'val': value, 'size': 3, 'name': 'a'}", ("hydra.sweeper.metric=val",)),
        ("(value, object())", ()),
        ("({'val': value}, None)", ("hydra.sweeper.metric=val",)),
    ],
)
def test_dictionaries_and_tuples_hold_metrics(
    sphere: Application, expression: str, options: tuple[str, ...]
) -> None:
    """What training functions usually return needs no wrapper."""
    app = returning(sphere, expression)
    done = app.sweep("x=1,3,2", "hydra.sweeper.direction=maximize", *options)
    name = "val" if options else "objective"
    assert [float(row[name]) for row in done.rows] == [13, 8, 5]
    if "size" in expression:
        assert [row["size"] for row in done.rows] == ["3.0"] * 3
        assert "name" not in done.rows[0]


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("None", "__main__.sphere returned None, and trials are compared by a number: return"),
        ("{'val': value}", "without a number 'objective', which hydra.sweeper.metric names"),
    ],
)
def test_wrong_result_is_one_sentence(sphere: Application, expression: str, sentence: str) -> None:
    """Nobody looks for the reason in twenty logs."""
    done = returning(sphere, expression).sweep("x=1,2,3,4", check=False)
    last = done.printed.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert sentence in last
    assert "Traceback" not in done.printed


def test_unknown_option_is_one_sentence(sphere: Application) -> None:
    """A misspelt option ends the command before any trial."""
    done = sphere.sweep("xx=1,2", check=False)
    assert done.printed.strip() == "error: There is no option 'xx'; did you mean 'x'?"


def test_exception_costs_one_trial(sphere: Application) -> None:
    """A configuration that does not work must not end the night."""
    app = returning(sphere, "value if cfg.x != 2 else 1 / 0")
    done = app.sweep("x=1,2,3", "hydra.sweeper.max_retries=0")
    assert done.states() == {"COMPLETE": 2, "FAIL": 1}
    (failed,) = (row for row in done.rows if row["state"] == "failed")
    assert (failed["x"], failed["error"]) == ("2", "ZeroDivisionError: division by zero")
    log = (done.folder / failed["folder"] / "run.log").read_text("utf-8")
    assert "1 / 0" in log, "the traceback is in the trial's log"


def test_process_that_dies_before_its_trial_costs_nothing(sphere: Application) -> None:
    """The next process is started ahead; if the system kills it for memory, no trial fails."""
    kill_the_next = (
        # A killed process lives on until the system has time for it.
        "next(other.kill() or other.wait() or value for _ in iter(int, 1) "
        "for other in psutil.Process(os.getppid()).children() if other.pid != os.getpid())"
    )
    app = returning(sphere, kill_the_next)
    code = (app.root / "app.py").read_text("utf-8")
    (app.root / "app.py").write_text(f"import psutil\n{code}", "utf-8")
    done = app.sweep(*VARIED, "hydra.sweeper.n_trials=3", "hydra.sweeper.workers=1")
    assert done.states() == {"COMPLETE": 3}
    assert [trial.number for trial in done.study.trials] == [0, 1, 2], "a trial was repeated"


def test_each_trial_has_its_gpus(sphere: Application) -> None:
    """Two trials on one GPU would run out of memory."""
    done = sphere.sweep("x=1,2,3", "hydra.sweeper.gpus=[4,6]", "hydra.sweeper.gpus_per_trial=1")
    seen = set()
    for path in done.folder.glob("trials/*/run.log"):
        seen.add(path.read_text("utf-8").split()[3])
    assert seen == {"4", "6"}


def test_options_of_hydras_optuna_sweeper_are_understood(sphere: Application) -> None:
    """An application that used another sweeper changes a name, and not its config."""
    config = """
defaults:
  - override hydra/sweeper: workbench

x: 1
y: 2
z: foo

hydra:
  mode: MULTIRUN
  sweeper:
    storage: null
    study_name: null
    n_jobs: 2
    direction: maximize
    n_trials: 3
    sampler:
      _target_: optuna.samplers.RandomSampler
      seed: 3
    params:
      x: interval(0, 1)
      z: choice(foo, bar)
"""
    (sphere.root / "conf" / "config.yaml").write_text(config, "utf-8")
    done = sphere.run("app.py", "hydra.sweeper.study_name=study")
    assert "3 trials, 2 at once" in done.stdout
    swept = Swept(sphere.root / "multirun" / "study")
    assert swept.study.direction is optuna.study.StudyDirection.MAXIMIZE
    assert swept.states() == {"COMPLETE": 3}


# Reports, pruning and resuming


def test_loop_with_reports_is_pruned(loop: Application) -> None:
    """A bad learning rate does not cost all steps, also in a script that catches exceptions."""
    listed = "hydra.sweeper.enqueue=[{lr:0.5},{lr:0.4},{lr:0.3},{lr:0.001}]"
    done = loop.sweep(
        "lr=interval(0.0001,0.9)",
        listed,
        "hydra.sweeper.n_trials=4",
        "hydra.sweeper.workers=1",
        "hydra/sweeper/pruner=percentile",
    )
    states = {row["lr"]: row["state"] for row in done.rows}
    assert states == {"0.5": "finished", "0.4": "finished", "0.3": "finished", "0.001": "pruned"}
    (pruned,) = (row for row in done.rows if row["state"] == "pruned")
    steps = (done.folder / pruned["folder"] / "steps.txt").read_text("utf-8").split()
    assert int(pruned["steps"]) == len(steps) < 6
    weight = 0.0
    for step, value in done.study.trials[0].intermediate_values.items():
        weight -= 0.5 * (weight - 3)
        assert value == pytest.approx((weight - 3) ** 2), step


def test_paused_trial_of_a_loop_is_resumed(loop: Application) -> None:
    """Its user names the pruner, as only the user knows that the loop saves its state."""
    listed = "hydra.sweeper.enqueue=[{lr:0.01},{lr:0.5},{lr:0.05},{lr:0.001}]"
    promote = ("hydra/sweeper/pruner=promote", "hydra.sweeper.pruner.min_epochs=2")
    options = ("lr=interval(0.0001,0.9)", listed, "hydra.sweeper.n_trials=4")
    done = loop.sweep(*options, *promote, "hydra.sweeper.workers=1")
    states = {row["lr"]: (row["state"], row["steps"]) for row in done.rows}
    assert states == {"0.5": ("finished", "6")} | dict.fromkeys(
        ("0.01", "0.05", "0.001"), ("paused", "2")
    )
    (winner,) = (row for row in done.rows if row["state"] == "finished")
    steps = (done.folder / winner["folder"] / "steps.txt").read_text("utf-8").split()
    assert steps == ["3", "4", "5", "6"]
    # Without a name, trials that may not be able to resume are not paused.
    (loop.root / "multirun" / "study").rename(loop.root / "earlier")
    done = loop.sweep(options[0], options[2], "steps=1")
    assert "pruner: percentile, as an application may not be able to resume its trials" in (
        done.printed
    )


def test_report_has_no_effect_outside_of_a_sweep(loop: Application) -> None:
    """The same script trains alone."""
    loop.run("app.py", "hydra.run.dir=alone")
    steps = (loop.root / "alone" / "steps.txt").read_text("utf-8").split()
    assert steps == list("123456")


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_killed_sweep_resumes(loop: Application, signum: signal.Signals) -> None:
    """A crash of the machine, or Ctrl-C, costs no step of a trial that saves its state."""
    options = ("lr=0.5,0.4,0.3", "hydra.sweeper.workers=2", "pause=0.3", "steps=10")
    process = loop.start(*options)
    folder = loop.root / "multirun" / "study"
    wait_until(lambda: len(list(folder.glob("trials/*/steps.txt"))) == 2)
    os.kill(process.pid, signum)
    process.communicate()
    wait_until(lambda: not processes_of(folder), 20)
    done = loop.sweep(*options)
    assert done.states() == {"COMPLETE": 3}
    first_steps = []
    for trial in done.counting:
        place = folder / "trials" / f"{trial.number:04d}"
        assert torch.load(place / "state.pt")["trained"] == list(range(1, 11))
        first_steps.append(int((place / "steps.txt").read_text("utf-8").split()[0]))
    assert sorted(first_steps)[0] == 1, "the third trial had not started"
    assert sorted(first_steps)[1] > 1, "a trial that had saved its state started again"


def test_script_without_a_guard_is_one_sentence(sphere: Application) -> None:
    """Importing such a script would start the sweep again in every trial."""
    code = (sphere.root / "app.py").read_text("utf-8")
    (sphere.root / "app.py").write_text(code.replace('if __name__ == "__main__":', "if True:"))
    done = sphere.sweep("x=1,2", check=False, is_warm=False)
    assert "a script must call its function below `if __name__ == '__main__':`." in done.printed


# The wheel


@pytest.mark.slow
def test_wheel_offers_the_sweeper(sphere: Application, template: Path, tmp_path: Path) -> None:
    """`pip install` is all that an application needs."""
    dist, env = tmp_path / "dist", tmp_path / "env"
    run("python", "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist), cwd=template)
    run("python", "-m", "venv", "--without-pip", str(env), cwd=tmp_path)
    (packages,) = env.glob("lib/python*/site-packages")
    shared = Path(optuna.__file__).parents[1]
    (packages / "shared.pth").write_text(f"{shared}\n")
    python = str(env / "bin" / "python")
    (wheel,) = dist.glob("*.whl")
    options = ("install", "--quiet", "--no-index", "--no-deps")
    run("python", "-m", "pip", "--python", python, *options, str(wheel), cwd=tmp_path)
    app = Application(sphere.root, python, "")
    groups = ("hydra/sweeper/sampler=gp", "hydra/sweeper/pruner=median")
    done = app.sweep(*VARIED, *groups, "hydra.sweeper.n_trials=3")
    assert done.states() == {"COMPLETE": 3}
    question = done.study.user_attrs["identities"]["all"][0]["sweeper"]
    assert question["hydra/sweeper/sampler"] == "gp"
    assert question["hydra/sweeper/pruner"] == "median"
