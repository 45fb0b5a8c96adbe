"""Run the benchmarks at their smallest size in a copy of a project, with the imports done once.

    python small_benchmarks.py project

The commands of `start` run in forks of another process, as in `warm_server.py`.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import bake, epochs, gpu, scale, start, sweeps  # noqa: E402
from benchmarks.common import Project, Took  # noqa: E402
from benchmarks.on_gpu import packing  # noqa: E402
from tests.support.warm_client import WarmServer  # noqa: E402
from tests.support.warm_server import HEAVY  # noqa: E402


def main(root: Path) -> None:
    """Print all tables."""
    project = Project(root)
    modules = (*HEAVY, "benchmarks.contenders.usual_template")
    server = WarmServer(os.environ | {"PYTHONPATH": str(ROOT)}, modules)

    @contextmanager
    def the_project(hides_gpus: bool = True) -> Iterator[Project]:
        yield project

    def in_a_fork(
        command: Sequence[str], folder: Path, variables: Mapping[str, str], fails: bool = False
    ) -> Took:
        done = server.run(tuple(command[1:]), folder, os.environ | variables)
        if bool(done.returncode) is not fails:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
        return Took(1.0, 1.0)

    for module in (epochs, gpu, scale, start):
        vars(module).update(baked_project=the_project)
    for module in (packing, start):
        vars(module).update(time_command=in_a_fork)
    epochs.main(["tiny"])
    gpu.main(["tiny", "cnn", "syncs", "packing"])
    start.main(["help", "step", "1"])
    sweeps.size(project, ["10"])
    scale.main(["journal", "10", "trials=20"])
    bake.main(["1"])
    server.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
