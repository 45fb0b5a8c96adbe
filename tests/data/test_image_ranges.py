"""Images of more than 8 bits, which rarely fill their range: read as black, nothing is learnt."""

import json
import logging
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ..conftest import BakedProject
from ..support.in_process import Project
from ..support.template_package import Part, template_package

Values = NDArray[Any]
SIZE = 16


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Part]:
    with template_package(tmp_path_factory.mktemp("package"), "package_of_range_tests") as package:
        yield package


def twelve_bits(values: Values) -> Values:
    return (4095 * values).astype(np.uint16)


# Shades from 0 to 1 as files have them, and the ending of the file.
KINDS: dict[str, tuple[Callable[[Values], Values], str]] = {
    "8 of 16 bits": (lambda v: (255 * v).astype(np.uint16), "png"),
    "10 of 16 bits": (lambda v: (1023 * v).astype(np.uint16), "tif"),
    "12 of 16 bits": (twelve_bits, "png"),
    "32 bits": (lambda v: (1_000_000_000 + 70_000 * v).astype(np.int32), "tif"),
    "negative": (lambda v: (-1024 + 4000 * v).astype(np.int32), "tif"),
    "floats to 1": (lambda v: v.astype(np.float32), "tif"),
    "small floats": (lambda v: (1e-6 * v).astype(np.float32), "tif"),
}


def shades(number: int, bright: bool) -> Values:
    """Noise from 0.1 to 0.4 or from 0.6 to 0.9."""
    noise = np.random.default_rng(number).uniform(0.1, 0.4, (SIZE, SIZE))
    return noise + 0.5 if bright else noise


def write_folder(root: Path, kind: str, count: int = 20) -> Path:
    """Write `count` images of each of two classes."""
    convert, ending = KINDS[kind]
    for name in ("bright", "dark"):
        (root / name).mkdir(parents=True)
        for number in range(count):
            values = convert(shades(number, bright=name == "bright"))
            Image.fromarray(values).save(root / name / f"{number}.{ending}")
    return root


def set_up(package: Part, root: Path, **options: Any) -> Any:
    module = package("data").ImageFolderDataModule(
        root, **{"channels": 1, "num_workers": 0, "flip": False} | options
    )
    module.setup()
    return module


def values_of(paths: list[Path]) -> Values:
    return np.stack([np.asarray(Image.open(path)).astype(np.float64) for path in paths])


def expected_inputs(train: Values, values: Values) -> Values:
    """What becomes of values: scaled from lowest to highest of the training, standardised."""
    low, high = train.min(), train.max()
    scaled = (train - low) / (high - low)
    return (((values - low) / (high - low)).clip(0, 1) - scaled.mean()) / scaled.std()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_values_keep_all_their_levels(
    package: Part, tmp_path: Path, kind: str, channels: int
) -> None:
    module = set_up(package, write_folder(tmp_path, kind), channels=channels)
    parts = module.datasets
    train = values_of(parts["train"].paths)
    assert module.preprocessing["value_range"] == [train.min(), train.max()]
    for dataset in parts.values():
        x, _ = dataset.__getitems__(list(range(len(dataset))))
        expected = expected_inputs(train, values_of(dataset.paths))[:, None]
        assert x.dtype == torch.float32
        assert np.abs(x.numpy() - expected).max() < 1e-5
        assert x.shape[1] == channels
    # Predictions and the server read the very same, from plain values.
    preprocessing = json.loads(json.dumps(module.preprocessing))
    path = parts["test"].paths[0]
    for found in (
        package("data.inputs").read_inputs(preprocessing, path),
        package("serving").read_body(preprocessing, path.read_bytes()),
    ):
        assert torch.equal(found.x[0], parts["test"][0][0])


