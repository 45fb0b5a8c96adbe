"""Refuse answers that cannot become a working project, before a file is written.

cookiecutter renders this file and runs it inside the new, still empty folder; a non-zero exit
makes it remove that folder. The answers come as one JSON text in a raw string: they are data,
whatever they hold. JSON never has three double quotes in a row, so no answer can end the string.

cookiecutter makes the folder before it runs this file. `cookiecutter.json` therefore replaces a
slug that may be a path, such as `a/b`, and keeps what was answered in `__answered_slug`.
"""

import json
import keyword
import re
import sys
import unicodedata

ANSWERS = r"""{{= cookiecutter | jsonify }}"""

REQUIRED = ("project_name", "project_slug", "package_name", "author_name")
OPTIONAL = ("description", "author_email")
LONGEST_NAME = 50

SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
PACKAGE = re.compile(r"[a-z][a-z0-9_]*")
ATOMS = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
EMAIL = re.compile(ATOMS + "@" + ATOMS, re.IGNORECASE)

# Put together here, so that cookiecutter does not take them for its own.
TEMPLATE_MARKS = ["{" + mark for mark in ("{=", "%=", "#=")]

# A project with the name of something it depends on would depend on itself.
DISTRIBUTIONS = frozenset(
    """
    ax-platform bandit cmaes configspace fastapi hatchling hpbandster huggingface-hub hydra-core
    hyperopt lightning lightning-workbench matplotlib mlflow mnist1d mypy
    numpy omegaconf onnx onnxruntime onnxscript optuna pandas
    pillow pip pip-audit plotly polars pre-commit psutil psycopg pytest python-dotenv
    pytorch-lightning pyyaml ray rich ruff safetensors scikit-learn scipy setuptools sqlalchemy
    tensorboard timm tokenizers torch torchmetrics torchvision transformers types-pyyaml uv
    uvicorn wandb wheel workbench
    """.split()
)

# A package with one of these names would be imported in place of the installed one.
INSTALLED = frozenset(
    """
    absl aiohttp alembic antlr4 attr attrs ax bandit boolean botorch cachecontrol certifi cfgv
    charset_normalizer click cloudpickle cmaes colorlog contourpy cuda cycler cyclonedx dateutil
    defusedxml distlib docker dotenv fastapi filelock flask fsspec functorch git google gpytorch
    graphene greenlet grpc gunicorn hatchling hpbandster huey huggingface_hub hydra hyperopt
    identify idna iniconfig ipywidgets isympy jaxtyping jinja2 joblib kiwisolver librt
    license_expression lightning lightning_fabric lightning_utilities linear_operator mako
    markdown markdown_it markupsafe matplotlib mdurl mlflow mnist1d mpl_toolkits mpmath msgpack
    mypy mypy_extensions mypyc narwhals networkx nodeenv numpy nvidia omegaconf onnx onnxruntime
    onnxscript opentelemetry optuna packageurl packaging pandas pathspec pil pip pip_api
    pip_audit pkg_resources platformdirs plotly pluggy polars pre_commit psutil psycopg
    psycopg_binary py py_serializable pyarrow pydantic pydevd_plugins pygments pylab pyparsing
    pyre_extensions pyro pytest pytorch_lightning ray requests rich ruff safetensors scipy
    sentry_sdk setuptools six sklearn skops sortedcontainers sphinx sqlalchemy sqlparse
    stevedore sympy tensorboard tensorboard_data_server threadpoolctl timm tokenizers tomli
    tomli_w torch torchgen torchmetrics torchvision tqdm transformers triton tutorials
    typing_extensions typing_inspection tzdata urllib3 uv uvicorn virtualenv wandb website
    werkzeug wheel yaml
    """.split()
)

# These are beside the package, or will be as soon as the project runs.
BESIDE = frozenset(
    """
    build clusters configs conftest data dist docs evaluate export hydra_plugins logs multirun
    notebooks outputs predict runs scripts serve setup src test tests train workbench
    """.split()
)


def main() -> None:
    """Exit with one sentence on the standard error stream when an answer is refused."""
    fault = find_fault(json.loads(ANSWERS))
    if fault:
        sys.exit(fault)


def find_fault(answers: dict[str, str | None]) -> str | None:
    """Return what is wrong with the first bad answer and what to do, or None."""
    texts = {name: answers[name] or "" for name in (*REQUIRED, *OPTIONAL)}
    texts["project_slug"] = answers["__answered_slug"] or ""
    for name, text in texts.items():
        fault = check_text(name, text)
        if fault:
            return fault
    return (
        check_slug(texts["project_slug"])
        or check_package(texts["package_name"])
        or check_email(texts["author_email"])
    )


def check_text(name: str, text: str) -> str | None:
    """Refuse what no file format can carry on one line."""
    if name in REQUIRED and not text:
        return f"{name} is empty: give it a value, or leave it out to get the default."
    if any(map(is_unprintable, text)):
        return (
            f"{name} {show(text)} holds a line break or a control character: "
            "write it as one line of plain text."
        )
    if text != text.strip():
        return f"{name} {show(text)} begins or ends with a space: leave the space out."
    for mark in TEMPLATE_MARKS:
        if mark in text:
            return f"{name} {show(text)} holds {mark}, a mark of the template: put a space into it."
    return None


def is_unprintable(character: str) -> bool:
    """Tell control characters, line breaks, lone surrogates and what YAML forbids from text.

    Joiners, which some emoji and scripts need, are text.
    """
    return (
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or character in "\ufffe\uffff"
    )


def check_slug(slug: str) -> str | None:
    """Refuse what cannot be a folder and a distribution on every system."""
    if not SLUG.fullmatch(slug) or len(slug) > LONGEST_NAME:
        return (
            f"project_slug {show(slug)} is not valid: use at most {LONGEST_NAME} lower-case "
            "letters and digits, with single hyphens between them, as in my-project."
        )
    if slug in DISTRIBUTIONS:
        return (
            f"project_slug {show(slug)} is the name of a package that the project depends on: "
            f"choose another, as in {slug}-project."
        )
    return None


def check_package(package: str) -> str | None:
    """Refuse what Python cannot import, or would import in place of something else."""
    if not PACKAGE.fullmatch(package) or len(package) > LONGEST_NAME:
        return (
            f"package_name {show(package)} is not valid: use at most {LONGEST_NAME} lower-case "
            "letters, digits and underscores, a letter first, as in my_project."
        )
    owner = find_owner(package)
    if owner:
        return (
            f"package_name {show(package)} is {owner}: "
            f"choose another, as in package_name={package}_project."
        )
    return None


def find_owner(package: str) -> str | None:
    """Return what the name already means to Python or to the project, or None."""
    if keyword.iskeyword(package) or keyword.issoftkeyword(package):
        return "a Python keyword"
    if package in sys.stdlib_module_names:
        return "the name of a standard library module"
    if package in INSTALLED:
        return "the name of an installed package"
    if package in BESIDE:
        return "the name of a file or folder beside the package"
    return None


def check_email(email: str) -> str | None:
    """Refuse what package metadata cannot carry as an address. Empty means none."""
    if email and not EMAIL.fullmatch(email):
        return (
            f"author_email {show(email)} is not an e-mail address: "
            "write it as name@example.org, or leave it empty."
        )
    return None


def show(text: str) -> str:
    """Quote an answer for a message on one line, shortened when it is long."""
    return json.dumps(text if len(text) <= LONGEST_NAME else text[:LONGEST_NAME] + "...")


if __name__ == "__main__":
    main()
