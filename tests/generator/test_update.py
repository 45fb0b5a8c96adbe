"""A project that its user has edited takes in a newer template."""

import json
import shutil
from pathlib import Path

import pytest

from ..conftest import BakedProject, run
from ..support.training_runs import ON_CPU, is_same, train
from .test_creation import commit, git

ANSWERS = {"project_name": 'The "{{ 7 * 7 }}" {% nets %} \\ 😀', "project_slug": "nets"}


@pytest.fixture
def repository(template: Path, tmp_path: Path) -> Path:
    """A repository of the template to which a test may commit."""
    copy = tmp_path / "cookiecutter-lightning"
    shutil.copytree(template, copy)
    run("git", "init", "--quiet", "--initial-branch=main", cwd=copy)
    commit_all(copy)
    return copy


@pytest.fixture
def project(repository: Path, tmp_path: Path) -> Path:
    """A project made with cruft, with .cruft.json committed as the hook says."""
    answers = ("--extra-context", json.dumps(ANSWERS))
    done = run("cruft", "create", str(repository), "--no-input", *answers, cwd=tmp_path)
    folder = tmp_path / "nets"
    assert "git add .cruft.json && git commit" in done.stdout
    assert git(folder, "log", "--format=%s") == "Start from the template"
    assert git(folder, "status", "--porcelain") == "?? .cruft.json"
    commit_all(folder)
    return folder


def test_update_keeps_edits_and_brings_changes(repository: Path, project: Path) -> None:
    """Otherwise a project is on its own from its first day."""
    edit(project / "configs" / "train.yaml", "seed: 42", "seed: 7")
    (project / "notes.md").write_text("Mine.\n")
    (project / ".env.example").unlink()
    commit_all(project)
    (folder,) = repository.glob("{{=*")
    edit(folder / "configs" / "train.yaml", "test: true", "test: false")
    edit(folder / ".env.example", "# Copy to .env", "# Please copy to .env")
    (folder / "NEW.md").write_text("New in {{= cookiecutter.__markdown_project_name }}.\n")
    (folder / "runs.py").unlink()
    commit_all(repository)

    assert run("cruft", "check", cwd=project, check=False).returncode == 1
    done = run("cruft", "update", "--skip-apply-ask", cwd=project)

    assert "has been updated" in done.stdout
    assert "uv run train.py" not in done.stdout, "the hook has nothing to say during an update"
    train = (project / "configs" / "train.yaml").read_text()
    assert "seed: 7" in train
    assert "test: false" in train
    assert (project / "notes.md").read_text() == "Mine.\n"
    assert not (project / ".env.example").exists()
    assert (project / "NEW.md").read_text() == 'New in The "{{ 7 \\* 7 }}" {% nets %} \\\\ 😀.\n'
    assert not (project / "runs.py").exists()
    assert run("cruft", "check", cwd=project).returncode == 0
    changed = {line.split()[-1] for line in git(project, "status", "--porcelain").splitlines()}
    assert changed == {"configs/train.yaml", "NEW.md", "runs.py", ".cruft.json"}


def test_update_marks_a_conflict(repository: Path, project: Path) -> None:
    """Where both changed the same line, the user decides and nothing is lost."""
    edit(project / "configs" / "train.yaml", "seed: 42", "seed: 7")
    commit_all(project)
    (folder,) = repository.glob("{{=*")
    edit(folder / "configs" / "train.yaml", "seed: 42", "seed: 1")
    commit_all(repository)
    done = run("cruft", "update", "--skip-apply-ask", cwd=project)
    train = (project / "configs" / "train.yaml").read_text()
    assert "<<<<<<< ours\nseed: 7\n=======\nseed: 1\n>>>>>>> theirs\n" in train
    assert "UU configs/train.yaml" in git(project, "status", "--porcelain")
    assert "patched the library" not in done.stderr


