"""Writes the schemas in the template's `configs/.schemas/`, as a new project would."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cookiecutter.main import cookiecutter

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = Path("configs", ".schemas")


def main() -> None:
    """Generate a project, write its schemas, and copy them."""
    with tempfile.TemporaryDirectory() as folder:
        answers = {"git": "no"}
        project = cookiecutter(str(ROOT), no_input=True, output_dir=folder, extra_context=answers)
        command = [sys.executable, "-m", "workbench.schemas"]
        subprocess.run(command, cwd=project, check=True)
        (template,) = ROOT.glob("{{*")
        shutil.rmtree(template / SCHEMAS, ignore_errors=True)
        shutil.copytree(Path(project, SCHEMAS), template / SCHEMAS)


if __name__ == "__main__":
    main()
