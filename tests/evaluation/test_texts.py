"""A language model after training: its score, its texts, its ONNX file, and a resumed training."""

import csv
import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ..conftest import Bake
from ..support.in_process import Project, Run, on_one_thread
from ..support.training_runs import is_same

BLOCK, STRIDE = 16, 8
SMALL = (
    "experiment=text",
    "trainer=cpu",
    "logger=none",
    "model.n_layer=2",
    "model.n_head=2",
    "model.n_embd=32",
    f"data.block_size={BLOCK}",
    "optimizer.lr=1e-2",
    "callbacks.early_stopping.patience=99",
)
WORDS = ["über ", "the ", "cat ", "naïve ", "— ", "sat\n", "on ", "😀 "]
PERIOD = "abcdefghij"
# Each aid of a training, with options that make it act within two short epochs.
AIDS = {
    "finder": ("finders=lr", "finders.lr.num_steps=40", "trainer.max_epochs=4"),
    "averages": ("callbacks=[default,ema]", "callbacks.ema.start=0.3"),
    "swa": ("callbacks=[default,swa]", "callbacks.swa.start=0.3"),
    "watching": ("callbacks=[default,histograms,activations]", "logger=csv", "profiler=simple"),
    "bf16": ("trainer.precision=bf16-true", "trainer.accumulate_grad_batches=3"),
}


@dataclass(frozen=True)
class Texts:
    """A project, the text it learns from, and its runs by `data.tokens`."""

    project: Project
    text: str
    runs: dict[str, Run]


def train(project: Project, *options: str) -> Run:
    """Train the small model in a folder of its own."""
    project.count += 1
    folder = project.folder / str(project.count)
    project.module("training").train(project.configure("train", folder, *SMALL, *options))
    return Run(folder, json.loads((folder / "run.json").read_text("utf-8")))


def command(project: Project, name: str, run: Run, *options: str) -> Any:
    """The config of a command for the best checkpoint of a run."""
    checkpoint = run.folder / "checkpoints" / "best.ckpt"
    project.count += 1
    folder = project.folder / str(project.count)
    return project.configure(name, folder, f"ckpt_path={checkpoint}", *options)


def load(project: Project, run: Run) -> Any:
    """The model of the best checkpoint."""
    return project.module("loading").load_model(run.folder / "checkpoints" / "best.ckpt")


