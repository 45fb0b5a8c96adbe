"""Runs the subjects that are named, as in `python -m benchmarks aids sweeps:pruning`.

Without a name it measures what takes less than 20 minutes on two cores.
"""

import subprocess
import sys
from pathlib import Path

SHARED = (
    "__init__",
    "__main__",
    "common",
    "images",
    "lcbench",
    "regret_plot",
    "simulation",
    "turns",
)
# Left out: the callbacks one by one and on images (3 minutes), what pruning saves (5), and Ray (5).
WITHOUT_A_NAME = (
    "epochs",
    "start",
    "sweeps:engines",
    "sweeps:steady",
    "sweeps:size",
    "bake",
    "aids:digits",
    "gpu",
)


def main(names: list[str]) -> None:
    """Run each subject in a process of its own: none warms up another, or takes it down."""
    folder = Path(__file__).resolve().parent
    subjects = sorted(path.stem for path in folder.glob("*.py") if path.stem not in SHARED)
    unknown = sorted({name.partition(":")[0] for name in names} - set(subjects))
    if unknown:
        sys.exit(f"error: no benchmark {', '.join(unknown)}; there are {', '.join(subjects)}.")
    failed = []
    for subject in names or WITHOUT_A_NAME:
        # What follows a colon is for the subject: one of its parts.
        module, *part = subject.split(":")
        command = (sys.executable, "-m", f"benchmarks.{module}", *part)
        if subprocess.run(command, cwd=folder.parent, check=False).returncode:
            failed.append(subject)
    if failed:
        sys.exit(f"error: not measured, for the reason above: {', '.join(failed)}.")


if __name__ == "__main__":
    main(sys.argv[1:])
