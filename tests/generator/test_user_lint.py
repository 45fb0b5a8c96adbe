"""What an owner adds passes the lints of the project's own CI, with the project's own packages."""

import ast
import re
import shlex
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ..conftest import Bake, BakedProject

# As in tutorials: hardly any annotations, no docstrings, formatted by hand.
USER_CODE = {
    "linted/models/autoencoder.py": """
import os

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn


class Encoder(nn.Module):
    def __init__(self, dim, hidden: int = None):
        super().__init__()
        hidden = hidden or 64
        self.l1 = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, 3))

    def forward(self, x):
        return self.l1(x)


class LitAutoEncoder(pl.LightningModule):
    def __init__(self, encoder, decoder, lr=1e-3, act=nn.ReLU()):
        super().__init__()
        self.save_hyperparameters(ignore=['encoder', 'decoder'])
        self.encoder, self.decoder = encoder, decoder
        self.example = None
        self.validation_step_outputs = []

    def forward(self, x):
        return self.decoder(self.encoder(x))

    def training_step(self, batch, batch_idx):
        x, _ = batch
        X_hat = self(x.view(x.size(0), -1))
        loss = F.mse_loss(X_hat, x)
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=True, logger=True)
        return loss

    def validation_step(self, batch, batch_idx: int):
        x, y = batch
        preds = []
        for i, row in enumerate(x):
            preds.append(self(row))
        self.example = torch.stack(preds)
        self.validation_step_outputs.append(self.example.mean())
        return {"loss": self.example.mean(), "n": len(os.sched_getaffinity(0))}

    def on_validation_epoch_end(self) -> None:
        self.log("val", torch.stack(self.validation_step_outputs).mean())
        self.validation_step_outputs.clear()
        first = self.encoder.l1[0]
        for name, p in first.named_parameters():
            print("%s %s" % (name, p.grad.norm()))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
""",
    "linted/data/noise.py": """
import pickle
import random
from typing import Optional

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, random_split


class Noise(Dataset):
    def __init__(self, root, transform=None):
        self.items = [(torch.rand(8), random.randint(0, 1)) for i in range(100)]
        self.transform = transform

    def __len__(self):
        return len(self.items)

    def __getitem__(self, idx: int):
        x, y = self.items[idx]
        if self.transform:
            x = self.transform(x)
        return x, y


class NoiseDataModule(pl.LightningDataModule):
    def __init__(self, data_dir: str = './', batch_size: int = 32):
        super().__init__()
        self.data_dir = data_dir
        self.batch_size = batch_size
        self.train = None

    def setup(self, stage: Optional[str] = None):
        full = Noise(self.data_dir)
        self.train, self.val = random_split(full, [80, 20], torch.Generator().manual_seed(42))
        self.train.seen = self.val.dataset.items
        self.names = {}
        for name, size in zip(["train", "val"], [len(self.train), len(self.val)]):
            self.names[name] = size

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, batch_size=self.batch_size, shuffle=True)

    def save(self, path):
        try:
            with open(path, "wb") as f:
                pickle.dump(self.names, f)
        except Exception:
            pass
""",
    "linted/callbacks/printing.py": """
from pytorch_lightning.callbacks import Callback


class PrintingCallback(Callback):
    def on_train_start(self, trainer, pl_module):
        print("Training is starting")

    def on_train_end(self, trainer, pl_module):
        if trainer.callback_metrics.get("train_loss") != None:
            print("Training is ending")
""",
    "linted/helpers.py": """
def count_parameters(model): return sum(p.numel() for p in model.parameters())
""",
    "explore.py": """
from torch.utils.data import DataLoader

from linted.data.noise import NoiseDataModule
from linted.helpers import count_parameters
from linted.models.autoencoder import Encoder

dm = NoiseDataModule()
dm.setup()
loader = dm.train_dataloader()
print(len(loader.dataset), len(DataLoader([1, 2])))
for x, y in loader:
    print(x.shape, count_parameters(Encoder(8)))
""",
    "tests/test_autoencoder.py": """
import torch

from linted.models.autoencoder import Encoder


def test_shape():
    assert Encoder(8)(torch.rand(2, 8)).shape == (2, 3)
""",
}
# What a linter is for. The library is held to docstrings as well, the user's code is not.
BUGS = {
    "linted/models/autoencoder.py": ("print(undefined)\nimport json\n", {"F821", "F401"}),
    "linted/helpers.py": ("def add(x, to=[]):\n    return to + [x]\n", {"B006"}),
    "linted/training.py": ("def undocumented(x):\n    return x\n", set()),
    "linted/data/digits.py": ("def undocumented(x):\n    return x\n", set()),
    "workbench/cli.py": ("def undocumented(x):\n    return x\n", {"D103"}),
    "workbench/runs/table.py": ("def undocumented(x):\n    return x\n", {"D103"}),
    "hydra_plugins/project_sweepers.py": ("def undocumented(x):\n    return x\n", {"D103"}),
}


@pytest.fixture(scope="module")
def project(bake: Bake) -> BakedProject:
    """A project with code of its owner."""
    project = bake(project_name="Linted")
    for name, code in USER_CODE.items():
        (project.root / name).write_text(code.lstrip(), "utf-8")
    return project


def commands_of(ci: str) -> list[list[str]]:
    """The commands that a CI file runs in the project's environment."""
    content = yaml.safe_load(ci)
    steps = content["jobs"]["tests"]["steps"] if "jobs" in content else content["tests"]["script"]
    lines = [step.get("run", "") if isinstance(step, dict) else step for step in steps]
    prefix = "uv run --no-sync "
    return [shlex.split(line.removeprefix(prefix)) for line in lines if line.startswith(prefix)]


