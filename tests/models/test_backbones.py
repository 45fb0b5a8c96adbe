"""Pretrained networks by name: their weights, their parts, and what is said without them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from ..support.template_package import Part

NAME = "torchvision/shufflenet_v2_x0_5"
CACHED = "shufflenetv2_x0.5-f707e7126e.pth"
Refusal = Callable[..., str]


@pytest.fixture
def refusal(package: Part) -> Refusal:
    """The one sentence with which a backbone is refused."""

    def refused(*arguments: Any) -> str:
        with pytest.raises(package("errors").UserError) as raised:
            package("models.backbones").build_backbone(*arguments)
        message = str(raised.value)
        assert "\n" not in message
        return message

    return refused


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No server can be reached, and all caches are empty; the folder of those of torchvision."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


def weights_of(net: nn.Module, head: list[nn.Module]) -> dict[str, Tensor]:
    """Copies of all weights outside the head."""
    new = {id(value) for module in head for value in module.state_dict(keep_vars=True).values()}
    state = net.state_dict(keep_vars=True)
    return {n: v.detach().clone() for n, v in state.items() if id(v) not in new}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", ["conv1 to layer1", "layer2", "layer3", "layer4"]),
        (
            "vit_b_16",
            [
                "conv_proj to encoder.layers.encoder_layer_2",
                "encoder.layers.encoder_layer_3 to encoder.layers.encoder_layer_5",
                "encoder.layers.encoder_layer_6 to encoder.layers.encoder_layer_8",
                "encoder.layers.encoder_layer_9 to encoder.ln",
            ],
        ),
        ("squeezenet1_1", None),
        ("mobilenet_v3_small", None),
        ("densenet121", None),
    ],
)
def test_every_weight_is_in_one_part_or_in_the_head(
    package: Part, name: str, expected: list[str] | None
) -> None:
    """A weight in none would never be trained, and one in two would make the optimizer fail."""
    with torch.device("meta"):
        built = package("models.backbones").build_backbone(f"torchvision/{name}", 3, None)
        parts = package("models.parts").divide(built.net, built.head, 4)
    assert len(parts) == 4
    if expected is not None:
        assert [str(part) for part in parts] == expected
    of_parts = [id(parameter) for part in parts for parameter in part.parameters]
    of_head = [id(parameter) for module in built.head for parameter in module.parameters()]
    assert sorted(of_parts + of_head) == sorted(map(id, built.net.parameters()))
    # The new layer has one output for each class.
    assert {parameter.shape[0] for module in built.head for parameter in module.parameters()} == {3}


def test_a_frozen_part_computes_as_in_evaluation(package: Part) -> None:
    """Its statistics would follow the new images, away from the weights that they belong to."""
    built = package("models.backbones").build_backbone(NAME, 2, None)
    first, *others = package("models.parts").divide(built.net, built.head, 3)
    first.set_trained(False)
    for part, is_trained in ((first, False), *((other, True) for other in others)):
        inner = [each for module in part.modules for each in module.modules()]
        assert {each.training for each in inner} == {is_trained}
        assert {parameter.requires_grad for parameter in part.parameters} == {is_trained}
    built.net(torch.rand(4, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is None for parameter in first.parameters)


def test_weights_come_from_the_cache(package: Part, offline: Path) -> None:
    """Whoever has downloaded them once can train without internet access."""
    torch.manual_seed(0)
    published = models.shufflenet_v2_x0_5()
    offline.mkdir(parents=True)
    torch.save(published.state_dict(), offline / CACHED)
    built = package("models.backbones").build_backbone(NAME, 3)
    loaded = weights_of(built.net, built.head)
    expected = published.state_dict()
    assert loaded.keys() == expected.keys() - {"fc.weight", "fc.bias"}
    assert all(torch.equal(value, expected[name]) for name, value in loaded.items())
    assert built.net.training


def test_missing_weights_are_explained(refusal: Refusal, offline: Path) -> None:
    """A traceback of urllib does not say what to do; the command that fetches them does."""
    message = refusal(NAME, 3)
    assert message.startswith(f"{NAME} is not in the cache and cannot be downloaded (")
    code = "import torchvision.models as m; m.get_model('shufflenet_v2_x0_5', weights='DEFAULT')"
    assert f'run `python -c "{code}"` with internet access' in message
    assert list(offline.glob("*")) == []


@pytest.mark.parametrize("kind", ["state", "checkpoint", "renamed"])
def test_weights_come_from_a_file(package: Part, tmp_path: Path, kind: str) -> None:
    """Weights saved by torch or by a run load, even if the head is that of another task."""
    torch.manual_seed(0)
    source, path = models.shufflenet_v2_x0_5(num_classes=7), tmp_path / "weights.pt"
    state: dict[str, Any] = dict(source.state_dict())
    if kind == "checkpoint":
        state = {"state_dict": {f"net.{name}": value for name, value in state.items()}}
    torch.save(state, path)
    built = package("models.backbones").build_backbone(NAME, 3, str(path))
    loaded = weights_of(built.net, built.head)
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in loaded.items())


def test_weights_of_another_network_are_refused(refusal: Refusal, tmp_path: Path) -> None:
    """Some names and shapes always fit; the rest would stay random without a word."""
    path = tmp_path / "other.pt"
    torch.save(models.shufflenet_v2_x1_0().state_dict(), path)
    message = refusal(NAME, 3, str(path))
    assert "are missing or have another shape" in message
    assert "weights of another network" in message
    missing, broken = tmp_path / "none.pt", tmp_path / "broken.pt"
    assert refusal(NAME, 3, str(missing)) == f"There is no file {missing} to load weights from."
    broken.write_text("no weights")
    assert "cannot be read" in refusal(NAME, 3, str(broken))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", "model.backbone=resnet18 does not begin with the name of a library; "),
        ("torchvision/", "model.backbone=torchvision/ names a library without a network in it."),
        ("torchvision/resnet19", "torchvision has no network 'resnet19'; did you mean 'resnet18'?"),
        ("torchvison/resnet18", "did you mean 'torchvision/'?"),
    ],
)
def test_wrong_names_get_one_sentence(refusal: Refusal, name: str, message: str) -> None:
    """With the nearest right one."""
    assert message in refusal(name, 3)


def test_images_suit_the_backbone_or_are_refused(
    package: Part, caplog: pytest.LogCaptureFixture
) -> None:
    """Grey images fail in the first layer, and a transformer has one size."""
    backbones = package("models.backbones")
    found = backbones.image_input("torchvision/inception_v3")
    assert (found.height, found.width) == (299, 299)
    net = backbones.build_backbone(NAME, 2, None).net
    with pytest.raises(package("errors").UserError, match=r"set data\.channels=3"):
        backbones.check_input(net, NAME, [1, 32, 32], None)
    fixed = nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 2))
    with pytest.raises(
        package("errors").UserError,
        match=r"32 x 32 .* for 224 x 224",
    ):
        backbones.check_input(fixed, NAME, [3, 32, 32], None)
    right = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    backbones.check_input(net, NAME, [3, 32, 32], right)
    assert not caplog.records
    backbones.check_input(net, NAME, [3, 32, 32], right | {"mean": [0.5, 0.5, 0.5]})
    assert "set data.backbone=" in caplog.text


def test_timm(package: Part, refusal: Refusal, offline: Path, tmp_path: Path) -> None:
    """Its own names, weights from a file, and the sentence without them."""
    timm = pytest.importorskip("timm")
    source = timm.create_model("test_resnet", num_classes=7)
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    backbones = package("models.backbones")
    built = backbones.build_backbone("timm/test_resnet", 3, str(tmp_path / "weights.pt"))
    loaded = weights_of(built.net, built.head)
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in loaded.items())
    assert built.net(torch.rand(2, 3, 64, 64)).shape == (2, 3)
    assert backbones.image_input("timm/test_resnet").height == 160
    assert "timm has no network 'test_resnat'" in refusal("timm/test_resnat", 3)
    if pytest.importorskip("huggingface_hub"):
        message = refusal("timm/test_resnet", 3)
        assert "timm.create_model('test_resnet', pretrained=True)" in message


def test_transformers(package: Part, refusal: Refusal, offline: Path, tmp_path: Path) -> None:
    """From a local folder; a checkpoint describes the network without the folder."""
    hf = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
    config = hf.ViTConfig(**sizes, intermediate_size=32, image_size=32, patch_size=8)
    source = hf.ViTForImageClassification(config)
    source.save_pretrained(tmp_path / "vit")
    hf.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    name = f"hf/{tmp_path / 'vit'}"
    backbones = package("models.backbones")
    built = backbones.build_backbone(name, 3)
    loaded = weights_of(built.net, built.head)
    assert loaded
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in loaded.items())
    x = torch.rand(2, 3, 32, 32)
    assert built.net(x).shape == (2, 3)
    parts = package("models.parts").divide(built.net, built.head, 4)
    assert [len(part.names) for part in parts] == [2, 1, 1, 2]
    found = backbones.image_input(name)
    assert (found.height, found.mean) == (32, [0.5, 0.5, 0.5])
    with package("models.pretrained").without_pretrained():
        again = backbones.build_backbone("hf/elsewhere", 3, architecture=built.architecture).net
    again.load_state_dict(built.net.state_dict())
    assert torch.equal(again.eval()(x), built.net.eval()(x))
    (tmp_path / "vit" / "model.safetensors").unlink()
    message = refusal(name, 3)
    assert "is a folder without a complete network (" in message
    assert "set model.weights to another file or null" in message
    gone = tmp_path / "gone"
    message = refusal(f"hf/{gone}", 3)
    assert message == f"There is no folder {gone}, which model.backbone=hf/{gone} names."
    message = refusal("hf/someone/some-network", 3)
    assert "run `hf download someone/some-network` with internet access" in message
    assert message.endswith("or name the folder of a network, as in model.backbone=hf/<folder>.")


@pytest.mark.parametrize("content", [None, {"size": {"height": 32, "width": 32}}])
def test_transformers_without_a_description_of_images(
    package: Part, tmp_path: Path, content: dict[str, Any] | None
) -> None:
    """A network saved without its image processor is usable, and the sentence says how."""
    hf = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = hf.ViTConfig(**sizes, intermediate_size=32, image_size=32, patch_size=8)
    hf.ViTForImageClassification(config).save_pretrained(tmp_path)
    if content is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    name, backbones = f"hf/{tmp_path}", package("models.backbones")
    with pytest.raises(package("errors").UserError) as raised:
        backbones.image_input(name)
    assert "preprocessor_config.json" in str(raised.value)
    assert "set data.height and data.width, and data.backbone=null" in str(raised.value)
    assert "download" not in str(raised.value)
    # What the sentence says.
    net, own = backbones.build_backbone(name, 3).net, {"mean": [0.5] * 3, "std": [0.1] * 3}
    backbones.check_input(net, name, [3, 32, 32], own)
    with pytest.raises(package("errors").UserError, match=r"choose another data\.height"):
        backbones.check_input(net, name, [3, 64, 64], own)
