"""Images of more than 8 bits, which rarely fill their range: read as black, nothing is learned."""

import json
import logging
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ..conftest import BakedProject
from ..support.in_process import Project
from ..support.template_package import Part
from .conftest import Rejection, image_folder, write_images

Values = NDArray[Any]
SIZE = 16


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


def write_classes(root: Path, write: Callable[[Path, Values], None], count: int = 20) -> Path:
    """Let `write` write `count` images of each of two classes, bright and dark."""
    for name in ("bright", "dark"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            write(root / name / str(number), shades(number, bright=name == "bright"))
    return root


def save(values: Values, path: Path, ending: str = "png") -> None:
    Image.fromarray(values).save(f"{path}.{ending}")


def write_folder(root: Path, kind: str, count: int = 20) -> Path:
    """Write `count` images of each of two classes."""
    convert, ending = KINDS[kind]
    return write_classes(root, lambda path, values: save(convert(values), path, ending), count)


def set_up(data: ModuleType, root: Path, **options: Any) -> Any:
    size: dict[str, Any] = {"height": "auto", "width": "auto", "channels": 1, "flip": False}
    module = image_folder(data, root, **size | options)
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
    package: Part, data: ModuleType, tmp_path: Path, kind: str, channels: int
) -> None:
    module = set_up(data, write_folder(tmp_path, kind), channels=channels)
    train = values_of(module.datasets["train"].paths)
    assert module.preprocessing["value_range"] == [train.min(), train.max()]
    for dataset in module.datasets.values():
        x, _ = dataset.__getitems__(list(range(len(dataset))))
        expected = expected_inputs(train, values_of(dataset.paths))[:, None]
        assert x.dtype == torch.float32
        assert np.abs(x.numpy() - expected).max() < 1e-5
        assert x.shape[1] == channels
    # Predictions and the server read exactly the same, from plain values.
    preprocessing = json.loads(json.dumps(module.preprocessing))
    test = module.datasets["test"]
    path = test.paths[0]
    for found in (
        package("data.inputs").read_inputs(preprocessing, path),
        package("serving").read_body(preprocessing, path.read_bytes()),
    ):
        assert torch.equal(found.x[0], test[0][0])


def test_values_outside_the_range_are_clipped_and_reported(
    package: Part, data: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = set_up(data, write_folder(tmp_path / "train", "12 of 16 bits"))
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
    data: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_folder(tmp_path, "12 of 16 bits")
    write_classes(
        root, lambda path, v: save((255 * v).astype(np.uint8), path.with_name(f"small {path.name}"))
    )
    with caplog.at_level(logging.WARNING):
        module = set_up(data, root)
    assert any("have 8 bits" in record.getMessage() for record in caplog.records)
    dataset = module.datasets["train"]
    narrow = next(i for i, path in enumerate(dataset.paths) if path.name.startswith("small"))
    pixels = values_of([dataset.paths[narrow]])[0]
    mean, std = module.preprocessing["mean"][0], module.preprocessing["std"][0]
    assert np.abs(dataset[narrow][0][0].numpy() - (pixels / 255 - mean) / std).max() < 1e-5


def test_images_of_8_bits_are_read_as_bytes(
    package: Part, data: ModuleType, tmp_path: Path
) -> None:
    def write(path: Path, values: Values) -> None:
        save((255 * np.stack([values, values**2, values**3], axis=2)).astype(np.uint8), path)

    module = set_up(data, write_classes(tmp_path, write), channels=3)
    assert module.preprocessing["value_range"] is None
    paths = module.datasets["train"].paths
    train = values_of(paths) / 255
    assert module.preprocessing["mean"] == pytest.approx(train.mean((0, 1, 2)).tolist(), rel=1e-9)
    assert module.preprocessing["std"] == pytest.approx(train.std((0, 1, 2)).tolist(), rel=1e-9)
    images = package("data.images")
    read = images.read_image(paths[0], *images.reading_options(module.preprocessing))
    assert read.dtype == torch.uint8


@pytest.mark.parametrize("kind", ["12 of 16 bits", "floats to 1", "bytes"])
def test_a_single_value_everywhere_is_rejected(
    rejection: Rejection, data: ModuleType, tmp_path: Path, kind: str
) -> None:
    convert, ending = KINDS.get(kind, (lambda v: (100 * v).astype(np.uint8), "png"))
    values = convert(np.full((SIZE, SIZE), 0.5))
    root = write_classes(tmp_path, lambda path, _: save(values, path, ending), count=5)
    assert "nothing to learn" in rejection(image_folder(data, root, channels=1))


def test_a_value_that_is_not_a_number_is_named(
    rejection: Rejection, data: ModuleType, tmp_path: Path
) -> None:
    root = write_folder(tmp_path, "floats to 1")
    save(np.full((SIZE, SIZE), np.nan, np.float32), root / "dark" / "3", "tif")
    message = rejection(image_folder(data, root, channels=1))
    assert "infinite or NaN" in message
    assert str(root / "dark" / "3.tif") in message


def test_a_model_of_bytes_rejects_floats(package: Part, tmp_path: Path) -> None:
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


def test_colours_whose_low_byte_would_be_lost_are_rejected(
    rejection: Rejection, data: ModuleType, tmp_path: Path
) -> None:
    for scale, root in ((4095, tmp_path / "twelve bits"), (65535, tmp_path / "full")):

        def write(path: Path, values: Values, scale: int = scale) -> None:
            colours = (scale * np.repeat(values[..., None], 3, axis=2)).astype(np.uint16)
            path.with_suffix(".png").write_bytes(png_of_16_bit_colours(colours))

        write_classes(root, write, count=5)
    set_up(data, tmp_path / "full", channels=3)
    assert "upper 8 bits" in rejection(image_folder(data, tmp_path / "twelve bits"))


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
    rejection: Rejection,
    data: ModuleType,
    tmp_path: Path,
    sizes: list[tuple[int, int]],
    expected: tuple[int, int],
) -> None:
    """Twice the size costs four times the time."""
    for name in ("cat", "dog"):
        for number, size in enumerate(sizes):
            write_images(tmp_path / "source", 1, size=size)
            (tmp_path / "train" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "source" / "0.png").rename(tmp_path / "train" / name / f"{number}.png")
            (tmp_path / "source").rmdir()
        for split in ("val", "test"):
            write_images(tmp_path / split / name, 1, size=(64, 64))
    module = set_up(data, tmp_path, shift=1)
    assert module.input_shape == (1, *expected)
    assert (module.preprocessing["height"], module.preprocessing["width"]) == expected
    assert set_up(data, tmp_path, height=40, shift=1).input_shape == (1, 40, expected[1])
    module = image_folder(data, tmp_path, height="auto", width="auto", shift=64)
    assert f"from 0 to {min(expected) - 1}, not 64" in rejection(module)


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


def test_twelve_bits_are_learned_predicted_and_exported(project: Project, tmp_path: Path) -> None:
    """Read as 16 bits they are black: the accuracy was that of guessing."""
    folder = write_folder(tmp_path / "images", "12 of 16 bits", count=30)
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


def test_the_server_says_why_an_image_cannot_be_read(package: Part) -> None:
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
