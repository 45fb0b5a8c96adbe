"""export.py: the ONNX file must predict what the checkpoint predicts, or not exist."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from ..conftest import BakedProject
from ..support.modules import project_module
from ..support.training_runs import TrainedRun, ended_with, script

# The dev group has them; an environment made by hand may lack them.
for name in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(name)


@dataclass(frozen=True)
class Exported:
    """The folder of the files, what was printed, and how each command ended."""

    folder: Path
    printed: str
    answers: list[str]

    def predict(self, name: str, inputs: NDArray[Any]) -> Any:
        """What a program that only knows ONNX makes of a file."""
        import onnxruntime

        session = onnxruntime.InferenceSession(self.folder / name)
        (node,) = session.get_inputs()
        (found,) = session.run(None, {node.name: inputs})
        return found

    def metadata(self, name: str) -> dict[str, Any]:
        """What the file says about its numbers."""
        import onnxruntime

        texts = onnxruntime.InferenceSession(self.folder / name).get_modelmeta()
        return {key: json.loads(text) for key, text in texts.custom_metadata_map.items()}


@pytest.fixture(scope="module")
def exported(
    demo: BakedProject,
    digits: TrainedRun,
    diabetes: TrainedRun,
    tmp_path_factory: pytest.TempPathFactory,
) -> Exported:
    folder = tmp_path_factory.mktemp("exported")

    def export(run: TrainedRun, name: str, *options: str) -> tuple[str, ...]:
        places = (f"ckpt_path={run.checkpoint()}", f"output={folder / name}")
        return ("export.py", *places, f"hydra.run.dir={folder / 'run'}", *options)

    commands = [
        export(digits, "digits.onnx"),
        export(diabetes, "new/diabetes.onnx"),
        export(digits, "strict.onnx", "tolerance=1e-12"),
    ]
    done = [script(demo, *command, check=False) for command in commands]
    return Exported(folder, "".join(each.stdout for each in done), list(map(ended_with, done)))


@pytest.fixture(scope="module")
def package(demo: BakedProject) -> Iterator[Any]:
    """Imports modules of the demo's package into this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(demo.root)
        yield lambda name: project_module("demo", name)


def test_output_tells_file_inputs_and_difference(exported: Exported) -> None:
    """Who hands the file on has to say what goes into it."""
    assert exported.answers[:2] == ["", ""]
    lines = [" ".join(line.split()) for line in exported.printed.splitlines()]
    assert f"file {exported.folder / 'digits.onnx'}" in lines
    assert "input pixels (batch, 1, 8, 8), tensor(uint8)" in lines
    assert "output probabilities (batch, 10), tensor(float)" in lines
    assert "input features (batch, 10), tensor(float)" in lines
    assert "output values (batch), tensor(double)" in lines
    assert any(line.startswith("compared 270 samples, at most ") for line in lines)
    # The exporter would tell each of its steps.
    assert not any("node" in line for line in lines)


def test_pictures_go_in_as_they_are(exported: Exported, digits: TrainedRun, package: Any) -> None:
    """Normalising is in the file: a program that forgets it would get nonsense."""
    data = load_digits()
    pixels = (data.images * 255 / 16).round().astype(np.uint8)[:, None]
    found = exported.predict("digits.onnx", pixels)
    assert (found.argmax(axis=1) == data.target).mean() > 0.97
    assert np.allclose(found[:1], exported.predict("digits.onnx", pixels[:1]), atol=1e-6)
    datamodule = package("data").DigitsDataModule()
    datamodule.setup()
    x = datamodule.datasets["test"].transform(datamodule.datasets["test"].x)
    model = package("loading").load_model(digits.checkpoint())
    expected = model(x).detach().numpy()
    found = exported.predict("digits.onnx", datamodule.datasets["test"].x.numpy())
    assert np.abs(found - expected).max() < 1e-5
    assert exported.metadata("digits.onnx")["class_names"] == list(map(str, range(10)))


def test_values_come_in_the_targets_unit(
    exported: Exported, diabetes: TrainedRun, package: Any
) -> None:
    """A regressor's file without its target's scale would answer in standard deviations."""
    datamodule = package("data").DiabetesDataModule()
    datamodule.setup()
    x = datamodule.datasets["test"].x
    model = package("loading").load_model(diabetes.checkpoint())
    expected = model.in_target_unit(model(x)).detach().numpy()
    assert 100 < expected.mean() < 200
    found = exported.predict("new/diabetes.onnx", x.numpy())
    assert found.shape == (88,)
    assert np.allclose(found, expected, rtol=1e-5)
    columns = exported.metadata("new/diabetes.onnx")["preprocessing"]["columns"]
    assert columns == diabetes.saved()["hyper_parameters"]["preprocessing"]["columns"]


def test_file_that_differs_is_not_kept(exported: Exported) -> None:
    """A file with other predictions must not be deployed."""
    assert "predictions differ by" in exported.answers[2]
    assert not list(exported.folder.glob("strict*"))


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [("export.py", "onnxruntime", "onnx"), ("serve.py", "fastapi", "serve")],
)
def test_missing_extra_is_told_with_its_command(
    demo: BakedProject, tmp_path: Path, command: str, module: str, extra: str
) -> None:
    """Most people meet these commands before they have the packages."""
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules['{module}'] = None\n")
    options = ("ckpt_path=x", f"hydra.run.dir={tmp_path / 'run'}")
    done: CompletedProcess[str] = script(
        demo, command, *options, check=False, is_warm=False, python_path=str(tmp_path)
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {command} needs {module}: install what is missing with "
        f"`uv sync --extra {extra}` or `pip install {module}`.\n"
    )
