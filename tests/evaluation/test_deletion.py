"""Export, the server, SimCLR and each analysis can be deleted, and the rest of a project works."""

import re
from pathlib import Path

import pytest

from ..conftest import BakedProject
from ..support.deletion import check_rest, without
from ..support.template_package import PACKAGE
from ..support.training_runs import TrainedRun, script

# By option: what to delete, and the words with which another file would depend on it.
OPTIONS = {
    "export": (("workbench/exporting.py", "export.py", "configs/export.yaml"), r"\bexporting\b"),
    "server": (("workbench/serving.py", "serve.py", "configs/serve.yaml"), r"\bserving\b"),
    "SimCLR": (
        (
            "*/models/simclr",
            "configs/model/simclr.yaml",
            "configs/experiment/digits_simclr.yaml",
            "tests/test_simclr.py",
        ),
        r"\bsimclr\b",
    ),
} | {
    path.stem: (
        (f"*/analysis/{path.name}", f"configs/analyses/{path.stem}.yaml"),
        rf"\banalysis\.{path.stem}\b|from \.{path.stem}\b",
    )
    for path in sorted((PACKAGE / "analysis").glob("[a-z]*.py"))
}


@pytest.mark.parametrize("option", OPTIONS)
def test_nothing_depends_on_an_option(demo: BakedProject, option: str) -> None:
    """So each can be deleted alone, although the test below deletes them together."""
    paths, words = OPTIONS[option]
    found = {path for pattern in paths for path in demo.root.glob(pattern)}
    assert len(found) == len(paths)
    own = found | {inside for path in found if path.is_dir() for inside in path.rglob("*")}
    others = [
        path
        for folder in (*demo.root.glob("*/training.py"), demo.root / "workbench" / "__init__.py")
        for path in folder.parent.rglob("*.py")
    ]
    for path in {*others, *demo.root.glob("*.py"), *demo.root.glob("configs/**/*.yaml")} - own:
        assert not re.search(words, path.read_text("utf-8")), path


def test_rest_works_without_the_options(
    demo: BakedProject, digits: TrainedRun, tmp_path: Path
) -> None:
    """All but one analysis is deleted, as its owner would: the files, and the name in a list."""
    deleted = [option for option in OPTIONS if option != "confusion"]
    rest = without(demo, tmp_path, *(path for option in deleted for path in OPTIONS[option][0]))
    defaults = rest.root / "configs" / "evaluate.yaml"
    text, count = re.subn(r"- analyses: .*", "- analyses: [confusion]", defaults.read_text("utf-8"))
    assert count == 1
    defaults.write_text(text, "utf-8")
    check_rest(rest)
    place = (f"ckpt_path={digits.checkpoint()}", f"hydra.run.dir={tmp_path / 'out'}")
    script(rest, "evaluate.py", *place)
    assert [path.name for path in (tmp_path / "out").glob("*/*")] == ["confusion.png"]
    for command, answer in (
        (("evaluate.py", *place, "analyses=[pca]"), "There is no analyses=pca; "),
        (("train.py", "model=simclr"), "There is no model=simclr; "),
    ):
        done = script(rest, *command, check=False)
        assert done.stderr.startswith(f"error: {answer}")
