"""Records and objectives of sweeps that never ran, searches with promotion, and an application."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from ..support.applications import SPHERE, SPHERE_CONFIG, Application, application, make_library
from ..support.promotion import EPOCHS, FACTOR, FIRST, LR, STARTUP, Simulation
from ..support.template_package import Part


@pytest.fixture(scope="module")
def make(package: Part) -> Callable[..., Any]:
    """Makes a record; by default of a trial that finished."""
    records = package("sweeps.types")

    def make_record(number: int, *values: float, state: str = "finished", **more: Any) -> Any:
        more = {"params": {}} | more
        return records.TrialRecord(number, records.State(state), values=values, **more)

    return make_record


@pytest.fixture(scope="module")
def goals(package: Part) -> Callable[..., Any]:
    """Makes objectives: `goals("max", "min")`."""
    objective = package("sweeps.types").Objective
    names = ("val/acc", "parameters", "seconds", "val/loss")
    return lambda *modes: [objective(n, mode) for n, mode in zip(names, modes, strict=False)]


@pytest.fixture
def open_search(package: Part, tmp_path: Path) -> Callable[..., Any]:
    """Opens a study; again, as the next command would."""
    # A journal waits for the disk after every report.
    memory: dict[str, Any] = defaultdict(optuna.storages.InMemoryStorage)

    def make(
        n_trials: int = 30,
        sampler: str = "random",
        mode: str = "max",
        folder: str = "study",
        length: int | None = EPOCHS,
        on_disk: bool = False,
        **limits: float,
    ) -> Any:
        space, types = package("sweeps.space"), package("sweeps.types")
        storage, search = package("sweeps.storage"), package("sweeps.optuna_search")
        promoting, promotion = package("sweeps.promoting_search"), package("sweeps.promotion")
        (tmp_path / folder).mkdir(exist_ok=True)
        lock = storage.FileLock(tmp_path / folder / "study.lock")
        objectives = [types.Objective("val/acc", mode)]
        place = storage.open_journal(tmp_path / folder, lock) if on_disk else memory[folder]
        study = search.open_study(place, "study", objectives)
        lr = space.Parameter(LR, low=1e-5, high=1.0, log=True)
        about = (study, space.Space((lr,)), objectives, n_trials, 1, limits, lock)
        rungs = promotion.Rungs.between(FIRST, length, FACTOR, mode)
        found = promoting.PromotingSearch(*about, rungs=rungs, n_startup_trials=STARTUP)
        found.join({"name": sampler}, {"name": "promote"}, 7)
        return found

    return make


@pytest.fixture
def simulate(package: Part) -> Callable[..., Simulation]:
    """Makes a simulation of trainings."""
    return lambda **options: Simulation(package("sweeps.types"), **options)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the wheel contains."""
    return make_library(tmp_path_factory.mktemp("library"))


@pytest.fixture
def sphere(library: Path, tmp_path: Path) -> Application:
    """The example with three options, which returns a number."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text(SPHERE_CONFIG, "utf-8")
    return application(tmp_path, library, SPHERE.replace("RESULT", "value"))
