"""Plots and tables of evaluate.py: the numbers are correct, and the texts can be read.

The template's package is imported where it lies, without baking a project.
"""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hydra.utils import get_method
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from sklearn.decomposition import PCA
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import Tensor
from torch.nn import functional as F

from ..conftest import BakedProject
from ..support.template_package import PACKAGE, Part
from ..support.training_runs import TrainedRun, run_all

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def classified(package: Part) -> Make:
    """Makes the evaluation of a classifier of 4 x 4 grey images from its logits."""

    def make(logits: Tensor, targets: Tensor, names: list[str] | None = None, **told: Any) -> Any:
        names = names or [f"c{number}" for number in range(logits.shape[1])]
        preprocessing = {"kind": "image", "mean": [0.5], "std": [0.25]}
        told = {"class_names": names, "preprocessing": preprocessing} | told
        images = torch.linspace(-2, 2, len(targets) * 16).view(-1, 1, 4, 4)
        return package("analysis").Evaluation(
            task="classification",
            **told,
            dataset=list(zip(images, targets, strict=True)),
            targets=targets,
            predictions=logits.softmax(dim=1),
            losses=F.cross_entropy(logits, targets, reduction="none"),
            layer="the output of net.features",
            activations=logits @ torch.ones(logits.shape[1], 5).cumsum(dim=1),
            positions=torch.arange(len(targets)),
        )

    return make


@pytest.fixture(scope="module")
def regressed(package: Part) -> Make:
    """Makes the evaluation of a regressor of a table."""

    def make(predictions: Tensor, targets: Tensor) -> Any:
        names = ["price (EUR)", "area (m²)", "rooms"]
        return package("analysis").Evaluation(
            task="regression",
            target_names=names[: targets.shape[1] if targets.dim() == 2 else 1],
            preprocessing={"kind": "table"},
            dataset=list(zip(targets, targets, strict=True)),
            targets=targets,
            predictions=predictions,
            losses=(predictions - targets).square().view(len(targets), -1).mean(dim=1),
            layer="the output of net.features",
            activations=torch.stack([targets, predictions, targets * predictions], dim=1).flatten(
                1
            ),
            positions=torch.arange(len(targets)),
        )

    return make


def logits_for(predicted: list[int], classes: int) -> Tensor:
    """Logits of a model that says these classes."""
    return 3.0 * F.one_hot(torch.tensor(predicted), classes).float()


# The numbers


def test_class_table_agrees_with_scikit_learn(package: Part, classified: Make) -> None:
    """A wrong denominator gives recall for precision, and a model is chosen by it."""
    rng = np.random.default_rng(0)
    # Class 3 is never predicted, class 4 never occurs, class 5 does neither.
    true = rng.choice([0, 1, 2, 3], 200)
    said = np.where(rng.random(200) < 0.6, true % 3, rng.choice([0, 1, 2, 4], 200))
    table = package("analysis.classes").tabulate_classes(
        classified(logits_for(said.tolist(), 6), torch.from_numpy(true))
    )
    expected = precision_recall_fscore_support(true, said, labels=range(6), zero_division=np.nan)
    rows = sorted(table.rows, key=lambda row: row[0])
    assert [row[0] for row in rows] == [f"c{number}" for number in range(6)]
    ours = np.array([row[1:] for row in rows], dtype=float).T
    np.testing.assert_allclose(ours, np.array(expected, dtype=float), rtol=1e-6)
    # The worst class is first, undefined scores are last.
    scores = [row[3] for row in table.rows]
    assert scores[:-1] == sorted(scores[:-1])
    assert np.isnan(scores[-1])


def test_table_leaves_undefined_values_empty(package: Part, tmp_path: Path) -> None:
    """A zero where nothing could be measured would count as the worst result."""
    rows = [["[red]", float("nan"), 1.0], ["blue, dark", 0.123456789, None]]
    package("analysis").Table(["class", "a", "b"], rows).save(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["class", "a", "b"],
            ["[red]", "", "1.0"],
            ["blue, dark", "0.123456789", ""],
        ]


def test_printed_table_is_cut_and_holds_any_name(
    package: Part, capsys: pytest.CaptureFixture[str]
) -> None:
    """A thousand classes would push everything else off the screen; [red] is no colour here."""
    rows = [[f"[red] {number}", 0.5] for number in range(30)]
    package("analysis").Table(["class", "f1"], rows, shown=20).show("classes")
    printed = capsys.readouterr().out
    assert "[red] 19" in printed
    assert "[red] 20" not in printed
    assert "... and 10 more" in printed


