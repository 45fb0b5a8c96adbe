"""How long cookiecutter takes to write a project: ours, and one from the smallest template.

Whole commands with the default answers, by turns; the smallest template has one question and one
file, so what it takes is cookiecutter itself. A folder that is named, such as a clone of a template
that is copied and not baked, is copied in each round: `make bench SUBJECTS=bake:../some-template`.
A number says how often.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .common import Took, copy_template, environment, print_table, ratios, spread, time_command

ROUNDS = 7
OURS, SMALLEST = "ours", "the smallest template"


def main(words: Sequence[str]) -> None:
    """Measure and print."""
    rounds = next((int(word) for word in words if word.isdigit()), ROUNDS)
    copied = [Path(word).resolve() for word in words if not word.isdigit()]
    for folder in copied:
        if not folder.is_dir():
            sys.exit(f"error: there is no folder {folder} to copy.")
    print(environment(), flush=True)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        templates = {OURS: place / "ours", SMALLEST: place / "smallest"}
        copy_template(templates[OURS])
        write_smallest_template(templates[SMALLEST])
        found = measure(templates, copied, place, rounds)
    rows = [
        [
            name,
            spread([took.wall for took in tooks], 2),
            spread([took.cpu for took in tooks], 2),
            spread(ratios(tooks, found[SMALLEST]), 2),
        ]
        for name, tooks in found.items()
    ]
    header = ["template", "seconds", "CPU", f"to {SMALLEST}"]
    print_table(f"A project is written, {rounds} rounds", header, rows)
    if not copied:
        print("\nNo template that is copied: left out, none was named (bake:FOLDER).")


def write_smallest_template(folder: Path) -> None:
    """One question, one file."""
    project = folder / "{{cookiecutter.name}}"
    project.mkdir(parents=True)
    (folder / "cookiecutter.json").write_text(json.dumps({"name": "smallest"}), "utf-8")
    (project / "README.md").write_text("# {{cookiecutter.name}}\n", "utf-8")


def measure(
    templates: dict[str, Path], copied: Sequence[Path], place: Path, rounds: int
) -> dict[str, list[Took]]:
    """Seconds of each template and each copy."""
    found: dict[str, list[Took]] = {}
    # What cookiecutter keeps in the user's home is not to stay there.
    home = {"HOME": str(place / "home")}
    (place / "home").mkdir()
    for _ in range(rounds):
        for name, template in templates.items():
            with tempfile.TemporaryDirectory(dir=place) as target:
                words = (str(template), "--no-input", "--output-dir", target)
                took = time_command((sys.executable, "-m", "cookiecutter", *words), place, home)
            found.setdefault(name, []).append(took)
        for folder in copied:
            with tempfile.TemporaryDirectory(dir=place) as target:
                took = time_command(("cp", "-R", str(folder), target), place, home)
            found.setdefault(f"a copy of {folder.name}", []).append(took)
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
