"""Whatever people answer, they get one sentence or a project that says what they said.

Most examples take a short cut: cookiecutter's own questions and rendering, the hook's own text,
but no new process, and only the files that hold answers. Some take the whole way.
"""

import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from cookiecutter.generate import generate_context, generate_files
from cookiecutter.prompt import prompt_for_config
from cookiecutter.utils import create_env_with_context
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ..conftest import Bake, BakedProject, run
from .test_generator import parse

Answers = dict[str, str]

# The same examples in every run; a failing one is short enough as it is.
FIXED = settings(
    deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate]
)

# What quoting, templates, shells, comments, markup and config references stumble over.
TRAPS = [
    *("'", '"', '"""', "'''", "\\", "\\n", "\\u00e9", "\\N{DASH}", "`", "$", "%", "%s", "{0}"),
    *("{{", "}}", "{%", "%}", "{#", "#}", "{{ 7 * 7 }}", "{% raw %}", "{{ cookiecutter }}"),
    *("#", "# ", ": ", "- ", "---", "...", "&", "*", "!", "|", ">", "@", "[x]", "{y}", ",", "~"),
    *("${HOME}", "${name}", "$(touch x)", "`touch x`", "; exit 1", "&& false", "../..", "/etc"),
    *("<!--", "-->", "<b>", "&lt;", "[a](b)", "![a](b)", "**", "__", "1. ", "| a |", "=="),
    *("null", "true", "1e3", "0x1f", "2020-01-01", "NaN", "yes", "name", "Größe", "Zoë", "İ"),
    *(
        "日本語",
        "שלום",
        "مرحبا",
        "हिन्दी",
        "😀",
        "👩‍👩‍👧",
        "🏳️‍🌈",
        "e\u0301",
        "\u00a0x",
        "\u200f",
        "\ufeff",
    ),
]
CONTROLS = [
    "\n",
    "\r",
    "\r\n",
    "\t",
    "\0",
    "\x1b[31m",
    "\x7f",
    "\x85",
    "\u2028",
    "\u2029",
    "\ufffe",
]
BAD_SLUGS = [
    *("a/b", "a/b/c", "../up", "..", ".", "/tmp/refused-slug", "a\\b", "~", "-x", "x-", "a--b"),
    *("A", "a_b", "a b", "größe", "a.b", "x" * 51, "x" * 300, "torch", "scikit-learn"),
    *("", "/", "//", "a//b", "a/", "../../up", "refused/", "pytorch-lightning"),
    *("workbench", "lightning-workbench"),
]
BAD_PACKAGES = [
    *("class", "match", "None", "email", "test", "types", "torch", "hydra", "sklearn", "tests"),
    *("configs", "data", "train", "runs", "workbench"),
    *("a-b", "a.b", "a/b", "../up", "1a", "_a", "größe", "A"),
    *("x" * 51, "__init__", "a b"),
]
BAD_EMAILS = ["ada", "@", "a@", "@b", "a@@b", "a b@c", "a@b, c@d", "Ada <a@b>", "ä@b", "a..b@c"]

ordinary_text = st.text(st.characters(categories=["L", "N", "P", "S", "M"]), max_size=8)
legal_text = (
    st.lists(st.sampled_from(TRAPS) | ordinary_text, min_size=1, max_size=5)
    .map(lambda pieces: " ".join(pieces).strip())
    .filter(lambda text: text and not re.search("[{][{%#]=|[\ufffe\uffff]", text))
)
broken_text = st.tuples(legal_text, st.sampled_from(CONTROLS), legal_text).map("".join)
legal_slug = st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,8}){1,3}", fullmatch=True)
legal_package = st.from_regex(r"[a-z][a-z0-9]{0,8}_[a-z0-9_]{1,8}x", fullmatch=True)
legal_email = st.sampled_from(["", "ada@example.org", "o'neil+x@a-b.example", "a&b#c@localhost"])