def test_confusion_shows_fractions_of_the_true_class(package: Part, classified: Make) -> None:
    """Fractions of the predicted class look alike and mean something else."""
    true, said = [0, 0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 1, 2, 2]
    evaluation = classified(logits_for(said, 4), torch.tensor(true))
    axes = package("analysis.confusion").draw_confusion(evaluation).axes[0]
    shown = axes.images[0].get_array()
    expected = confusion_matrix(true, said, labels=range(4), normalize="true")
    np.testing.assert_allclose(np.asarray(shown), np.nan_to_num(expected))
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells[(1, 0)] == "25%\n(1)"
    assert cells[(0, 0)] == "75%\n(3)"
    assert axes.get_yticklabels()[3].get_text() == "c3 (0)"


def test_calibration_error_by_hand(package: Part) -> None:
    """Bins that lose their samples, or weigh alike, give a better number than the true one."""
    calibration = package("analysis.calibration")
    confidence = torch.tensor([1.0, 0.9, 0.9, 0.9, 0.2], dtype=torch.float64)
    correct = torch.tensor([True, True, True, False, True])
    counts, accuracy, mean = calibration.bin_by_confidence(confidence, correct, bins=5)
    # Bins end at 0.2, 0.4, 0.6, 0.8 and 1; the right edge belongs to the bin.
    assert counts.tolist() == [1, 0, 0, 0, 4]
    assert accuracy[4] == pytest.approx(0.75)
    assert mean[4] == pytest.approx(0.925)
    by_hand = 1 / 5 * abs(1 - 0.2) + 4 / 5 * abs(0.75 - 0.925)
    assert calibration.calibration_error(counts, accuracy, mean) == pytest.approx(by_hand)


def test_misclassified_images_are_raw_and_most_confident_first(
    package: Part, classified: Make
) -> None:
    """Normalised pixels cannot be recognised, and unsure errors teach less."""
    logits = logits_for([0, 1, 1, 0], 2) * torch.tensor([[1.0], [0.5], [2.0], [1.0]])
    evaluation = classified(logits, torch.tensor([0, 0, 0, 0]), ["cat", "dog"])
    figure = package("analysis.misclassified").draw_misclassified(evaluation)
    first, second = (axes for axes in figure.axes if axes.images)
    assert first.get_title() == "true: cat\npredicted: dog\nprobability 99.8%"
    assert second.get_title().endswith("81.8%")
    raw = (torch.linspace(-2, 2, 64).view(4, 4, 4)[2] * 0.25 + 0.5).clamp(0, 1)
    np.testing.assert_allclose(first.images[0].get_array(), raw, atol=1e-6)


def test_there_are_no_images_of_tables_or_without_errors(package: Part, classified: Make) -> None:
    draw = package("analysis.misclassified").draw_misclassified
    right, wrong = torch.tensor([0, 1]), torch.tensor([1, 1])
    assert draw(classified(logits_for([0, 1], 2), right)) is None
    assert draw(classified(logits_for([0, 1], 2), wrong)) is not None
    table = {"preprocessing": {"kind": "table"}}
    assert draw(classified(logits_for([0, 1], 2), wrong, **table)) is None


def test_principal_components_agree_with_scikit_learn(package: Part) -> None:
    """Components of uncentred data, or of features that were scaled, show other clusters."""
    components = package("analysis.pca").principal_components
    random = torch.Generator().manual_seed(0)
    scales = torch.linspace(5, 0.1, 40)
    activations = 100 + torch.randn(300, 40, generator=random) * scales
    points, fractions = components(activations)
    reference = PCA(2, svd_solver="full").fit(activations.double().numpy())
    expected = reference.transform(activations.double().numpy())
    signs = np.sign((points.numpy() * expected).sum(axis=0))
    np.testing.assert_allclose(points.numpy(), expected * signs, atol=1e-3)
    np.testing.assert_allclose(fractions.numpy(), reference.explained_variance_ratio_, rtol=1e-4)
    # The sign depends neither on the order of the samples nor on random numbers used before.
    torch.rand(1)
    order = torch.randperm(300, generator=random)
    again, _ = components(activations[order])
    np.testing.assert_allclose(again.numpy(), points[order].numpy(), atol=1e-3)


def test_quantiles_of_a_normal_sample_lie_on_the_line(package: Part) -> None:
    """A plot against other quantiles would call any residuals heavy-tailed."""
    normal = np.array([NormalDist().inv_cdf((place + 0.5) / 500) for place in range(500)])
    residuals = 7 + 3 * torch.from_numpy(normal)
    expected, observed = package("analysis.residuals").normal_quantiles(residuals.flip(0))
    np.testing.assert_allclose(expected.numpy(), normal, atol=1e-6)
    np.testing.assert_allclose(observed.numpy(), expected.numpy(), atol=0.02)


