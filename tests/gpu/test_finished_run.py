"""What is done with a model that was trained on the GPU, also on a machine without one."""

import csv
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from ..conftest import BakedProject
from ..support.training_runs import TrainedRun
from .conftest import Measured
from .device import HIDDEN, IS_GPU, NO_MORE, TRAINER, command, evaluate, json_of, train, variables

IMAGES = 24
# Probabilities: the convolutions of the GPU round to TF32, of 11 significant bits, and each of
# three layers makes four such errors in logits of up to about ten.
TF32 = 2.0**-11 * 4 * 3**0.5 * 10


@pytest.fixture(scope="module")
def trained(project: BakedProject, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """The run that a new user starts first, on the GPU."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    return train(project, folder, "experiment=digits", "trainer.max_epochs=12", "logger=none")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as PNG files."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(IMAGES):
        pixels = (load_digits().images[number] * 255 / 16).round().astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return folder


def test_default_trainer_takes_the_gpu(
    project: BakedProject, tmp_path: Path, measured: Measured
) -> None:
    """trainer=auto is the default; nobody wants to rent a GPU and train on its host."""
    witness = (
        f"+callbacks.witness={{_target_:gpu_parts.MemoryWitness,megabytes:1,path:{tmp_path}/w}}"
    )
    words = ("train.py", f"hydra.run.dir={tmp_path}/run", "trainer.max_epochs=1", "test=false")
    command(project, *words, "logger=none", witness)
    assert json.loads((tmp_path / "w").read_text())["device"] == ("cuda" if IS_GPU else "cpu")
    manifest = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert bool(manifest["hardware"]["gpus"]) == IS_GPU
    measured(f"{manifest['hardware']['gpus']}, CUDA {manifest['hardware']['cuda']}")


def test_evaluation_does_not_depend_on_the_device(
    project: BakedProject, trained: TrainedRun, tmp_path: Path, measured: Measured
) -> None:
    """A checkpoint from the cluster is evaluated on a laptop."""
    reported = trained.metrics["test"]
    here = evaluate(project, trained, tmp_path / "here", TRAINER)
    hidden = evaluate(project, trained, tmp_path / "hidden", "analyses=[]", more=HIDDEN)
    cpu = evaluate(project, trained, tmp_path / "cpu", "trainer=cpu", "analyses=[]")
    assert here == pytest.approx(reported, rel=1e-5)
    assert hidden == pytest.approx(cpu, rel=1e-6)
    assert hidden["test/loss"] == pytest.approx(reported["test/loss"], abs=TF32)
    # 359 images: two may change sides.
    assert hidden["test/acc"] == pytest.approx(reported["test/acc"], abs=2.1 / 359)
    assert reported["test/acc"] > 0.9
    # The plots were made of tensors on the GPU.
    assert len(list((tmp_path / "here").rglob("*.png"))) >= 4
    measured(
        f"test/loss in training {reported['test/loss']:.6f}, evaluated {here['test/loss']:.6f}, "
        f"without CUDA {hidden['test/loss']:.6f}"
    )


def predictions(
    project: BakedProject,
    run: TrainedRun,
    images: Path,
    folder: Path,
    *options: str,
    more: Mapping[str, str] = NO_MORE,
) -> tuple[list[str], Any]:
    """Classes and probabilities in the table of predict.py, (N,) and (N, 10)."""
    table = folder / "table.csv"
    places = (f"input={images}", f"output={table}", f"hydra.run.dir={folder}")
    command(project, "predict.py", f"ckpt_path={run.checkpoint()}", *places, *options, more=more)
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in ("input", "prediction", "error")]
    numbers = np.array([[float(row[name]) for name in names] for row in rows])
    return [row["prediction"] for row in rows], numbers


def test_prediction_export_and_server_agree(
    project: BakedProject, trained: TrainedRun, images: Path, tmp_path: Path, measured: Measured
) -> None:
    """Four ways to use one model must give one answer."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    classes, here = predictions(project, trained, images, tmp_path / "here")
    others, hidden = predictions(project, trained, images, tmp_path / "hidden", more=HIDDEN)
    assert classes == others
    assert np.mean([name == str(i % 10) for i, name in enumerate(classes)]) > 0.8
    assert np.abs(here - hidden).max() < TF32
    file = tmp_path / "model.onnx"
    words = ("export.py", f"ckpt_path={trained.checkpoint()}", f"output={file}")
    done = command(project, *words, f"hydra.run.dir={tmp_path}/export")
    assert "compared" in done.stdout
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(images.iterdir())])
    (exported,) = session.run(None, {session.get_inputs()[0].name: pixels[:, None]})
    columns = here.shape[1] - exported.shape[1]
    assert np.abs(exported - hidden[:, columns:]).max() < 1e-4
    measured(
        f"GPU and CPU differ by {np.abs(here - hidden).max():.1e} in {IMAGES} images, ONNX and CPU "
        f"by {np.abs(exported - hidden[:, columns:]).max():.1e}"
    )


