"""The recipes: every page is typed into a project as it stands, and has to work at the first start.

Only the length of the trainings differs: their configs ask for one epoch of a few batches.
"""

import csv
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from ..conftest import ROOT, Bake, BakedProject
from ..support.doc_code import Block, read_blocks
from ..support.labelled_texts import write_reviews
from ..support.own_data import write_book, write_fruit
from ..support.training_runs import is_same, script

PAGES = sorted((ROOT / "docs" / "recipes").glob("*.md"))
SHORTER = {
    r"max_epochs: \d+": "max_epochs: 1",
    "limit_train_batches: null": "limit_train_batches: 4",
    r"block_size: \d+": "block_size: 16",
    r"n_embd: \d+": "n_embd: 16",
    # Tens of thousands of characters are held out.
    r"max_length: \d+": "max_length: 64",
    "max_epochs: 1 # less than .*": "max_epochs: 1\n  limit_val_batches: 4",
}
TASKS = 8
LAST = "checkpoints/last.ckpt"


@dataclass(frozen=True)
class Cook:
    """A project with the files of all recipes, whose commands have been run.

    Attributes:
        project: the project.
        answers: what the commands left, in their order; sweeps and folds are missing.
    """

    project: BakedProject
    answers: list[dict[str, Any]]

    def run_of(self, name: str) -> Path:
        """The folder of the newest run of this name."""
        return max((self.project.root / "logs" / "train" / "runs").glob(f"*_{name}_*"))

    def manifest(self, name: str) -> dict[str, Any]:
        """What `run.json` of that run holds."""
        content: dict[str, Any] = json.loads((self.run_of(name) / "run.json").read_text("utf-8"))
        return content

    def rows(self, file: str) -> list[dict[str, str]]:
        """The rows of a CSV file in the project."""
        with (self.project.root / file).open(newline="", encoding="utf-8") as table:
            return list(csv.DictReader(table))

    def saved(self, path: Path) -> dict[str, Any]:
        """The content of a checkpoint."""
        content: dict[str, Any] = torch.load(path, weights_only=True)
        return content


def blocks() -> Iterator[Block]:
    """All blocks of all recipes."""
    for page in PAGES:
        yield from read_blocks(page)


def commands() -> list[str]:
    """All commands, in the order of the pages."""
    lines = (line for b in blocks() if b.language == "bash" for line in b.code.splitlines())
    return [line for line in lines if line]


def takes_minutes(command: str) -> bool:
    """Whether a command starts several trainings."""
    return " -m " in command or ("data.folds=" in command and "data.fold=" not in command)


@pytest.fixture(scope="session")
def project(bake: Bake) -> BakedProject:
    """A project with the files of the recipes, all of them new, and the data of its owner."""
    baked = bake(description="With the recipes")
    for block in blocks():
        if block.file:
            file = baked.root / block.file
            assert not file.exists(), file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.code, "utf-8")
    for config in (baked.root / "configs").rglob("*.yaml"):
        text = config.read_text("utf-8")
        for long, short in SHORTER.items():
            text = re.sub(long, short, text)
        config.write_text(text, "utf-8")
    write_fruit(baked.root / "images", per_class=12)
    write_book(baked.root / "book.txt", words=1000)
    write_reviews(baked.root / "reviews.csv")
    with (baked.root / "table.csv").open("w", newline="", encoding="utf-8") as new:
        table = csv.writer(new)
        table.writerow(["patient", "length", "species"])
        table.writerows([f"p{i % 20}", i / 7, "cat" if i % 3 else "dog"] for i in range(120))
    return baked


def run_commands(project: BakedProject, lines: list[str]) -> list[dict[str, Any]]:
    """The exit code and the output of each command."""
    return [vars(script(project, *shlex.split(line)[1:], check=False)) for line in lines]


def failed(answers: list[dict[str, Any]]) -> dict[str, str]:
    """The ends of the messages of the commands that failed."""
    return {str(a["args"]): a["stderr"][-400:] for a in answers if a["returncode"] != 0}


@pytest.fixture(scope="module")
def cook(project: BakedProject) -> Cook:
    """Everything but sweeps and folds."""
    lines = [line for line in commands() if not takes_minutes(line)]
    for line in [line for line in lines if line.startswith("python -c")]:
        project.run("bash", "-c", line)
        lines.remove(line)
    return Cook(project, run_commands(project, lines))


def test_every_task_has_a_recipe() -> None:
    """And the index knows them all."""
    index = (ROOT / "docs" / "recipes" / "README.md").read_text("utf-8")
    names = {page.name for page in PAGES} - {"README.md"}
    assert len(names) == TASKS
    assert set(re.findall(r"\(([\w-]+\.md)\)", index)) == names


@pytest.mark.slow
def test_commands_work_at_the_first_start(cook: Cook) -> None:
    """A recipe that fails is worse than none."""
    assert failed(cook.answers) == {}
    for folder in (cook.project.root / "logs" / "train" / "runs").iterdir():
        assert json.loads((folder / "run.json").read_text("utf-8"))["status"] == "finished"


@pytest.mark.slow
def test_sweeps_and_folds_work_at_the_first_start(cook: Cook) -> None:
    lines = [line for line in commands() if takes_minutes(line)]
    assert failed(run_commands(cook.project, lines)) == {}
    manifest = cook.manifest("diabetes")
    folds = [fold["metrics"]["test"]["test/loss"] for fold in manifest["folds"]]
    assert len(folds) == 5
    assert manifest["metrics"]["test"]["test/loss"] == pytest.approx(sum(folds) / 5)