def test_labels_are_judged_one_by_one(package: Part) -> None:
    """With several labels per sample, no class is taken for another."""
    names = ["red", "round", "sweet"]
    random = np.random.default_rng(0)
    true, probabilities = random.random((50, 3)) < [0.5, 0.1, 0.0], random.random((50, 3))
    losses = torch.from_numpy(random.random(50))
    evaluation = package("analysis").Evaluation(
        task="multilabel",
        dataset=[],
        targets=torch.from_numpy(true).float(),
        predictions=torch.from_numpy(probabilities),
        losses=losses,
        layer="",
        activations=torch.empty(0, 0),
        positions=torch.arange(50),
        class_names=names,
    )
    table = package("analysis.classes").tabulate_classes(evaluation)
    said = probabilities >= 0.5
    expected = precision_recall_fscore_support(true, said, zero_division=np.nan)
    found = np.array([row[1:] for row in sorted(table.rows, key=lambda row: names.index(row[0]))])
    np.testing.assert_allclose(found.astype(float).T, np.array(expected, dtype=float))
    assert table.columns[0] == "label"
    rows = package("analysis.losses").tabulate_losses(evaluation).rows
    worst = int(losses.argmax())
    assert rows[0][0] == worst
    assert rows[0][1] == ";".join(np.array(names)[true[worst]])
    assert rows[0][2] == ";".join(np.array(names)[said[worst]])


def test_each_target_has_its_residuals(package: Part, regressed: Make) -> None:
    """Residuals of several targets in one plot would be apples and oranges."""
    random = torch.Generator().manual_seed(0)
    targets = torch.randn(60, 2, generator=random).double() * torch.tensor([1.0, 100.0])
    evaluation = regressed(targets + torch.tensor([2.0, -30.0]), targets)
    figure = package("analysis.residuals").draw_residuals(evaluation)
    titles = [part.get_suptitle() for part in figure.subfigs]
    assert [title.split(":")[0] for title in titles] == ["price (EUR)", "area (m²)"]
    assert "with mean 2 " in titles[0]
    assert "with mean -30 " in titles[1]
    table = package("analysis.losses").tabulate_losses(evaluation)
    assert table.columns[1:-1] == [
        "true price (EUR)",
        "true area (m²)",
        "predicted price (EUR)",
        "predicted area (m²)",
    ]


# The plots


def analyses_of(package: Part, task: str) -> dict[str, Callable[[Any], Any]]:
    """The analyses that the config group has for a task, by name."""
    found = {}
    name_of_package = package("models").__name__.partition(".")[0]
    for file in sorted((PACKAGE.parent / "configs" / "analyses").glob("*.yaml")):
        text = file.read_text("utf-8").replace("{{= cookiecutter.package_name }}", name_of_package)
        for name, entry in yaml.safe_load(text).items():
            if task in entry.get("tasks", [task]):
                found[name] = get_method(entry["function"])
    return found


def hard_cases(classified: Make, regressed: Make) -> dict[str, Any]:
    """Evaluations that break plots: many, few, empty, constant, long."""
    random = torch.Generator().manual_seed(0)
    many = torch.randint(100, (600,), generator=random)
    noise = torch.randn(600, 100, generator=random)
    long = [f"a class with quite a long name, number {number}" for number in range(100)]
    targets = torch.randn(80, generator=random)
    few = torch.tensor([0, 1, 1, 0, 1])
    return {
        "two classes": classified(torch.randn(5, 2, generator=random), few),
        "ten long names": classified(noise[:, :10], many % 10, long[:10]),
        "thirty long names": classified(noise[:6, :30], many[:6] % 30, long[:30]),
        "a hundred long names": classified(noise + 6 * F.one_hot(many, 100), many, long),
        "an empty class": classified(noise[:5, :3], few),
        "one class said": classified(logits_for([1] * 5, 3), few),
        "one sample": classified(logits_for([1], 3), few[:1]),
        "regression": regressed(targets + 0.3 * torch.randn(80, generator=random), targets),
        "constant": regressed(torch.full((5,), 3.0), torch.full((5,), 3.0)),
        "one number": regressed(torch.tensor([3.0]), torch.tensor([4.0])),
        "three targets": regressed(noise[:80, :3], noise[80:160, :3]),
    }


