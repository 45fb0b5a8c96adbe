"""Names that people choose appear as they are: no formula, markup or box takes their place."""

import html
import io
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

from ..support.template_package import Part

# What matplotlib, rich, HTML and Markdown would each read as something else, and what DejaVu has
# no glyphs for.
NAMES = [
    "$0_to_$10",
    "$5 to $10",
    r"a\$b$",
    "$",
    "_hidden",
    "<b>x</b>",
    "[red]",
    "[/]",
    ":cat:",
    "two\nlines\x1b",
    "a\u202eb",
    "שלום",
    "قطة",
    "猫",
    "日本",
    "🐈",
    "",
    "Zürich é",
    "a very long name that ends in 17",
    "a|b`c",
]
# As they are drawn: control characters as their codes, long names without their middle.
DRAWN = {"two\nlines\x1b": "two lines\\x1b", "a\u202eb": "a\\u202eb"}
DRAWN["a very long name that ends in 17"] = "a very l…s in 17"


@pytest.fixture(autouse=True)
def with_own_fonts(package: Part) -> Iterator[None]:
    """Fonts of other tests are forgotten."""
    package("user_text")._plot_labels.cache_clear()
    with mpl.rc_context():
        yield


def evaluation_of(package: Part, names: list[str], target: str | None = None) -> Any:
    count = len(names)
    targets = torch.arange(2 * count) % count
    logits = torch.eye(count)[(targets + 1) % count] * 5
    preprocessing = {"kind": "image", "mean": [0.5], "std": [0.25]}
    values = torch.linspace(0, 1, 2 * count)
    return package("analysis").Evaluation(
        task="classification" if target is None else "regression",
        class_names=names,
        target_names=[] if target is None else [target],
        preprocessing=preprocessing,
        dataset=[(torch.zeros(1, 4, 4),)] * len(targets),
        targets=targets if target is None else values,
        predictions=logits.softmax(dim=1) if target is None else values + 0.1 * values.sin(),
        losses=values,
        layer=f"the input of net.{target or names[0]}",
        activations=torch.randn(len(targets), 4, generator=torch.Generator().manual_seed(0)),
        positions=torch.arange(len(targets)),
    )


def drawn_texts(figure: Figure) -> list[str]:
    """Everything that is drawn as text, as matplotlib's renderer gets it."""
    texts: list[str] = []
    canvas = FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    draw = renderer.draw_text

    def noted(gc: Any, x: float, y: float, s: str, prop: Any, angle: float, **more: Any) -> None:
        assert not more.get("ismath"), s
        texts.append(s)
        draw(gc, x, y, s, prop, angle, **more)

    renderer.draw_text = noted
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph")
        # Layout first, which measures the texts.
        figure.draw(renderer)
    return texts


PLOTS: dict[str, Callable[[Part, list[str]], Figure]] = {
    "confusion": lambda p, names: p("analysis.confusion").draw_confusion(evaluation_of(p, names)),
    "misclassified": lambda p, names: p("analysis.misclassified").draw_misclassified(
        evaluation_of(p, names)
    ),
    "pca": lambda p, names: p("analysis.pca").draw_pca(evaluation_of(p, names)),
}


