"""A run's config.yaml is passed on with its checkpoint: rebuilding from it must run nothing."""

import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from ..support.template_package import NAME, PACKAGE, Part

# What runs code, commands or pickles, and ways around a check of names.
DANGEROUS = [
    "os.system",
    "posix.system",
    "subprocess.run",
    "subprocess.Popen",
    "builtins.eval",
    "builtins.exec",
    "builtins.open",
    "importlib.import_module",
    "functools.partial",
    "functools.reduce",
    "operator.methodcaller",
    "pickle.loads",
    "runpy.run_path",
    "torch.load",
    "torch.hub.load",
    "torch.jit.load",
    "torch.os.system",
    "lightning.pytorch.trainer.trainer.os.system",
    "torch.utils.data.dataloader.os.system",
    "torch.nn.Module.__init__",
    "torch.nn.Module.__init__.__globals__",
    "torch.nn.Module.__init__.__globals__.get",
    "torch.nn.Module.load_state_dict",
    "pytorch_lightning.LightningModule.load_from_checkpoint",
    "pytorch_lightning.Trainer",
    "hydra.utils.get_method",
    "hydra.utils.get_class",
    "hydra.utils.get_object",
    "hydra.utils.instantiate",
    "hydra.utils.call",
    "hydra._internal.utils._locate",
    "omegaconf.OmegaConf.register_new_resolver",
    "numpy.load",
    "torchvision.models.resnet18",
    # Lying in the library does not make a builder of anything harmless.
    "workbench.cli.os.system",
    "workbench.runs.trusted_targets.importlib.import_module",
    "workbench.assembly.instantiate",
    "workbench.assembly.build_all",
    "workbench.building.build",
    "workbench.runs.config.load_config",
    "workbench.loading.load_model",
    "workbench.sweeps.workers.subprocess.Popen",
    # Not names.
    "",
    "os",
    ".os.system",
    "os..system",
    "os system",
    "__main__.system",
    None,
    7,
    ["os.system"],
    {"_target_": "torch.nn.Linear"},
]
ACCEPTED = [
    "torch.nn.Linear",
    "torch.nn.modules.loss.CrossEntropyLoss",
    "torch.optim.Adam",
    "torch.optim.lr_scheduler.ReduceLROnPlateau",
    "torch.optim.lr_scheduler.StepLR",
    "torchmetrics.classification.MulticlassAccuracy",
    "pytorch_lightning.demos.boring_classes.BoringModel",
    "pytorch_lightning.demos.boring_classes.BoringDataModule",
    "lightning.pytorch.demos.boring_classes.BoringModel",
    f"{NAME}.models.Classifier",
    f"{NAME}.models.nets.resnet18",
    "workbench.models.by_name.build_net",
    f"{NAME}.data.DigitsDataModule",
    "workbench.data.images.Augment",
]
# Where a `_target_` can stand.
PLACES: dict[str, Any] = {
    "at the top": lambda node: node,
    "nested": lambda node: {"_target_": "torch.nn.Linear", "in_features": node},
    "in a list": lambda node: {"_target_": "torch.nn.Sequential", "_args_": [{"x": [node]}]},
    "without a target above": lambda node: {"net": {"name": "mlp", "options": node}},
}


@pytest.fixture
def check(package: Part) -> Any:
    """Checks the config of a model."""
    module = package("runs.trusted_targets")

    def check_model(node: Any) -> None:
        module.check_targets(OmegaConf.create({"model": node}), "run/config.yaml")

    return check_model