@pytest.mark.filterwarnings("error::Warning")
def test_every_plot_can_be_read(package: Part, classified: Make, regressed: Make) -> None:
    """An empty plot, or a name cut off at the edge, is noticed too late."""
    drawn = set()
    for case, evaluation in hard_cases(classified, regressed).items():
        for name, analyse in analyses_of(package, evaluation.task).items():
            made = analyse(evaluation)
            if isinstance(made, Figure):
                drawn.add(name)
                colours = np.unique(draw(made))
                assert cut_off(made) == [], (case, name)
                assert len(colours) > 20, (case, name)
    assert drawn == {"confusion", "calibration", "misclassified", "pca", "residuals"}
    # The names tell which class is meant, so shortening must leave their difference.
    shorten = package("user_text").shorten
    assert shorten("short") == "short"
    assert shorten("a class with a number 17") == "a class …mber 17"


def draw(figure: Figure) -> Any:
    """The pixels of a plot, one number each, coarser than evaluate.py saves them."""
    figure.set_dpi(50)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.frombuffer(canvas.buffer_rgba(), dtype=np.uint32)


def cut_off(figure: Figure) -> list[str]:
    """Texts that lie outside the plot."""
    left, bottom, right, top = figure.bbox.extents
    outside = []
    for text in drawn_texts(figure):
        box = text.get_window_extent()
        inside = left - 1 <= box.x0 and bottom - 1 <= box.y0
        if not (inside and box.x1 <= right + 1 and box.y1 <= top + 1):
            outside.append(text.get_text())
    return outside


def drawn_texts(figure: Figure) -> Iterator[Text]:
    """All texts of a plot; axes also keep labels of ticks that they do not draw."""
    yield from figure.texts
    for axes in figure.axes:
        yield axes.title
        yield from axes.texts
        legend = axes.get_legend()
        if legend is not None:
            yield from legend.get_texts()
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            if axes.axison:
                yield axis.label
                for tick in axis.get_major_ticks():
                    is_inside = min(limits) <= tick.get_loc() <= max(limits)
                    if is_inside and tick.label1.get_visible():
                        yield tick.label1


# The script


@pytest.fixture(scope="module")
def evaluated(
    demo: BakedProject,
    digits: TrainedRun,
    diabetes: TrainedRun,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("evaluated")
    checkpoint = f"ckpt_path={digits.checkpoint()}"

    def command(name: str, *options: str) -> tuple[str, ...]:
        return ("evaluate.py", f"hydra.run.dir={folder / name}", *options)

    answers = run_all(
        demo,
        command("digits", checkpoint),
        command("val", checkpoint, "split=val", "analyses=[pca,losses]", "layer=net.features.0"),
        command("none", checkpoint, "analyses=[]"),
        command("diabetes", f"ckpt_path={diabetes.checkpoint()}"),
        command("unknown", checkpoint, "analyses=[pac]"),
        command("wrong", checkpoint, "analyses=[residuals]"),
        command("layer", checkpoint, "layer=net.faetures"),
    )
    return folder, answers


def made_files(folder: Path) -> set[str]:
    """Plots and tables of an evaluation."""
    return {path.stem for path in folder.glob("*/*") if path.suffix in (".png", ".csv")}


def test_an_evaluation_leaves_plots_and_tables(evaluated: tuple[Path, list[str]]) -> None:
    folder, answers = evaluated
    assert answers[:4] == ["", "", "", ""]
    classification = {"classes", "losses", "confusion", "calibration", "misclassified", "pca"}
    assert made_files(folder / "digits") == classification
    assert made_files(folder / "val") == {"pca", "losses"}
    assert made_files(folder / "none") == set()
    assert made_files(folder / "diabetes") == {"residuals", "losses", "pca"}
    with (folder / "digits" / "tables" / "losses.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    report = json.loads((folder / "digits" / "metrics.json").read_text("utf-8"))
    metrics = report["metrics"]["test"]
    mean = sum(float(row["loss"]) for row in rows) / len(rows)
    assert mean == pytest.approx(metrics["test/loss"], rel=1e-4)
    right = sum(row["true"] == row["predicted"] for row in rows) / len(rows)
    assert right == pytest.approx(metrics["test/acc"])


def test_unknown_analyses_and_layers_are_refused(evaluated: tuple[Path, list[str]]) -> None:
    _, (*_, unknown, wrong, layer) = evaluated
    assert unknown == "error: There is no analyses=pac; did you mean 'pca'?"
    assert wrong.startswith("error: The analysis 'residuals' does not apply to a Classifier:")
    assert layer == "error: The model has no layer 'net.faetures'; did you mean 'net.features'?"