def test_predictions_of_a_split_do_not_depend_on_the_device(
    project: BakedProject, trained: TrainedRun, tmp_path: Path, measured: Measured
) -> None:
    """Without `input`, Lightning predicts the test split."""
    tables = []
    for name, more in (("here", NO_MORE), ("hidden", HIDDEN)):
        table = tmp_path / f"{name}.csv"
        places = (f"output={table}", f"hydra.run.dir={tmp_path}/{name}")
        command(project, "predict.py", f"ckpt_path={trained.checkpoint()}", *places, more=more)
        with table.open(newline="", encoding="utf-8") as file:
            tables.append([list(row.values()) for row in csv.DictReader(file)])
    here, hidden = (np.array([row[1:] for row in table], dtype=float) for table in tables)
    assert len(here) == 359
    assert np.abs(here - hidden).max() < TF32
    measured(f"largest difference {np.abs(here - hidden).max():.1e} in {len(here)} samples")


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_prediction_uses_the_chosen_device(
    accelerator: str, project: BakedProject, trained: TrainedRun, images: Path, tmp_path: Path
) -> None:
    """trainer=cpu is for the moments when the GPU is full."""
    code = (
        "import json, runpy, sys\n"
        "sys.argv = ['predict.py', *sys.argv[1:]]\n"
        "runpy.run_path('predict.py', run_name='__main__')\n"
        "import torch\n"
        "print(json.dumps(torch.cuda.is_initialized()))\n"
    )
    places = (f"input={images}", f"output={tmp_path}/table.csv", f"hydra.run.dir={tmp_path}")
    words = ("-c", code, f"ckpt_path={trained.checkpoint()}", *places)
    done = command(project, *words, f"trainer={accelerator}")
    assert json_of(done) is (IS_GPU and accelerator == "auto")


def test_server_answers_as_predict(
    project: BakedProject, trained: TrainedRun, images: Path, tmp_path: Path, measured: Measured
) -> None:
    """The server's threads share one model on the GPU."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    _, expected = predictions(project, trained, images, tmp_path / "predicted")
    options = ("port=0", f"ckpt_path={trained.checkpoint()}", f"hydra.run.dir={tmp_path}/serve")
    with subprocess.Popen(
        [sys.executable, "serve.py", *options],
        cwd=project.root,
        env=variables(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ) as process:
        try:
            address = address_of(process)
            started = time.perf_counter()
            answers = [ask(address, path.read_bytes()) for path in sorted(images.iterdir())]
            seconds = time.perf_counter() - started
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=60)[0]
        finally:
            process.kill()
    assert process.returncode == 0, rest
    texts = ("input", "prediction", "error")
    found = np.array([[v for k, v in row.items() if k not in texts] for row in answers])
    # A batch of another size may use another kernel.
    assert np.abs(found - expected).max() < TF32
    measured(f"largest difference {np.abs(found - expected).max():.1e}, {IMAGES / seconds:.0f}/s")


def address_of(process: "subprocess.Popen[str]") -> str:
    """The address that a server prints once it answers."""
    assert process.stdout
    printed = ""
    for line in process.stdout:
        printed += line
        if found := re.search(r"answering on (http://\S+)", line):
            return found[1]
    return pytest.fail(printed)


def ask(address: str, image: bytes) -> dict[str, Any]:
    """The answer for an image."""
    request = urllib.request.Request(f"{address}/predict", data=image)
    with urllib.request.urlopen(request, timeout=60) as answer:
        (row,) = json.load(answer)
    return dict(row)


def test_nothing_here_has_initialized_cuda() -> None:
    """The processes that fork commands must not have used the GPU themselves."""
    torch = sys.modules.get("torch")
    assert torch is None or not torch.cuda.is_initialized()
