"""Labelled texts after training: predictions, plots, the ONNX file, and a resumed training."""

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ..conftest import Bake
from ..support.in_process import Project, Run, on_one_thread
from ..support.labelled_texts import save_bert, write_orders
from ..support.training_runs import is_same

SMALL = (
    "experiment=text_csv",
    "data.text=review",
    "data.target=label",
    "data.max_length=64",
    "trainer=cpu",
    "logger=none",
    "model.net.width=32",
    "model.net.depth=1",
    "model.net.heads=2",
    "optimizer.lr=5e-3",
    "callbacks.early_stopping.patience=99",
)


@dataclass(frozen=True)
class Texts:
    """A project, its texts, and a trained model of them."""

    project: Project
    path: Path
    run: Run

    @property
    def checkpoint(self) -> Path:
        """The best one."""
        return self.run.folder / "checkpoints" / "best.ckpt"

    def command(self, name: str, *options: str) -> Any:
        """The config of a command for the best checkpoint."""
        self.project.count += 1
        folder = self.project.folder / str(self.project.count)
        return self.project.configure(name, folder, f"ckpt_path={self.checkpoint}", *options)

    def load(self) -> Any:
        """The model."""
        return self.project.module("loading").load_model(self.checkpoint)


def train(project: Project, path: Path, *options: str) -> Run:
    """Train the small model in a folder of its own."""
    project.count += 1
    folder = project.folder / str(project.count)
    words = (*SMALL, f"data.path={path}", *options)
    project.module("training").train(project.configure("train", folder, *words))
    return Run(folder, json.loads((folder / "run.json").read_text("utf-8")))


@pytest.fixture(scope="module")
def texts(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Texts]:
    root = bake(project_name="Labelled", package_name="package_of_labelled_texts").root
    folder = tmp_path_factory.mktemp("labelled")
    path = write_orders(folder / "orders.csv")
    with on_one_thread(root, folder) as project:
        yield Texts(project, path, train(project, path, "trainer.max_epochs=6"))


def test_order_of_words_near_the_end_is_learnt(texts: Texts) -> None:
    """Chance is 0.5, with or without the bytes or words of a text, if their order is unknown.

    120 guesses exceed 0.9 with a probability below 1e-19; three seeds all reached 1.0.
    """
    tested = texts.run.metrics["test"]
    assert tested["test/acc"] > 0.9


def test_metrics_are_those_of_single_texts(texts: Texts) -> None:
    """Each text alone, without padding, gives the probabilities that were tested in batches."""
    model = texts.load()
    run = texts.project.module("loading").load_run(texts.run.folder)
    losses, right = [], []
    dataset = run.datamodule.datasets["test"]
    for index in range(len(dataset)):
        sample = dataset[index]
        codes = sample["input_ids"][None]
        probabilities = model({"input_ids": codes, "attention_mask": torch.ones_like(codes)})[0]
        losses.append(-float(probabilities[sample["label"]].double().log()))
        right.append(int(probabilities.argmax()) == sample["label"])
    assert len(losses) == 120
    assert texts.run.metrics["test"]["test/loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert texts.run.metrics["test"]["test/acc"] == pytest.approx(np.mean(right))


def predicted(texts: Texts, content: str) -> list[dict[str, str]]:
    """The table that predict.py writes for a file."""
    source, output = texts.project.folder / "new.csv", texts.project.folder / "predictions.csv"
    source.write_text(content, "utf-8")
    cfg = texts.command("predict", "trainer=cpu", f"input={source}", f"output={output}")
    texts.project.module("prediction").predict(cfg)
    with output.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_new_texts_are_predicted_without_their_label(texts: Texts) -> None:
    """Quoted cells of several lines too; an empty text is marked, as training saw none."""
    rows = predicted(
        texts, 'id,review\n1,old trees cat bit dog here\n2,"the\ndog bit cat tall"\n3,\n4,x,y\n'
    )
    assert [row["prediction"] for row in rows[:2]] == ["cat", "dog"]
    assert [row["input"] for row in rows] == ["line 2", "line 3", "line 5", "line 6"]
    assert [row["unknown"] for row in rows] == ["", "", "review empty", ""]
    assert "3 cells" in rows[3]["error"]
    for row in rows[:3]:
        assert float(row["p(cat)"]) + float(row["p(dog)"]) == pytest.approx(1)


def test_server_answers_as_predict(texts: Texts) -> None:
    """JSON texts give the same numbers, whatever else is in the request."""
    pytest.importorskip("fastapi")
    serving = texts.project.module("serving")
    said = ["old trees cat bit dog here", "the\ndog bit cat tall"]
    quoted = "".join(f'"{text}"\n' for text in said)
    rows = predicted(texts, f"review\n{quoted}")
    preprocessing, model = texts.load().hparams["preprocessing"], texts.load()
    prediction = texts.project.module("prediction")
    for body in ([{"review": t, "id": 1} for t in said], [{"review": said[1]}]):
        inputs = serving.read_body(preprocessing, json.dumps(body).encode())
        _, outputs = prediction.run_model(model, inputs, 1, "cpu")
        expected = [[float(r["p(cat)"]), float(r["p(dog)"])] for r in rows[-len(body) :]]
        np.testing.assert_allclose(outputs, expected, rtol=1e-5)
    inputs = serving.read_body(preprocessing, b'[{"review": 5}, {"text": "a"}, {"review": null}]')
    assert "holds a number" in inputs.errors[0]
    assert "no column 'review'" in inputs.errors[1]
    assert inputs.unknown == {2: "review empty"}


def test_evaluation_makes_plots_and_repeats_the_metrics(texts: Texts) -> None:
    cfg = texts.command("evaluate", "trainer=cpu")
    metrics = texts.project.module("evaluation").evaluate(cfg)
    assert metrics["test/loss"] == pytest.approx(texts.run.metrics["test"]["test/loss"], rel=1e-6)
    folder = Path(cfg.paths.output_dir)
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert figures >= {"calibration.png", "confusion.png", "pca.png"}


def test_onnx_file_takes_texts_of_any_length(texts: Texts) -> None:
    """Padded or not, one or several."""
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name)
    import onnxruntime

    output = texts.project.folder / "texts.onnx"
    texts.project.module("exporting").export(texts.command("export", f"output={output}"))
    session, model = onnxruntime.InferenceSession(output), texts.load()
    for rows, length, kept in ((1, 1, 1), (3, 5, 2), (2, 64, 64), (1, 30, 29)):
        codes = torch.randint(256, (rows, length))
        mask = (torch.arange(length) < kept).long().expand(rows, length)
        batch = {"input_ids": codes, "attention_mask": mask}
        (found,) = session.run(None, {name: values.numpy() for name, values in batch.items()})
        np.testing.assert_allclose(found, model(batch).detach().numpy(), atol=1e-4)
    facts = {each.key: json.loads(each.value) for each in metadata(output)}
    assert facts["class_names"] == ["cat", "dog"]
    assert facts["preprocessing"]["max_length"] == 64


