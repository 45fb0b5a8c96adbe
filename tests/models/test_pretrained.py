"""Fine-tuned models, away from the weights that their training started from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ..support.in_process import Project, on_one_thread
from ..support.template_package import Part

NET = '''
"""Two linear layers, each of which starts from a file."""

import torch
from torch import nn

from workbench.models.pretrained import is_needed, load_matching, read_weights


class Tuned(nn.Module):
    """Loads one file as any code does, and one with the helper of this project."""

    def __init__(self, num_outputs, width, backbone, head):
        super().__init__()
        self.backbone = nn.Linear(64, width)
        self.backbone.load_state_dict(torch.load(backbone, weights_only=True))
        self.head = nn.Linear(width, num_outputs)
        if is_needed():
            load_matching(self.head, read_weights(head), head)

    def forward(self, x):
        """Logits."""
        return self.head(self.backbone(x.flatten(1)).relu())
'''
OWN = """
_target_: {package}.models.Classifier
net:
  _target_: {package}.models.nets.tuned.Tuned
  backbone: {folder}/backbone.pt
  head: {folder}/head.pt
  width: 16
"""


@pytest.fixture(scope="module")
def project(bake: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = bake(project_name="Tuning", package_name="package_of_tuning_tests").root
    (root / "package_of_tuning_tests" / "models" / "nets" / "tuned.py").write_text(NET, "utf-8")
    with on_one_thread(root, tmp_path_factory.mktemp("tuning")) as project:
        yield project


def test_weights_of_the_start_are_not_needed_to_evaluate(project: Project) -> None:
    """A run could only be evaluated on the machine where the pretrained weights lay."""
    import torch

    folder = project.folder
    torch.manual_seed(0)
    torch.save(torch.nn.Linear(64, 16).state_dict(), folder / "backbone.pt")
    torch.save(torch.nn.Linear(16, 10).state_dict(), folder / "head.pt")
    text = OWN.format(package=project.package, folder=folder)
    (project.root / "configs" / "model" / "tuned.yaml").write_text(text, "utf-8")
    run = project.train("model=tuned", "model.net.width=16", "trainer.max_epochs=1")
    for name in ("backbone.pt", "head.pt"):
        (folder / name).unlink()
    metrics = project.evaluate(Path(run.folder) / "checkpoints" / "best.ckpt", "test")
    assert metrics == pytest.approx(run.metrics["test"])


def test_pretrained_weights_are_not_needed_again(package: Part, tmp_path: Path) -> None:
    """A checkpoint could only be evaluated where the file lay that its training began with."""
    resnet = package("models.nets").resnet18
    torch.manual_seed(0)
    source = resnet([3, 32, 32], 5)
    path = tmp_path / "start.pt"
    torch.save({f"net.{name}": value for name, value in source.state_dict().items()}, path)
    tuned = resnet([3, 32, 32], 2, weights=str(path))
    for name, value in source.state_dict().items():
        # A head for another number of classes stays new.
        assert name.startswith("fc.") != torch.equal(tuned.state_dict()[name], value)
    path.unlink()
    with pytest.raises(package("errors").UserError, match=r"There is no file .*start.pt"):
        resnet([3, 32, 32], 2, weights=str(path))
    with package("models.pretrained").without_pretrained():
        again = resnet([3, 32, 32], 2, weights=str(path))
    again.load_state_dict(tuned.state_dict())
