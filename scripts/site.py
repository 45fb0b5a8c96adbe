"""Builds the website in build/site from README.md, docs/ and the docstrings of the library.

The pages stay readable as plain Markdown on GitHub. For the website they are copied, links to files
that are not pages lead to the repository, and each part of `workbench` gets a reference page.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "site"
PAGES = FOLDER / "docs"
LIBRARY = FOLDER / "library" / "workbench"
# The order of the pages; other pages follow, in alphabetical order.
SECTIONS = {
    "Guide": ["features.md", "your-own-model.md", "loggers.md", "updating.md", "gpu.md"],
    "Sweeps": ["sweeps.md", "clusters.md", "any-hydra-app.md", "wandb-sweeps.md"],
    "Recipes": ["recipes/README.md"],
    "Project": ["design.md", "benchmarks.md", "comparison.md", "CONTRIBUTING.md", "CHANGELOG.md"],
}
# An inline link or image of Markdown, without its text.
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(#[^)\s]+)?\)")

CONFIG = """\
[project]
site_name = "cookiecutter-lightning"
site_description = "A cookiecutter template for deep learning with PyTorch Lightning and Hydra"
site_url = "{site_url}"
repo_url = "{repo_url}"
docs_dir = "docs"
site_dir = "html"
nav = [
{nav}
]

[project.theme]
features = [
  "content.code.copy", "navigation.footer", "navigation.sections", "navigation.top",
  "navigation.tracking", "search.highlight", "toc.follow",
]
font = false

[[project.theme.palette]]
media = "(prefers-color-scheme)"
toggle.icon = "lucide/sun-moon"
toggle.name = "Switch to light mode"

[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"
toggle.icon = "lucide/sun"
toggle.name = "Switch to dark mode"

[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
toggle.icon = "lucide/moon"
toggle.name = "Switch to system preference"

[project.plugins.mkdocstrings.handlers.python]
paths = ["{library}"]

[project.plugins.mkdocstrings.handlers.python.options]
docstring_style = "google"
heading_level = 2
members_order = "source"
merge_init_into_class = true
show_root_heading = false
show_source = false
show_submodules = true
separate_signature = true
show_signature_annotations = true

[project.plugins.mkdocstrings.handlers.python.options.docstring_options]
# The arguments of a class may be those of its base class.
warn_unknown_params = false
warn_missing_types = false
"""


def main() -> None:
    """Write the pages, and build the website; every warning is an error."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    repository = repository_url()
    sources = list(source_pages())
    for source in sources:
        target = PAGES / target_of(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(relink(source.read_text("utf-8"), source, sources, repository), "utf-8")
    shutil.copytree(ROOT / "docs" / "images", PAGES / "images")
    copy_library()
    references = list(write_references())
    config = CONFIG.format(
        site_url=os.environ.get("SITE_URL", "https://example.org/"),
        repo_url=repository or "",
        nav=",\n".join(navigation(sources, references)),
        library=LIBRARY.parent.as_posix(),
    )
    (FOLDER / "zensical.toml").write_text(config, "utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(command, cwd=FOLDER, check=False)
    sys.exit(done.returncode)


def repository_url() -> str | None:
    """Where the repository is on GitHub; None if it is not known."""
    if "GITHUB_REPOSITORY" in os.environ:
        return f"{os.environ['GITHUB_SERVER_URL']}/{os.environ['GITHUB_REPOSITORY']}"
    return None


def source_pages() -> Iterator[Path]:
    """The Markdown files that become pages."""
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        yield ROOT / name
    yield from sorted((ROOT / "docs").rglob("*.md"))


def target_of(source: Path) -> Path:
    """The path of a page in the website."""
    if source.parent == ROOT:
        return Path("index.md" if source.name == "README.md" else source.name)
    path = source.relative_to(ROOT / "docs")
    return path.with_name("index.md") if path.name == "README.md" else path


def relink(text: str, source: Path, sources: list[Path], repository: str | None) -> str:
    """A page whose links lead to other pages of the website, or else to the repository.

    Raises:
        SystemExit: a link leads to no file.
    """

    def replace(match: re.Match[str]) -> str:
        linked = Path(os.path.normpath(source.parent / match[1]))
        if not linked.exists():
            sys.exit(f"{source.relative_to(ROOT)} links to {match[1]}, which does not exist.")
        if linked in sources or linked.is_relative_to(ROOT / "docs" / "images"):
            inside = linked.is_relative_to(ROOT / "docs" / "images")
            page = linked.relative_to(ROOT / "docs") if inside else target_of(linked)
            start = (PAGES / target_of(source)).parent
            return f"]({os.path.relpath(PAGES / page, start)}{match[2] or ''})"
        path = linked.relative_to(ROOT).as_posix()
        kind = "tree" if linked.is_dir() else "blob"
        return f"]({repository or 'https://example.org'}/{kind}/main/{path})"

    return LINK.sub(replace, text)


def copy_library() -> None:
    """Copy the library, as the reference cannot read folders without `__init__.py`."""
    source = next(ROOT.glob("{{*")) / "workbench"
    shutil.copytree(source, LIBRARY, ignore=shutil.ignore_patterns("__pycache__"))
    for path in LIBRARY.rglob("*.py"):
        (path.parent / "__init__.py").touch()


def write_references() -> Iterator[tuple[str, str]]:
    """Write a page for each module and package of the library; their names and paths."""
    (PAGES / "reference").mkdir()
    for path in sorted(LIBRARY.iterdir()):
        name = path.stem
        is_module = path.suffix == ".py" and name != "__init__"
        if name.startswith("_") or not (is_module or any(path.glob("*.py"))):
            continue
        page = f"reference/{name}.md"
        (PAGES / page).write_text(f"# workbench.{name}\n\n::: workbench.{name}\n", "utf-8")
        yield f"workbench.{name}", page


def navigation(sources: list[Path], references: list[tuple[str, str]]) -> Iterator[str]:
    """The lines of the navigation, which contains every page."""
    rest = {target_of(source).as_posix() for source in sources} - {"index.md"}
    yield '  { "Home" = "index.md" }'
    for section, names in SECTIONS.items():
        pages = [name.replace("README.md", "index.md") for name in names]
        known = {page for others in SECTIONS.values() for page in others}
        if section in ("Guide", "Recipes"):
            is_recipe = section == "Recipes"
            unlisted = rest - known - {"recipes/index.md"}
            pages += sorted(page for page in unlisted if page.startswith("recipes/") == is_recipe)
        entries = ", ".join(f'"{page}"' for page in pages if page in rest)
        yield f'  {{ "{section}" = [{entries}] }}'
    entries = ", ".join(f'{{ "{name}" = "{page}" }}' for name, page in references)
    yield f'  {{ "Reference" = [{entries}] }}'


if __name__ == "__main__":
    main()