# What users edit: a model, data, a callback, the training function and configs. The template
# changes the first line of each of them, the user the last.
EDITED = (
    "nets/models/classifier.py",
    "nets/data/digits.py",
    "nets/callbacks/loss_curves.py",
    "nets/training.py",
    "configs/optimizer/adam.yaml",
    "configs/model/mlp.yaml",
)


def release(repository: Path) -> None:
    """A new version of the template: every file of the library and some of the user's change."""
    (folder,) = repository.glob("{{=*")
    for path in (folder / "workbench").rglob("*.py"):
        text = path.read_text("utf-8")
        path.write_text(text.replace('"""', '"""New: ', 1) + "\n# New.\n", "utf-8")
    edit(folder / "workbench" / "__init__.py", "__version__ = ", "__version__ = '9.' + ")
    (folder / "workbench" / "added.py").write_text('"""New."""\n')
    for name in EDITED:
        path = folder / name.replace("nets/", "{{=cookiecutter.package_name}}/", 1)
        text = path.read_text("utf-8")
        new = text.replace('"""', '"""New: ', 1) if path.suffix == ".py" else f"# New.\n{text}"
        path.write_text(new, "utf-8")
    commit_all(repository)


def edit_everything(project: Path) -> None:
    """What the users of a project do: each file ends in a line of theirs."""
    for name in EDITED:
        path = project / name
        path.write_text(path.read_text("utf-8") + "\n# Mine.\n", "utf-8")
    commit_all(project)


def assert_updated(project: Path, repository: Path, *patched: str) -> None:
    """Check that the library is the template's, and that the user's edits are where they were."""
    (folder,) = repository.glob("{{=*")
    assert git(project, "diff", "--name-only", "--diff-filter=U") == ""
    assert not list(project.rglob("*.rej"))
    for part in ("workbench", "hydra_plugins"):
        files = {path.relative_to(folder) for path in (folder / part).rglob("*") if path.is_file()}
        own = {path.relative_to(project) for path in (project / part).rglob("*.*") if is_own(path)}
        assert own == files
        for file in files - set(map(Path, patched)):
            assert (project / file).read_bytes() == (folder / file).read_bytes()
    for name in EDITED:
        text = (project / name).read_text("utf-8")
        assert "New" in text.splitlines()[0]
        assert text.endswith("\n# Mine.\n")


def is_own(path: Path) -> bool:
    """Tell files from what Python compiled."""
    return path.is_file() and path.parent.name != "__pycache__"


def test_update_replaces_the_library(repository: Path, project: Path) -> None:
    """Nobody edits the library, so nobody has to merge it, whatever else the user edited."""
    edit_everything(project)
    release(repository)
    done = run("cruft", "update", "--skip-apply-ask", cwd=project)
    assert "patched the library" not in done.stdout + done.stderr
    assert "conflict" not in done.stdout + done.stderr
    assert_updated(project, repository)


def test_update_names_a_patched_library_and_merges_it(repository: Path, project: Path) -> None:
    """A patch that merges without a conflict would otherwise be forgotten, and then break."""
    edit_everything(project)
    edit(project / "workbench" / "errors.py", "import difflib\n", "import difflib  # mine\n")
    commit_all(project)
    release(repository)
    done = run("cruft", "update", "--skip-apply-ask", cwd=project)
    assert "This project has patched the library: workbench/errors.py\n" in done.stderr
    assert_updated(project, repository, "workbench/errors.py")
    errors = (project / "workbench" / "errors.py").read_text("utf-8")
    assert "import difflib  # mine\n" in errors
    assert errors.startswith('"""New: ')