@pytest.fixture(scope="module")
def lints(project: BakedProject) -> list[list[str]]:
    """The lints of the CI; tests and known weaknesses have their own tests."""
    commands = commands_of(project.read(".github/workflows/tests.yml"))
    return [command for command in commands if command[0] not in ("pytest", "pip-audit")]


def test_lints_of_all_ci_files_are_the_same(bake: Bake) -> None:
    """What is checked below is what GitHub runs; GitLab must run nothing else."""
    gitlab = commands_of(bake(ci="gitlab").read(".gitlab-ci.yml"))
    assert gitlab == commands_of(bake().read(".github/workflows/tests.yml"))
    assert [command[0] for command in gitlab] == ["ruff", "mypy", "bandit", "pytest", "pip-audit"]


@pytest.mark.slow
def test_ordinary_code_passes_the_lints_of_the_ci(
    project: BakedProject, lints: list[list[str]], pytestconfig: pytest.Config
) -> None:
    """Lints that complain about every tutorial are switched off, and then find no bug either."""
    assert pytestconfig.cache
    for command in lints:
        # Most of the time goes into torch, which is the same the next time.
        cache = {"mypy": ["--cache-dir", str(pytestconfig.cache.mkdir("mypy"))]}
        cache["ruff"] = ["--no-cache"]
        project.run(*command, *cache.get(command[0], []))


def test_bugs_are_still_found(project: BakedProject, lints: list[list[str]]) -> None:
    """Undefined names, unused imports, mutable defaults; style in the library only."""
    before = {name: project.read(name) for name in BUGS}
    try:
        for name, (code, _) in BUGS.items():
            (project.root / name).write_text(f"{before[name]}\n\n{code}", "utf-8")
        (ruff,) = (command for command in lints if command[0] == "ruff")
        done = project.run(*ruff, "--no-cache", "--output-format=concise", check=False)
    finally:
        for name, text in before.items():
            (project.root / name).write_text(text, "utf-8")
    found = re.findall(r"^(\S+?):\d+:\d+: (\w+)", done.stdout, re.MULTILINE)
    for name, (_, expected) in BUGS.items():
        rules = {rule for file, rule in found if file == name}
        assert expected <= rules, name
        assert "D103" in expected or "D103" not in rules, name


def test_only_the_library_is_type_checked_strictly(project: BakedProject) -> None:
    """Users need not annotate their code; an unchecked module of the library would go unnoticed."""
    from mypy.config_parser import parse_config_file
    from mypy.options import Options

    options = Options()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.root)
        parse_config_file(options, lambda: None, "pyproject.toml")
    checked = {"workbench": 0, "linted": 0}
    for folder in checked:
        for path in (project.root / folder).rglob("*.py"):
            parts = path.relative_to(project.root).with_suffix("").parts
            module = ".".join(parts).removesuffix(".__init__")
            strict = options.clone_for_module(module).disallow_untyped_defs
            assert strict == (folder == "workbench"), module
            checked[folder] += 1
    assert all(checked.values())
    assert not options.clone_for_module("explore").disallow_untyped_defs


def imported_by(folder: Path) -> set[str]:
    """The top-level modules outside the standard library that a folder's files import."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).partition(".")[0])
    return found - set(sys.stdlib_module_names)


def imported(root: Path) -> set[str]:
    """The modules of other packages that a project imports."""
    own = {path.stem for folder in (root, root / "tests") for path in folder.iterdir()}
    return imported_by(root) - own


def distributions_of(module: str) -> set[str]:
    """The distributions that install a module, or the one that is known to bring it along."""
    # Parts of pytorch-lightning and of fastapi.
    known = {
        "lightning_fabric": "pytorch-lightning",
        "lightning_utilities": "pytorch-lightning",
        "starlette": "fastapi",
    }
    names = [known[module]] if module in known else packages_distributions().get(module, [module])
    return {str(canonicalize_name(name)) for name in names}


def test_every_imported_package_is_declared(bake: Bake) -> None:
    """CI installs what pyproject.toml names, and not what some other package brings along."""
    project = bake()
    metadata: dict[str, Any] = tomllib.loads(project.read("pyproject.toml"))
    groups = [
        metadata["project"]["dependencies"],
        *metadata["project"]["optional-dependencies"].values(),
        *metadata["dependency-groups"].values(),
    ]
    declared = {canonicalize_name(Requirement(text).name) for group in groups for text in group}
    for module in imported(project.root):
        names = distributions_of(module)
        assert names & declared, f"{module} is imported and {names} is not declared"


def test_every_package_without_types_has_stubs_or_an_exception(bake: Bake) -> None:
    """The type check fails where stubs are missing that another environment happens to have."""
    metadata: dict[str, Any] = tomllib.loads(bake().read("pyproject.toml"))
    dev = {canonicalize_name(Requirement(t).name) for t in metadata["dependency-groups"]["dev"]}
    from mypy.stubinfo import non_bundled_packages_flat

    needed = {
        stubs
        for module in imported(bake().root)
        if (stubs := non_bundled_packages_flat.get(module)) is not None
    }
    overrides = metadata["tool"]["mypy"]["overrides"]
    excepted = {m for o in overrides if o.get("ignore_missing_imports") for m in o["module"]}
    for stubs in needed:
        module = next(m for m, name in non_bundled_packages_flat.items() if name == stubs)
        assert canonicalize_name(stubs) in dev or f"{module}.*" in excepted, stubs