@pytest.mark.parametrize("place", PLACES)
def test_config_of_a_run_names_only_parts_of_a_run(
    package: Part, check: Any, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that is refused is called on the way, nor is it called as a partial."""
    called: list[Any] = []
    for name in ("system", "popen"):
        monkeypatch.setattr(os, name, lambda *given: called.append(given))
    monkeypatch.setattr(subprocess, "run", lambda *given: called.append(given))
    user_error = package("errors").UserError
    for target in DANGEROUS:
        for partial in ({}, {"_partial_": True}):
            with pytest.raises(user_error, match=r"run/config.yaml names"):
                check(PLACES[place]({"_target_": target, "command": "true"} | partial))
    assert called == []


@pytest.mark.parametrize("place", PLACES)
def test_config_of_a_run_may_name_its_parts(check: Any, place: str) -> None:
    for target in ACCEPTED:
        check(PLACES[place]({"_target_": target, "_partial_": True}))


def test_references_in_the_config_of_a_run_are_refused(package: Part, check: Any) -> None:
    """A reference can become a target, or hold a secret, once it is resolved."""
    for node in (
        {"_target_": "${oc.decode:os.system}"},
        {"net": "${oc.decode:'{_target_: os.system, command: ls}'}"},
        {"names": ["${oc.env:HOME}"]},
    ):
        with pytest.raises(package("errors").UserError, match="contains the reference"):
            check(node)


def test_class_that_is_gone_is_told(package: Part, check: Any) -> None:
    """The module was renamed after the run."""
    for target in (f"{NAME}.models.Gone", f"{NAME}.models.gone.Net", "not_installed_here.Net"):
        with pytest.raises(package("errors").UserError, match="cannot be imported"):
            check({"_target_": target})


def test_arguments_in_a_checkpoint_name_only_parts_of_a_run(package: Part, tmp_path: Path) -> None:
    """A model of the owner's own may build what its arguments describe."""
    import torch

    model_class = package("models").Classifier
    arguments = dict.fromkeys(inspect.signature(model_class).parameters)
    for net in ({"_target_": "os.system", "command": "true"}, {"name": "${oc.env:HOME}"}):
        torch.save(
            {
                "model_class": "models.classifier:Classifier",
                "hyper_parameters": arguments | {"net": net},
                "state_dict": {},
                "epoch": 0,
                "global_step": 0,
                "pytorch-lightning_version": "2.6.0",
            },
            tmp_path / "sent.ckpt",
        )
        with pytest.raises(package("errors").UserError, match="trust_config=true"):
            package("loading").load_model(tmp_path / "sent.ckpt")


MODEL = """
from pathlib import Path
Path({mark!r}).touch()
from pytorch_lightning import LightningModule
class Net(LightningModule):
    pass
"""


def write_module(path: Path, mark: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(MODEL.format(mark=str(mark)))


def test_folder_of_a_run_brings_no_code(
    package: Part, check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import runs a module: neither the current folder nor the project's logs count as code."""
    mark = tmp_path / "executed"
    project, here = tmp_path / "project", tmp_path / "here"
    write_module(project / "logs" / "train" / "runs" / "sent" / "evil.py", mark)
    write_module(here / "sent_module.py", mark)
    write_module(here / "sent_package" / "__init__.py", mark)
    package("project").register_project(NAME, project)
    monkeypatch.chdir(here)
    for folder in ("", str(here), str(project)):
        monkeypatch.syspath_prepend(folder)
    for target in (
        "sent_module.Net",
        "sent_package.Net",
        "logs.train.runs.sent.evil.Net",
        "antigravity.Net",
    ):
        with pytest.raises(package("errors").UserError, match="trust_config=true"):
            check({"_target_": target})
    assert not mark.exists()
    assert "antigravity" not in sys.modules


def test_modules_of_the_owner_are_accepted(
    package: Part, check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside train.py, in PYTHONPATH, in an editable installation, or imported in a notebook."""
    module = package("runs.trusted_targets")
    places = {name: tmp_path / name for name in ("project", "path", "linked", "notebook")}
    for name, folder in places.items():
        write_module(folder / f"owned_{name}.py", tmp_path / "executed")
        write_module(folder / f"package_{name}" / "__init__.py", tmp_path / "executed")
        monkeypatch.syspath_prepend(folder)
    package("project").register_project(NAME, places["project"])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", str(places["path"])]))
    site = tmp_path / "site"
    site.mkdir()
    (site / "own.pth").write_text(f"{places['linked']}\n")
    monkeypatch.setattr(module, "_site_folders", lambda: {site})
    importlib.import_module("owned_notebook")
    importlib.import_module("package_notebook")
    for name in places:
        check({"_target_": f"owned_{name}.Net"})
        check({"_target_": f"package_{name}.Net"})


def test_no_function_that_builds_what_it_is_given_is_accepted(package: Part) -> None:
    """With such a function as a target, a second file could name anything."""
    trusted = package("runs.trusted_targets")
    words = ("instantiate(", "get_class(", "get_object(", "subprocess.", "OmegaConf.load(", "exec(")
    library = Path(str(package("errors").__file__)).parent
    folders: dict[Path, Callable[[str], bool]] = {
        library: lambda part: part not in trusted.LIBRARY_PARTS,
        PACKAGE: lambda part: part in trusted.STARTERS,
    }
    found = 0
    for folder, is_rejected in folders.items():
        for file in sorted(folder.rglob("*.py")):
            if any(word in file.read_text("utf-8") for word in words):
                found += 1
                assert is_rejected(file.relative_to(folder).with_suffix("").parts[0]), file
    assert found > 5
