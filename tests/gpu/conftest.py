"""Selects the device, limits the time of each test, and writes down what was measured."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from ..conftest import Bake, BakedProject
from .device import DEVICE, IS_GPU

Measured = Callable[[str], None]

# Without a GPU, the tests are not even imported.
collect_ignore_glob = [] if DEVICE != "none" else ["test_*.py"]
# Seconds of a test, with its fixtures; a machine without a GPU may be busy.
LIMIT = 200 if IS_GPU else 1800
CUT = 300  # characters of a cell
OUT = os.environ.get("GPU_TESTS_OUT")


# A script in the background ignores Ctrl-C, as do all processes that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header(config: pytest.Config) -> str:
    """One line that says where the tests run."""
    if DEVICE == "none":
        return "GPU tests: left out, there is no CUDA device"
    return f"GPU tests: on {DEVICE}"


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests, and keep those of a file in one process, which have runs in common."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if item.get_closest_marker("xdist_group") is None:
                item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """End a test that hangs: the rest is to run too."""

    def end(number: int, frame: FrameType | None) -> None:
        pytest.fail(f"no end after {LIMIT} seconds")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(LIMIT)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Measured:
    """Notes a measurement for the table and the JUnit file."""
    return lambda text: record_property("measured", text)


@pytest.fixture(scope="session")
def project(bake: Bake) -> BakedProject:
    """The project that trains; without git, which a machine with a GPU may lack."""
    return bake(project_name="Demo", git="no")


@pytest.fixture
def needs_gpu() -> None:
    """Skips a test of which nothing can be tried without CUDA."""
    if not IS_GPU:
        pytest.skip("needs CUDA")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write the result at once: the session may be ended from outside.

    With several processes, the first one gets the reports of all.
    """
    is_result = report.when == "call" or not report.passed
    if not OUT or not is_result or os.environ.get("PYTEST_XDIST_WORKER"):
        return
    row = {
        "test": report.nodeid.removeprefix("tests/gpu/").partition("@")[0],
        "result": report.outcome if report.when == "call" else f"{report.when} {report.outcome}",
        "seconds": round(report.duration, 1),
        "measured": "; ".join(str(v) for k, v in report.user_properties if k == "measured"),
    }
    if report.failed:
        row["measured"] = f"{row['measured']} {reason_of(report)}".strip()
    elif report.skipped and isinstance(report.longrepr, tuple):
        row["measured"] = report.longrepr[2].removeprefix("Skipped: ")
    folder = Path(OUT)
    with (folder / "results.jsonl").open("a", encoding="utf-8") as file:
        print(json.dumps(row), file=file)
    write_table(folder)


def reason_of(report: pytest.TestReport) -> str:
    """The first line of an error."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash is not None else report.longrepr).strip()


def write_table(folder: Path) -> None:
    """Write all results so far as a table in Markdown."""
    texts = (folder / "results.jsonl").read_text("utf-8").splitlines()
    rows: list[dict[str, Any]] = [json.loads(text) for text in texts]
    machine = folder / "machine.txt"
    lines = ["# GPU tests", ""]
    lines += [machine.read_text("utf-8").strip(), ""] if machine.is_file() else []
    lines += ["| test | result | seconds | measured |", "| --- | --- | ---: | --- |"]
    for row in sorted(rows, key=lambda row: row["test"]):
        note = " ".join(row["measured"].replace("|", "\\|").split())[:CUT]
        lines.append(f"| `{row['test']}` | {row['result']} | {row['seconds']} | {note} |")
    (folder / "results.md").write_text("\n".join(lines) + "\n", "utf-8")