def metadata(path: Path) -> Any:
    import onnx

    return onnx.load(path).metadata_props


def test_training_with_dropout_resumes_to_the_last_bit(texts: Texts) -> None:
    """Within an epoch: the order of the texts, what they are padded to, and the dropout."""
    options = ("trainer.max_epochs=2", "model.net.dropout=0.3", "data.batch_size=64")
    whole = train(texts.project, texts.path, *options)
    crash = "+callbacks.crash={_target_:tests.support.at_batch.Crash,batch:9}"
    often = "callbacks.last_checkpoint.every_n_minutes=0"
    with pytest.raises(RuntimeError, match="a crash"):
        train(texts.project, texts.path, *options, crash, often)
    last = texts.project.folder / str(texts.project.count) / "checkpoints" / "last.ckpt"
    resumed = train(texts.project, texts.path, *options, f"ckpt_path={last}")
    for name in ("best", "last"):
        for part in ("global_step", "state_dict", "optimizer_states", "lr_schedulers"):
            assert is_same(resumed.saved(name)[part], whole.saved(name)[part])
    assert resumed.metrics == whole.metrics


def test_models_and_data_that_do_not_fit_get_one_sentence(texts: Texts) -> None:
    """Each names a group that fits."""
    project, error = texts.project, texts.project.module("errors").UserError
    data = ("experiment=text_csv", f"data.path={texts.path}", "data.text=review")
    values = ("data.target=label", "data.task=regression")
    for options, message in (
        ((*data, "data.target=label", "model=mlp"), "The data are texts, which the net 'mlp'"),
        (("experiment=digits", "model=text_encoder"), "reads texts, and the data are none"),
        ((*data, "data.target=label", "model.net.heads=5"), "width=64 is not divisible by heads=5"),
        ((*data, *values), "'label' of .* must hold"),
    ):
        cfg = project.configure("train", project.folder / "no", *options)
        with pytest.raises(error, match=message):
            project.module("training").train(cfg)


def test_pretrained_network_learns_order_and_needs_no_folder_afterwards(texts: Texts) -> None:
    """With the weights and the tokenizer of a folder, both of which the checkpoint contains.

    Chance is 0.5, and 120 guesses exceed 0.75 with a probability below 1e-7.
    """
    pytest.importorskip("transformers")
    project, folder = texts.project, texts.project.folder / "bert"
    save_bert(folder)
    network = (
        "experiment=text_finetune",
        f"model.backbone=hf/{folder}",
        f"data.tokenizer={folder}",
        "data.max_length=20",
        "callbacks.unfreezing.freeze_epochs=1",
        "model.num_parts=2",
        "model.rate_decay=1",
        "optimizer.lr=5e-3",
        "trainer.max_epochs=12",
    )
    common = [word for word in SMALL if not word.startswith(("experiment", "model", "optimizer"))]
    words = (*common, *network, f"data.path={texts.path}")
    project.count += 1
    run_folder = project.folder / str(project.count)
    project.module("training").train(project.configure("train", run_folder, *words))
    run = Run(run_folder, json.loads((run_folder / "run.json").read_text("utf-8")))
    assert run.metrics["test"]["test/acc"] > 0.75
    shutil.rmtree(folder)
    tuned = Texts(project, texts.path, run)
    rows = predicted(tuned, "review\nold trees cat bit dog here\nsome dog bit cat tall\n")
    assert all(row["prediction"] in ("cat", "dog") for row in rows)
    save_bert(folder)
    error = project.module("errors").UserError
    for option, message in (
        ("data.tokenizer=null", "reads tokens: set data.tokenizer"),
        ("data.max_length=30", "data.max_length=20 or less"),
        ("model.backbone=torchvision/resnet18", "reads images, and the data are texts"),
    ):
        changed = [word for word in words if word.split("=")[0] != option.split("=")[0]]
        cfg = project.configure("train", project.folder / "no", *changed, option)
        with pytest.raises(error, match=message):
            project.module("training").train(cfg)