def test_update_keeps_both_sides_of_a_conflict_in_the_library(
    repository: Path, project: Path
) -> None:
    """Also where git cannot merge: when the template has removed a file that the user patched."""
    patched = project / "workbench" / "errors.py"
    edit(patched, '"""', '"""Mine: ')
    commit_all(project)
    release(repository)
    run("cruft", "update", "--skip-apply-ask", cwd=project)
    text = patched.read_text("utf-8")
    assert text.startswith('<<<<<<< ours\n"""Mine: ')
    assert "\n>>>>>>> theirs\n" in text
    assert '=======\n"""New: ' in text
    assert git(project, "diff", "--name-only", "--diff-filter=U") == "workbench/errors.py"
    commit_all(project)
    (folder,) = repository.glob("{{=*")
    (folder / "workbench" / "errors.py").unlink()
    edit(folder / "configs" / "train.yaml", "seed: 42", "seed: 1")
    commit_all(repository)
    done = run("cruft", "update", "--skip-apply-ask", cwd=project)
    assert "This project has patched the library: workbench/errors.py\n" in done.stderr
    assert patched.read_text("utf-8") == text
    assert "seed: 1\n" in (project / "configs" / "train.yaml").read_text("utf-8")


def test_update_leaves_a_removed_library_removed(repository: Path, project: Path) -> None:
    """A project that uses the installed library gets no new files of it."""
    shutil.rmtree(project / "workbench")
    shutil.rmtree(project / "hydra_plugins")
    edit_everything(project)
    release(repository)
    done = run("cruft", "update", "--skip-apply-ask", cwd=project)
    assert "patched the library" not in done.stderr
    assert not (project / "workbench").exists()
    assert not (project / "hydra_plugins").exists()


@pytest.mark.slow
def test_updated_project_passes_its_tests_and_resumes_an_old_run(
    repository: Path, project: Path, tmp_path: Path
) -> None:
    """An update in the middle of an experiment must not change what comes out of it."""
    edit_everything(project)
    old = BakedProject(project)
    options = ("experiment=digits", "scheduler=constant", "trainer=cpu", "logger=csv")
    place = tmp_path / "runs"
    whole = train(old, place / "whole", *options, "trainer.max_epochs=3")
    begun = train(old, place / "begun", *options, "trainer.max_epochs=2")
    release(repository)
    run("cruft", "update", "--skip-apply-ask", cwd=project)
    assert_updated(project, repository)
    commit_all(project)
    last = f"ckpt_path={begun.checkpoint('last')}"
    resumed = train(old, place / "begun", *options, "trainer.max_epochs=3", last)
    assert resumed.saved("last")["epoch"] == 2
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert is_same(resumed.saved("last")[part], whole.saved("last")[part])
    assert resumed.metrics == whole.metrics
    old.run("python", "-m", "pytest", "-q", "-x", check=True, **ON_CPU)


def test_update_can_change_an_answer(project: Path) -> None:
    """Changing one's mind about the logger or the CI must not need a new project."""
    answers = ("--variables-to-update", '{"ci": "gitlab", "logger": "csv"}')
    run("cruft", "update", "--skip-apply-ask", *answers, cwd=project)
    assert (project / ".gitlab-ci.yml").is_file()
    assert not (project / ".github" / "workflows" / "tests.yml").exists()
    assert "logger: csv" in (project / "configs" / "train.yaml").read_text()


def test_unchanged_project_differs_in_nothing(project: Path) -> None:
    """`cruft diff` shows the owner's edits; noise of ours would hide them."""
    assert run("cruft", "diff", "--exit-code", cwd=project).stdout == ""


def test_linked_project_can_be_updated(repository: Path, tmp_path: Path) -> None:
    """People start with cookiecutter and learn of cruft later."""
    run("cookiecutter", str(repository), "--no-input", cwd=tmp_path)
    project = tmp_path / "my-project"
    run("cruft", "link", str(repository), "--no-input", cwd=project)
    commit_all(project)
    (folder,) = repository.glob("{{=*")
    edit(folder / "configs" / "train.yaml", "seed: 42", "seed: 1")
    commit_all(repository)
    run("cruft", "update", "--skip-apply-ask", cwd=project)
    assert "seed: 1" in (project / "configs" / "train.yaml").read_text()


def edit(path: Path, old: str, new: str) -> None:
    """Replace a text that must be there."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def commit_all(repository: Path) -> None:
    """Commit everything."""
    run("git", "add", "--all", cwd=repository)
    commit(repository)