LEGAL = {
    "project_name": legal_text,
    "project_slug": legal_slug | st.sampled_from(["123", "null", "1e3", "2020-01-01", "0x1f"]),
    "package_name": legal_package | st.sampled_from(["null", "true", "yes", "nan", "e1"]),
    "description": legal_text | st.just(""),
    "author_name": legal_text,
    "author_email": legal_email,
}
ILLEGAL = {
    "project_name": broken_text | st.sampled_from(["", " ", "x ", " x"]),
    "project_slug": st.sampled_from(BAD_SLUGS) | broken_text,
    "package_name": st.sampled_from(BAD_PACKAGES) | broken_text,
    "description": broken_text,
    "author_name": broken_text | st.just(""),
    "author_email": st.sampled_from(BAD_EMAILS) | broken_text,
}


@st.composite
def hostile_answers(draw: st.DrawFn) -> tuple[Answers, bool]:
    """Draw answers to all free questions, and tell whether they should be taken."""
    answers = {name: draw(strategy) for name, strategy in LEGAL.items()}
    spoilt = draw(st.none() | st.sampled_from(sorted(ILLEGAL)))
    if spoilt:
        answers[spoilt] = draw(ILLEGAL[spoilt])
    return answers, spoilt is None


@pytest.fixture(scope="module")
def files_with_answers(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template without the files that are the same in every project."""
    copy = tmp_path_factory.mktemp("thin") / "template"
    shutil.copytree(template, copy)
    (folder,) = copy.glob("{{=*")
    for path in folder.rglob("*"):
        if path.is_file() and "{%=" not in path.name and not holds_answers(path):
            path.unlink()
    return copy


def holds_answers(path: Path) -> bool:
    """Tell whether a file of the template is rendered to something else than itself."""
    text = path.read_text(encoding="utf-8")
    return "{{=" in text or "{%=" in text


@settings(FIXED, max_examples=300)
@given(hostile_answers())
def test_hostile_answers_are_refused_or_kept(
    files_with_answers: Path,
    tmp_path_factory: pytest.TempPathFactory,
    drawn: tuple[Answers, bool],
) -> None:
    """A name with a quote in it must not break, change or run anything."""
    answers, legal = drawn
    context = generate_context(str(files_with_answers / "cookiecutter.json"), None, answers)
    context["cookiecutter"] = prompt_for_config(context, no_input=True)
    fault = ask_hook(files_with_answers, context)
    assert (fault is None) == legal, fault
    if fault is not None:
        assert_one_sentence(fault)
        return
    folder = tmp_path_factory.mktemp("hostile")
    generate_files(files_with_answers, context, output_dir=folder, accept_hooks=False)
    assert_keeps(BakedProject(folder / answers["project_slug"]), answers)
    shutil.rmtree(folder)


@settings(FIXED, max_examples=25)
@given(hostile_answers().filter(lambda drawn: "\0" not in "".join(drawn[0].values())))
def test_hostile_answers_on_the_command_line(
    template: Path, tmp_path_factory: pytest.TempPathFactory, drawn: tuple[Answers, bool]
) -> None:
    """The short cut above must not be better than the real thing."""
    answers, legal = drawn
    folder = tmp_path_factory.mktemp("hostile")
    done = bake_on_command_line(template, folder, answers)
    assert (done.returncode == 0) == legal, done.stderr
    if legal:
        assert_keeps(BakedProject(folder / answers["project_slug"]), answers)
    else:
        assert_one_sentence(done.stderr.splitlines()[0])
        assert "_gen_project.py" not in done.stderr
        assert not any(folder.iterdir())
    shutil.rmtree(folder)


@pytest.mark.parametrize("slug", BAD_SLUGS)
def test_no_path_trick_leaves_anything(template: Path, tmp_path: Path, slug: str) -> None:
    """A slash in the name must not make folders, here or elsewhere."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    before = set(tmp_path.rglob("*"))
    done = bake_on_command_line(
        template, tmp_path / "a" / "b", {"project_slug": slug, "package_name": "nets"}
    )
    assert done.returncode != 0
    assert set(tmp_path.rglob("*")) == before
    assert not Path("/tmp/refused-slug").exists()


@pytest.mark.parametrize("mark", ["{{=", "{%=", "{#="])
def test_marks_of_the_template_are_refused(pre_gen: Any, mark: str) -> None:
    """Typed at the prompt they would be kept now, and run as a template at the next update."""
    fault = pre_gen.check_text("description", f"a {mark} b")
    assert mark in fault
    assert_one_sentence(fault)


HOSTILE_PROJECTS = [
    {"project_name": '"It\'s" \\ {{ 7 * 7 }}', "description": "{% raw %} # ${HOME} \\n"},
    {"project_name": "日本語 👩‍👩‍👧", "author_name": "Zoë 'O\"Neil"},
    {"project_name": "null", "project_slug": "123", "package_name": "null"},
    {"project_name": "# {# <!-- --> #}", "project_slug": "2020-01-01", "package_name": "yes"},
    {"project_name": "x" * 80, "description": "'''\"\"\"\\", "starting_point": "diabetes"},
]


@pytest.mark.slow
@pytest.mark.parametrize("answers", HOSTILE_PROJECTS)
def test_hostile_projects_pass_their_own_tests(bake: Bake, answers: Answers) -> None:
    """Valid files are not enough: the package's name also goes into imports and targets."""
    project = bake(**answers)
    project.run("ruff", "check", "--no-cache")
    project.run("python", "-m", "pytest", "-q", "-x")


def ask_hook(template: Path, context: dict[str, Any]) -> str | None:
    """Render the hook as cookiecutter does and let it judge, without a new process."""
    text = (template / "hooks" / "pre_gen_project.py").read_text(encoding="utf-8")
    hook: dict[str, Any] = {"__name__": "hook"}
    exec(create_env_with_context(context).from_string(text).render(**context), hook)
    fault: str | None = hook["find_fault"](json.loads(hook["ANSWERS"]))
    return fault


def bake_on_command_line(template: Path, folder: Path, answers: Answers) -> Any:
    """Run cookiecutter as people do."""
    options = [f"{name}={value}" for name, value in (answers | {"git": "no"}).items()]
    return run("cookiecutter", str(template), "--no-input", *options, cwd=folder, check=False)


def assert_one_sentence(text: str) -> None:
    """Check that a refusal is one line that names the question and says what to do."""
    assert re.fullmatch(
        r"(project_name|project_slug|package_name|description|author_\w+) .+\.", text
    )
    assert text.isprintable()
    assert ": " in text


def assert_keeps(project: BakedProject, answers: Answers) -> None:
    """Check that the files parse, and read the answers back from each format."""
    for file in project.files():
        parse(file, project.read(file))
    toml = tomllib.loads(project.read("pyproject.toml"))
    author = {"name": answers["author_name"]}
    if answers["author_email"]:
        author["email"] = answers["author_email"]
    assert toml["project"]["name"] == answers["project_slug"]
    assert toml["project"]["description"] == answers["description"]
    assert toml["project"]["authors"] == [author]
    assert toml["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [
        answers["package_name"],
        "workbench",
    ]
    assert answers["author_name"] in project.read("LICENSE")
    readme = unescape(project.read("README.md"))
    assert readme.startswith(f"# {answers['project_name']}\n")
    assert answers["description"] in readme
    assert answers["project_name"] in unescape(project.read("CHANGELOG.md"))
    logger = yaml.safe_load(project.read("configs/logger/wandb.yaml"))
    assert logger["wandb"]["project"] == answers["project_slug"]
    model = yaml.safe_load(project.read("configs/model/mlp.yaml"))
    assert model["_target_"].split(".")[0] == answers["package_name"]


def unescape(markdown: str) -> str:
    """Return what a Markdown text says."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown)