@pytest.mark.parametrize("plot", PLOTS)
def test_class_names_are_drawn_literally(
    package: Part, plot: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every class can be found in the picture, under its name or the one that the log gives."""
    texts = drawn_texts(PLOTS[plot](package, NAMES))
    for number, name in enumerate(NAMES):
        shown = DRAWN.get(name, name)
        substitute = f"class {number}"
        is_named = any(re.fullmatch(rf"(.*: )?{re.escape(shown)}( \(\d\))?", t) for t in texts)
        is_numbered = any(re.fullmatch(rf"(.*: )?{substitute}( \(\d\))?", t) for t in texts)
        assert is_named != is_numbered or not name, name
        assert is_numbered == (f"{substitute} is {shown!r}" in caplog.text), name
        if name and max(name) < "\u0500":
            assert is_named, name
    # Nothing can be drawn of an empty name, so one line says which is which.
    assert caplog.text.count("no font of this machine") == caplog.text.count("class 16 is ''") == 1


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("$0 to $10", ["true $0 to $10"]),
        ("猫", ["true 猫", "true target"]),
        ("price in $", ["true price in $"]),
        ("{y}_%s", ["true {y}_%s"]),
        # Of 79 characters there is room for 24 on an axis, and for 60 beside a scale.
        ("x\n" * 40, ["true x x x x x x …x x x x x x", f"true {'x ' * 15}…{' '.join('x' * 15)}"]),
    ],
)
def test_target_names_are_drawn_literally(package: Part, target: str, expected: list[str]) -> None:
    """A price in dollars is not a formula."""
    evaluation = evaluation_of(package, ["a", "b", "c"], target)
    for module, function in (("residuals", "draw_residuals"), ("pca", "draw_pca")):
        texts = drawn_texts(getattr(package(f"analysis.{module}"), function)(evaluation))
        assert set(expected) & set(texts)
        assert all("\n" not in text for text in texts)


def test_layer_names_are_drawn_literally(package: Part) -> None:
    """The key of a ModuleDict may be any text."""
    layers = {"net.$a_$b": [0.1] * 5, "net.猫": [0.2] * 5}
    rows = [{"epoch": epoch, "layers": layers} for epoch in (0, 1)]
    draw = package("callbacks.activations").draw_activations
    texts = drawn_texts(draw(rows, {"net.$a_$b": "Linear", "net.猫": "ReLU"}))
    assert "net.$a_$b  Linear" in texts
    assert "net.猫  ReLU" in texts or "layer 1" in texts


def test_font_with_the_characters_is_used(
    package: Part, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A name that some font has is drawn with it, beside names in the usual one."""
    rare = "\U00016a40"  # a letter that hardly any font has
    fontManager.addfont(write_font(tmp_path / "rare.ttf", rare))
    try:
        figure = PLOTS["confusion"](package, [rare, "b", f"{rare} and b"])
        texts = drawn_texts(figure)
        assert {f"{rare} (2)", "b (2)", f"{rare} and b (2)"} <= set(texts)
        assert "no font" not in caplog.text
        with io.BytesIO() as file:
            figure.savefig(file)
    finally:
        fontManager.ttflist[:] = [e for e in fontManager.ttflist if e.name != "Rare Letters"]


def write_font(path: Path, letter: str) -> Path:
    """Write a font with one letter, a square."""
    from fontTools.fontBuilder import FontBuilder  # type: ignore[import-untyped]
    from fontTools.pens.ttGlyphPen import TTGlyphPen  # type: ignore[import-untyped]

    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((100, 700), (800, 700), (800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(letter): "square"})
    builder.setupGlyf({".notdef": square, "square": square})
    builder.setupHorizontalMetrics({".notdef": (900, 100), "square": (900, 100)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Rare Letters", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def test_label_has_the_pixels_of_its_text(package: Part) -> None:
    """What is drawn looks as the name does where matplotlib is told to draw no formula."""
    label = package("user_text").plot_label
    for name in ("$0_to_$10", "$5 to $10", r"a\$b$", "100 %", "a_b^c"):
        assert np.array_equal(pixels(label(name, "?"), True), pixels(name, False)), name
    assert not np.array_equal(pixels("$5 to $10", True), pixels("$5 to $10", False))


def pixels(text: str, parse_math: bool) -> Any:
    figure = Figure(figsize=(3, 1))
    figure.add_artist(Text(0.1, 0.5, text, parse_math=parse_math))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("name", ["[red]", "[/]", ":cat:", "[bold]x[/bold]", "<b>x</b>"])
def test_console_tables_show_names_as_they_are(
    package: Part, name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A run called [/] ended in a traceback after its training, one called :cat: was a picture."""
    summary = package("runs.summary")
    metrics = {"best": {f"val/{name}": 0.5}, "test": {f"test/{name}": 0.25}}
    summary.print_metrics(name, metrics)
    summary.print_places(tmp_path / name, {"checkpoints": {"best": f"{name}/best.ckpt"}})
    package("analysis").Table([name], [[name]], shown=1).show(name)
    printed = capsys.readouterr().out
    # Run and metric, folder and checkpoint, column, cell and title.
    assert printed.count(name) == 7


def test_live_table_of_a_sweep_shows_names_as_they_are(package: Part) -> None:
    """The names of study, metric and host are texts, whatever they look like to rich."""
    from rich.console import Console

    display = package("sweeps.display").Display("[red]", "val/[/]", 3)
    display.start(SimpleNamespace(number=0, earlier=(), params={"a": "[bold]"}), "[host]")
    console = Console(file=io.StringIO(), width=200)
    console.print(display.table())
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    for name in ("[red]: 0 finished", "val/[/]", "a=[bold]", "[host]"):
        assert name in printed


@pytest.mark.parametrize(
    "text",
    ["a|b", "<b>x</b>", "*x*", "_y_ _z", "`q`", "``", "a|`b`", "$5 to $10", "[link](u)", "&amp;"],
)
def test_tensorboard_shows_texts_as_they_are(package: Part, text: str) -> None:
    """Commands, packages and layers stand in tables that TensorBoard reads as Markdown."""
    from tensorboard.plugin_util import markdown_to_safe_html

    description = package("callbacks.run_description")
    table = description.environment_texts({"command": ["train.py", text], "packages": {text: text}})
    page = markdown_to_safe_html(table["environment"])
    cells = [
        html.unescape(re.sub("<[^>]*>", "", cell))
        for cell in re.findall("<td.*?>(.*?)</td>", page, re.DOTALL)
    ]
    assert cells[:2] == ["command", f"train.py {text}"]
    assert cells[-2:] == [text, text]
    block = markdown_to_safe_html(description.fenced(f"````\n{text}\n", "yaml"))
    assert f"````\n{text}\n" in html.unescape(re.sub("<[^>]*>", "", block.replace("<pre>", "")))


def test_tensorboard_names_files_without_their_hashes(package: Part) -> None:
    """Outside git all sources are untracked: their hashes would fill pages of the TEXT tab."""
    texts = package("callbacks.run_description").environment_texts
    few = texts({"git": {"changed": {"a.py": "0f" * 32, "b.yaml": "1e" * 32}}})["environment"]
    assert "| git changed | a.py, b.yaml |" in few
    files = {f"{number}.py": "0f" * 32 for number in range(23)}
    many = texts({"git": {"untracked": files}})["environment"]
    assert "18.py, 19.py and 3 more |" in many
    assert "0f0f" not in few + many