def test_code_is_clean(project: BakedProject) -> None:
    """Readers copy it, with its faults."""
    for check in (("check",), ("format", "--check")):
        files = [block.file for block in blocks() if block.file.endswith(".py")]
        project.run("ruff", *check, *files)


@pytest.mark.slow
def test_types_are_right(project: BakedProject) -> None:
    project.run("mypy", ".")


# What each recipe promises.


@pytest.mark.slow
def test_gpt_continues_the_prompt(cook: Cook) -> None:
    prompt = "The for statement"
    for file, length in (("continued.txt", 500), ("greedy.txt", 200)):
        text = cook.project.read(file)
        assert text.startswith(prompt)
        assert len(text) == len(prompt) + length
    rows = cook.rows("bits.csv")
    assert len(rows) > 40_000
    assert all(len(row["token"]) == 1 and float(row["bits"]) > 0 for row in rows)
    (samples,) = cook.project.root.glob("logs/evaluate/runs/*/texts/samples.txt")
    assert samples.read_text("utf-8").count("written by the model") == 3


@pytest.mark.slow
def test_fine_tuning_starts_from_the_pretrained_encoder(cook: Cook) -> None:
    log = (cook.run_of("digits_fine_tuned") / "run.log").read_text("utf-8")
    # Two blocks: a convolution and the five values of a batch norm each. The head has two more.
    assert "weights_from: 12 of 14 weights loaded" in log
    saved = cook.saved(cook.run_of("digits_fine_tuned") / "checkpoints" / "last.ckpt")
    head, encoder = saved["optimizer_states"][0]["param_groups"]
    assert (head["initial_lr"], encoder["initial_lr"]) == (1e-2, 1e-3)
    assert "weights loaded from" not in (cook.run_of("from_scratch") / "run.log").read_text("utf-8")
    # Of MobileNet everything fits.
    assert "244 of 244 weights loaded from logs/mobilenet/checkpoints/best.ckpt" in (
        cook.run_of("image_folder") / "run.log"
    ).read_text("utf-8")


@pytest.mark.slow
def test_a_callback_draws_after_each_validation(cook: Cook) -> None:
    images = cook.run_of("digits") / "figures" / "images"
    assert [path.name for path in images.iterdir()] == ["epoch_000.png"]


@pytest.mark.slow
def test_labels_are_those_of_at_least_one_half(cook: Cook) -> None:
    rows = cook.rows("labels_predicted.csv")
    assert len(rows) == 600
    for row in rows:
        likely = [name for name in ("red", "green", "blue") if float(row[f"p({name})"]) >= 0.5]
        assert row["prediction"] == ";".join(likely)
    metrics = cook.manifest("labels")["metrics"]["test"]
    assert {"test/auroc", "test/f1", "test/precision_blue"} <= metrics.keys()


@pytest.mark.slow
def test_quantiles_are_in_order(cook: Cook) -> None:
    rows = cook.rows("ranges.csv")
    # A fifth of 442 patients.
    assert len(rows) == 88
    for row in rows:
        low, median, high = (float(row[f"progression_q{q}"]) for q in (0.1, 0.5, 0.9))
        assert low <= median <= high


@pytest.mark.slow
def test_gan_generates_images_and_is_evaluated_as_tested(cook: Cook) -> None:
    batches = torch.load(cook.project.root / "images.pt", weights_only=True)
    assert sum(map(len, batches)) == 360 - 1  # a fifth of the digits
    assert batches[0].shape[1:] == (1, 8, 8)
    metrics = cook.manifest("digits_gan")["metrics"]["test"]
    # The page's own evaluation of that run.
    evaluated = [
        json.loads(path.read_text("utf-8"))["metrics"]["test"]
        for path in (cook.project.root / "logs" / "evaluate").rglob("metrics.json")
    ]
    assert metrics in [pytest.approx(found, abs=1e-5) for found in evaluated]


@pytest.mark.slow
def test_gan_resumes_exactly(cook: Cook, tmp_path: Path) -> None:
    """Both optimizers have to come back."""
    gan = "python train.py experiment=digits_gan logger=none test=false"
    longer = f"{gan} trainer.max_epochs=2 hydra.run.dir="
    lines = [
        f"{longer}{tmp_path}/whole",
        f"{gan} hydra.run.dir={tmp_path}/part",
        f"{longer}{tmp_path}/on ckpt_path={tmp_path}/part/{LAST}",
    ]
    assert failed(run_commands(cook.project, lines)) == {}
    whole, on = (cook.saved(tmp_path / name / LAST) for name in ("whole", "on"))
    assert len(on["optimizer_states"]) == 2
    # Four batches an epoch, of two steps each.
    assert on["global_step"] == 2 * 4 * 2
    assert is_same(whole["state_dict"], on["state_dict"])
    assert is_same(whole["optimizer_states"], on["optimizer_states"])


@pytest.mark.slow
def test_lines_are_predicted_with_their_text(cook: Cook) -> None:
    from pydoc_data.topics import topics

    rows = cook.rows("lines.csv")
    chapters = ("debugger", "formatstrings", "import", "typesmapping")
    lines = [x for c in chapters for x in topics[c].splitlines() if len(x.split()) > 3]
    assert len(rows) == len(lines) - len(lines) * 85 // 100
    assert {row["text"] for row in rows} <= {line.strip() for line in lines}
    for row in rows:
        assert 0.25 <= float(row["probability"]) <= 1
        assert row["label"] in "0123"
    assert (cook.run_of("help_lines") / "figures" / "activations.png").is_file()