def test_values_outside_the_range_are_clipped_and_reported(
    package: Part, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = set_up(package, write_folder(tmp_path / "train", "12 of 16 bits"))
    train = values_of(module.datasets["train"].paths)
    new = tmp_path / "new"
    new.mkdir()
    images = {"inside": train[0], "over": train[0] + 5000, "under": train[0] * 0}
    for name, values in images.items():
        Image.fromarray(values.astype(np.uint16)).save(new / f"{name}.png")
    with caplog.at_level(logging.WARNING):
        inputs = package("data.inputs").read_inputs(module.preprocessing, new)
    expected = expected_inputs(train, np.stack([images[Path(n).stem] for n in inputs.names]))
    assert np.abs(inputs.x[:, 0].numpy() - expected).max() < 1e-5
    (message,) = [r.getMessage() for r in caplog.records if r.name.endswith("data.inputs")]
    low, high = module.preprocessing["value_range"]
    assert message.startswith("2 of 3 images have values outside the range")
    assert f"{low:g} to {high:g}" in message
    assert message.endswith("over.png, under.png")


def test_images_of_8_bits_fill_their_range_beside_others(
    package: Part, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_folder(tmp_path, "12 of 16 bits")
    for number in range(20):
        for name in ("bright", "dark"):
            pixels = (255 * shades(number, name == "bright")).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"small {number}.png")
    with caplog.at_level(logging.WARNING):
        module = set_up(package, root)
    assert any("have 8 bits" in record.getMessage() for record in caplog.records)
    dataset = module.datasets["train"]
    narrow = next(i for i, path in enumerate(dataset.paths) if path.name.startswith("small"))
    pixels = values_of([dataset.paths[narrow]])[0]
    mean, std = module.preprocessing["mean"][0], module.preprocessing["std"][0]
    assert np.abs(dataset[narrow][0][0].numpy() - (pixels / 255 - mean) / std).max() < 1e-5


def test_images_of_8_bits_are_read_as_bytes(package: Part, tmp_path: Path) -> None:
    for name, low in (("bright", 128), ("dark", 0)):
        (tmp_path / name).mkdir()
        for number in range(20):
            pixels = np.random.default_rng(number).integers(low, low + 100, (SIZE, SIZE, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / f"{number}.png")
    module = set_up(package, tmp_path, channels=3)
    assert module.preprocessing["value_range"] is None
    train = values_of(module.datasets["train"].paths) / 255
    assert module.preprocessing["mean"] == pytest.approx(train.mean((0, 1, 2)).tolist(), rel=1e-9)
    assert module.preprocessing["std"] == pytest.approx(train.std((0, 1, 2)).tolist(), rel=1e-9)
    read = package("data.images").read_image(
        module.datasets["train"].paths[0],
        *package("data.images").reading_options(module.preprocessing),
    )
    assert read.dtype == torch.uint8


@pytest.mark.parametrize("kind", ["12 of 16 bits", "floats to 1", "bytes"])
def test_a_single_value_everywhere_is_refused(package: Part, tmp_path: Path, kind: str) -> None:
    for name in ("bright", "dark"):
        (tmp_path / name).mkdir()
        for number in range(5):
            values = np.full((SIZE, SIZE), 0.5)
            if kind == "bytes":
                Image.fromarray((100 * values).astype(np.uint8)).save(
                    tmp_path / name / f"{number}.png"
                )
                continue
            convert, ending = KINDS[kind]
            Image.fromarray(convert(values)).save(tmp_path / name / f"{number}.{ending}")
    with pytest.raises(package("errors").UserError, match="nothing to learn") as refused:
        set_up(package, tmp_path)
    assert "\n" not in str(refused.value)


def test_a_value_that_is_no_number_is_named(package: Part, tmp_path: Path) -> None:
    root = write_folder(tmp_path, "floats to 1")
    spoilt = np.full((SIZE, SIZE), np.nan, np.float32)
    Image.fromarray(spoilt).save(root / "dark" / "3.tif")
    with pytest.raises(package("errors").UserError, match="infinite or NaN") as refused:
        set_up(package, root)
    assert str(root / "dark" / "3.tif") in str(refused.value)


def test_a_model_of_bytes_refuses_floats(package: Part, tmp_path: Path) -> None:
    Image.fromarray(shades(0, True).astype(np.float32)).save(tmp_path / "new.tif")
    with pytest.raises(package("data.images").ImageError, match="8 bits per channel"):
        package("data.images").read_image(tmp_path / "new.tif", 1, SIZE, SIZE)


def png(header: bytes, rows: bytes) -> bytes:
    """A PNG file of its header and its rows, each with a filter byte before it."""
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    file = b"\x89PNG\r\n\x1a\n"
    for name, content in chunks:
        checksum = zlib.crc32(name + content)
        file += struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)
    return file


def png_of_16_bit_colours(values: Values) -> bytes:
    """A PNG file of RGB values (H, W, 3), which Pillow cannot write with 16 bits."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0), rows)


def test_colours_whose_low_byte_would_be_lost_are_refused(package: Part, tmp_path: Path) -> None:
    for scale, root in ((4095, tmp_path / "twelve bits"), (65535, tmp_path / "full")):
        for name in ("bright", "dark"):
            (root / name).mkdir(parents=True)
            for number in range(5):
                values = np.repeat(shades(number, name == "bright")[..., None], 3, axis=2)
                content = png_of_16_bit_colours((scale * values).astype(np.uint16))
                (root / name / f"{number}.png").write_bytes(content)
    set_up(package, tmp_path / "full", channels=3)
    with pytest.raises(package("errors").UserError, match="upper 8 bits"):
        set_up(package, tmp_path / "twelve bits", channels=3)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        # Heights and widths; the median of each, from 16 to 64.
        ([(32, 32)], (32, 32)),
        ([(20, 50), (22, 40), (90, 41)], (22, 41)),
        ([(8, 300)], (16, 64)),
    ],
)
def test_an_image_is_not_enlarged_by_default(
    package: Part, tmp_path: Path, sizes: list[tuple[int, int]], expected: tuple[int, int]
) -> None:
    """Twice the size costs four times the time."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "val" / name).mkdir(parents=True)
        (tmp_path / "test" / name).mkdir(parents=True)
        for number, (height, width) in enumerate(sizes):
            pixels = random.integers(0, 256, (height, width), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "train" / name / f"{number}.png")
        for part in ("val", "test"):
            Image.fromarray(pixels).resize((64, 64)).save(tmp_path / part / name / "0.png")
    module = set_up(package, tmp_path, shift=1)
    assert module.input_shape == (1, *expected)
    assert (module.preprocessing["height"], module.preprocessing["width"]) == expected
    assert set_up(package, tmp_path, height=40, shift=1).input_shape == (1, 40, expected[1])
    with pytest.raises(package("errors").UserError, match=f"from 0 to {min(expected) - 1}, not 64"):
        set_up(package, tmp_path, shift=64)


def test_an_image_is_measured_upright(package: Part, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    facts = package("data.image_checks").measure(tmp_path / "turned.jpg")
    assert (facts.height, facts.width) == (40, 20)


@pytest.fixture(scope="module")
def project(demo: BakedProject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(demo.root)
        yield Project(demo.root, tmp_path_factory.mktemp("runs"))


def test_twelve_bits_are_learnt_predicted_and_exported(project: Project, tmp_path: Path) -> None:
    """Read as 16 bits they are black: the accuracy was that of guessing."""
    folder = write_folder(tmp_path / "pictures", "12 of 16 bits", count=30)
    options = ("data=image_folder", f"data.path={folder}", "data.batch_size=8")
    run = project.train(
        *options, "data.channels=1", "data.num_workers=0", "data.shift=0", "optimizer.lr=0.01"
    )
    assert run.metrics["test"]["test/acc"] == 1
    assert run.manifest["config"]["data"]["height"] == "auto"
    best = run.folder / "checkpoints" / "best.ckpt"
    assert project.evaluate(best, "test")["test/acc"] == 1

    prediction = project.module("prediction")
    model = prediction.load_predictor(best)
    inputs = project.module("data.inputs").read_inputs(model.hparams["preprocessing"], folder)
    inputs, expected = prediction.run_model(model, inputs, 60)
    found = [model.hparams["class_names"][label] for label in expected.argmax(axis=1)]
    assert found == [Path(name).parts[0] for name in inputs.names]

    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name)
    import onnxruntime

    file = tmp_path / "model.onnx"
    export = project.configure("export", tmp_path, f"ckpt_path={best}", f"output={file}")
    project.module("exporting").export(export)
    session = onnxruntime.InferenceSession(file)
    (node,) = session.get_inputs()
    assert (node.name, node.type) == ("pixels", "tensor(float)")
    values = values_of([folder / name for name in inputs.names])[:, None].astype(np.float32)
    (answers,) = session.run(None, {"pixels": values})
    assert np.abs(answers - expected).max() < 1e-5
    preprocessing = json.loads(session.get_modelmeta().custom_metadata_map["preprocessing"])
    assert preprocessing["value_range"] == model.hparams["preprocessing"]["value_range"]


def test_the_server_says_why_it_reads_no_image(package: Part) -> None:
    preprocessing = {"kind": "image", "channels": 1, "height": 8, "width": 8}
    preprocessing |= {"value_range": None, "mean": [0.5], "std": [0.5]}
    huge = png(struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0), b"")
    noise = np.random.default_rng(0).integers(0, 65536, (8, 8, 3))
    cut = png_of_16_bit_colours(noise)[:90]
    for body, reason in (
        (huge, "it has more than 178,956,970 pixels"),
        (b"a,b\n1,2\n", "it is not an image file of a known format"),
        (cut, "truncated"),
    ):
        with pytest.raises(package("errors").UserError) as refused:
            package("serving").read_body(preprocessing, body)
        message = str(refused.value)
        assert reason in message
        assert message.startswith("The image of the request cannot be read (")
        assert "BytesIO" not in message
        assert "\n" not in message