@pytest.fixture(scope="module")
def project(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = bake(project_name="Texts", package_name="package_of_text_tests").root
    with on_one_thread(root, tmp_path_factory.mktemp("texts")) as project:
        yield project


@pytest.fixture(scope="module")
def texts(project: Project) -> Texts:
    """A model of characters and one of bytes, of the same text."""
    text = "".join(random.Random(0).choices(WORDS, k=600))
    path = project.folder / "book.txt"
    path.write_text(text, "utf-8")
    options = (f"data.path={path}", "trainer.max_epochs=3")
    runs = {t: train(project, *options, f"data.tokens={t}") for t in ("characters", "bytes")}
    return Texts(project, text, runs)


@pytest.fixture(scope="module")
def periodic(project: Project) -> Run:
    """A model of a text whose every character is determined by the one before it."""
    path = project.folder / "periodic.txt"
    path.write_text(PERIOD * 300, "utf-8")
    return train(project, f"data.path={path}", "trainer.max_epochs=3")


@pytest.mark.parametrize("tokens", ["characters", "bytes"])
def test_score_is_the_bits_of_each_held_out_character(texts: Texts, tokens: str) -> None:
    """Code by code, as the documentation defines it, and divided by characters also for bytes."""
    model = load(texts.project, texts.runs[tokens])
    text, cut = texts.text, round(0.9 * len(texts.text))
    alphabet = sorted(set(text))
    if tokens == "bytes":
        codes, begin = list(text.encode()), len(text[:cut].encode())
    else:
        codes, begin = [alphabet.index(character) for character in text], cut
    bits = 0.0
    for position in range(begin, len(codes)):
        # The last of STRIDE codes are predicted from BLOCK others, and the first from fewer.
        window_end = begin + ((position - begin) // STRIDE + 1) * STRIDE
        first = min(window_end, len(codes)) - 1 - BLOCK
        context = torch.tensor([codes[first:position]])
        assert STRIDE < context.shape[1] <= BLOCK
        logits = model(context)[0, -1].double()
        bits -= float(logits.log_softmax(dim=0)[codes[position]]) / math.log(2)
    expected = bits / (len(text) - cut)
    tested = texts.runs[tokens].metrics["test"]
    assert tested["test/bpc"] == pytest.approx(expected, rel=1e-5)
    assert tested["test/loss"] == pytest.approx(bits * math.log(2) / (len(codes) - begin), rel=1e-5)
    # It has learnt something: guessing would take this many bits.
    assert expected < 0.8 * math.log2(len(alphabet))


def test_predictions_of_the_test_part_are_its_characters(texts: Texts) -> None:
    """One row for each, whose bits have the mean of the metric."""
    run = texts.runs["characters"]
    output = texts.project.folder / "bits.csv"
    predict = texts.project.module("prediction").predict
    predict(command(texts.project, "predict", run, "trainer=cpu", f"output={output}"))
    with output.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert "".join(row["token"] for row in rows) == texts.text[round(0.9 * len(texts.text)) :]
    mean = sum(float(row["bits"]) for row in rows) / len(rows)
    assert mean == pytest.approx(run.metrics["test"]["test/bpc"], rel=1e-5)


def continued(project: Project, run: Run, prompt: str, *options: str) -> str:
    """What predict.py writes for a prompt."""
    (project.folder / "prompt.txt").write_text(prompt, "utf-8")
    output = project.folder / "continued.txt"
    places = (f"input={project.folder / 'prompt.txt'}", f"output={output}")
    project.module("prediction").predict(command(project, "predict", run, *places, *options))
    return output.read_text("utf-8")


def test_temperature_zero_writes_the_most_probable_text(project: Project, periodic: Run) -> None:
    """Beyond the length of a window, and from a prompt that is longer than one."""
    options = ("writing.temperature=0", "writing.length=45")
    for prompt in ("c", PERIOD * 3 + "abc"):
        after = PERIOD.index(prompt[-1]) + 1
        expected = (PERIOD * 6)[after : after + 45]
        assert continued(project, periodic, prompt, *options) == prompt + expected


def test_greedy_text_is_greedy_at_each_place(texts: Texts) -> None:
    """Of a model that is not certain, one character after the other."""
    run = texts.runs["bytes"]
    options = ("writing.temperature=0", "writing.length=12")
    written = continued(texts.project, run, "the", *options).encode()
    model = load(texts.project, run)
    for end in range(3, len(written) - 1):
        logits = model(torch.tensor([list(written[:end])]))
        if int(logits[0, -1].argmax()) != written[end]:
            # The last bytes may be part of a character, which is written as U+FFFD.
            assert "�" in written[end:].decode()
            break


def test_seed_and_temperature_vary_the_text(texts: Texts) -> None:
    """The same command writes the same text."""
    run = texts.runs["characters"]
    one = continued(texts.project, run, "the ", "seed=1")
    assert len(one) == len("the ") + 500
    assert one == continued(texts.project, run, "the ", "seed=1")
    assert one != continued(texts.project, run, "the ", "seed=2")
    assert one != continued(texts.project, run, "the ", "seed=1", "writing.temperature=2")


def test_low_temperature_follows_the_probabilities(texts: Texts) -> None:
    """The frequencies of the first character are those that the model states."""
    model = load(texts.project, texts.runs["characters"])
    torch.manual_seed(0)
    first = [model.continue_text("the ", length=1, temperature=0.5) for _ in range(2000)]
    alphabet = model.hparams["characters"]
    prompt = torch.tensor([[alphabet.index(character) for character in "the "]])
    expected = (model(prompt)[0, -1] / 0.5).softmax(dim=-1)
    for code, character in enumerate(alphabet):
        probability = float(expected[code])
        deviation = math.sqrt(probability * (1 - probability) / 2000)
        assert first.count(character) / 2000 == pytest.approx(probability, abs=5 * deviation + 1e-3)


def test_unusable_prompts_get_one_sentence(texts: Texts) -> None:
    """Each says what is wrong with the file."""
    project, run = texts.project, texts.runs["characters"]
    error = project.module("errors").UserError
    for prompt, message in (
        ("the x", "holds 'x', which does not occur in the text that the model was trained on"),
        ("", "prompt.txt is empty."),
    ):
        with pytest.raises(error, match=message):
            continued(project, run, prompt)
    with pytest.raises(error, match=r"writing.temperature must be a number of at least 0, not -1"):
        continued(project, run, "the", "writing.temperature=-1")
    (project.folder / "latin.txt").write_bytes("über".encode("latin-1"))
    options = (f"input={project.folder / 'latin.txt'}", f"output={project.folder / 'out.txt'}")
    with pytest.raises(error, match=r"is not UTF-8 \(byte 1\)"):
        project.module("prediction").predict(command(project, "predict", run, *options))
    pytest.importorskip("fastapi")
    with pytest.raises(error, match=r"continue a text with predict.py input=prompt.txt"):
        project.module("serving").serve(command(project, "serve", run))


def test_default_output_is_a_text_file(
    texts: Texts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A text called predictions.csv would be opened as a table."""
    monkeypatch.chdir(tmp_path)
    Path("prompt.txt").write_text("the ", "utf-8")
    cfg = command(texts.project, "predict", texts.runs["characters"], "input=prompt.txt")
    texts.project.module("prediction").predict(cfg)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.txt", "prompt.txt"]


def test_samples_are_written_beside_what_follows(texts: Texts) -> None:
    """Prompts and true continuations are passages of the held-out text and what precedes it."""
    cfg = command(texts.project, "evaluate", texts.runs["characters"], "trainer=cpu")
    metrics = texts.project.module("evaluation").evaluate(cfg)
    assert metrics["test/bpc"] == texts.runs["characters"].metrics["test"]["test/bpc"]
    written = (Path(cfg.paths.output_dir) / "texts" / "samples.txt").read_text("utf-8")
    parts = written.split("---------- ")[1:]
    kinds = [part.partition(" ----------\n")[0] for part in parts]
    assert kinds == ["prompt", "written by the model", "in the text"] * 3
    passages = [part.partition(" ----------\n")[2][:-2] for part in parts]
    for prompt, own, true in zip(passages[::3], passages[1::3], passages[2::3], strict=True):
        assert prompt + true in texts.text
        assert len(own) == 300


@pytest.mark.parametrize("tokens", ["characters", "bytes"])
def test_onnx_file_takes_texts_of_any_length(texts: Texts, tokens: str) -> None:
    """A file for a single length could not continue a text."""
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name)
    import onnxruntime

    output = texts.project.folder / f"{tokens}.onnx"
    cfg = command(texts.project, "export", texts.runs[tokens], f"output={output}")
    texts.project.module("exporting").export(cfg)
    session = onnxruntime.InferenceSession(output)
    model = load(texts.project, texts.runs[tokens])
    for rows, length in ((1, 1), (3, 1), (1, 5), (2, BLOCK - 1), (4, BLOCK)):
        x = torch.randint(len(model.begins), (rows, length))
        (found,) = session.run(None, {"input": x.numpy()})
        np.testing.assert_allclose(found, model(x).detach().numpy(), atol=1e-4)


def test_training_with_dropout_resumes_to_the_last_bit(texts: Texts) -> None:
    """Within an epoch: the windows, which begin at random, and the dropout are the same."""
    project = texts.project
    path = project.folder / "book.txt"
    options = (f"data.path={path}", "model.dropout=0.3", "trainer.max_epochs=2")
    whole = train(project, *options)
    crash = "+callbacks.crash={_target_:tests.support.at_batch.Crash,batch:30}"
    often = "callbacks.last_checkpoint.every_n_minutes=0"
    with pytest.raises(RuntimeError, match="a crash"):
        train(project, *options, crash, often)
    last = project.folder / str(project.count) / "checkpoints" / "last.ckpt"
    resumed = train(project, *options, f"ckpt_path={last}")
    for name in ("best", "last"):
        for part in ("global_step", "state_dict", "optimizer_states", "lr_schedulers"):
            assert is_same(resumed.saved(name)[part], whole.saved(name)[part])
    assert resumed.metrics == whole.metrics


@pytest.mark.parametrize("aid", AIDS)
def test_training_aids_work(texts: Texts, aid: str) -> None:
    """Each takes codes and windows as it takes images."""
    path = texts.project.folder / "book.txt"
    run = train(texts.project, f"data.path={path}", "trainer.max_epochs=2", *AIDS[aid])
    assert run.manifest["status"] == "finished"
    assert math.isfinite(run.metrics["test"]["test/bpc"])
    assert (run.folder / "figures" / "loss.png").is_file()


def test_models_and_data_that_do_not_fit_get_one_sentence(project: Project) -> None:
    """Each names a group that fits."""
    for options, message in (
        (("model=mlp",), "The data are a text task and Classifier does classification: choose"),
        (("data=digits",), "The data are a classification task and GPT does text: choose"),
        (("model.n_embd=33",), "model.n_embd=33 is not divisible by model.n_head=4"),
    ):
        words = [
            word for word in SMALL if word.split("=")[0].split(".")[0] not in ("data", "model")
        ]
        cfg = project.configure("train", project.folder / "no", *words, *options)
        with pytest.raises(project.module("errors").UserError, match=message):
            project.module("training").train(cfg)
