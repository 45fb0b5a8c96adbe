"""What evaluate.py collects from a model: losses of samples and activations of a layer."""

from typing import Any

import pytest
import torch

from ..support.template_package import Part


@pytest.fixture(scope="module")
def data(package: Part) -> dict[str, Any]:
    """The built-in data, set up."""
    module = package("data")
    made = {"classification": module.DigitsDataModule(), "regression": module.DiabetesDataModule()}
    for datamodule in made.values():
        datamodule.setup()
    return made


def untrained(package: Part, datamodule: Any) -> Any:
    """A model with random weights, ready to predict."""
    torch.manual_seed(0)
    models = package("models")
    options: dict[str, Any] = {"optimizer": {}, "scheduler": {}}
    if datamodule.task == "regression":
        net = {"name": "mlp", "width": 16}
        return models.Regressor(net=net, **options, **datamodule.describe()).eval()
    net = {"name": "cnn", "width": 8}
    return models.Classifier(net=net, **options, **datamodule.describe()).eval()


@pytest.fixture(scope="module")
def trainer(package: Part, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from pytorch_lightning import Trainer

    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path_factory.mktemp("trainer"),
    )


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_losses_of_samples_average_to_the_test_loss(
    package: Part, data: dict[str, Any], trainer: Any, task: str
) -> None:
    """The worst samples are only worth a look if theirs is the loss that is minimised."""
    model = untrained(package, data[task])
    (metrics,) = trainer.test(model, data[task], verbose=False)
    loader = data[task].test_dataloader()
    evaluation = package("analysis.collect").collect(trainer, model, loader)
    assert evaluation.losses.mean().item() == pytest.approx(metrics["test/loss"], rel=1e-5)
    table = package("analysis.losses").tabulate_losses(evaluation)
    assert table.columns == ["index", "true", "predicted", "loss"]
    assert len(table.rows) == len(loader.dataset)
    worst, best = table.rows[0], table.rows[-1]
    assert worst[3] == evaluation.losses.max()
    assert best[3] == evaluation.losses.min()
    # The index leads to the sample.
    x, y = loader.dataset[worst[0]]
    with torch.no_grad():
        loss = model.loss(model.net(x[None]), y[None])
    assert loss.item() == pytest.approx(worst[3], rel=1e-4)
    value = float(model.in_target_unit(y)) if task == "regression" else 0
    assert worst[1] == (str(int(y)) if task == "classification" else pytest.approx(value))


def test_activations_are_those_of_the_layer(
    package: Part, data: dict[str, Any], trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plot of another layer, or with the colours of other samples, misleads."""
    module, digits = package("analysis.collect"), data["classification"]
    # 359 samples: every fifth is recorded, across the borders of batches of 64.
    monkeypatch.setattr(module, "MOST_ACTIVATIONS", 80)
    model = untrained(package, digits)
    loader = digits.test_dataloader()
    x = torch.cat([x for x, _ in loader])[::5]
    with torch.no_grad():
        maps, features = model.net.features[0](x), model.net.features(x)
    expected = {
        None: ("the input of net.head.1", features),
        "net.features": ("the output of net.features", features),
        "net.features.0": ("the output of net.features.0", maps.mean(dim=(2, 3))),
        "net": ("the output of net", model.net.head(features).detach()),
    }
    for layer, (place, activations) in expected.items():
        evaluation = module.collect(trainer, model, loader, layer)
        assert evaluation.layer == place
        assert evaluation.positions.tolist() == list(range(0, 359, 5))
        torch.testing.assert_close(evaluation.activations, activations, atol=1e-5, rtol=1e-4)
        assert evaluation.predictions.shape == (359, 10)
    # A batch without any of the recorded samples, and a layer whose successor works in place.
    small = package("data.batches").make_loader(loader.dataset, batch_size=3)
    model.net.features[0][2].inplace = True
    evaluation = module.collect(trainer, model, small, "net.features.0.1")
    torch.testing.assert_close(evaluation.targets, torch.cat([y for _, y in loader]))
    with torch.no_grad():
        before = model.net.features[0][:2](x).mean(dim=(2, 3))
    torch.testing.assert_close(evaluation.activations, before, atol=1e-5, rtol=1e-4)
    # Nothing stays behind.
    assert not any(part._forward_hooks for part in model.modules())
    assert not any(isinstance(callback, module.Recorder) for callback in trainer.callbacks)


@pytest.mark.slow
def test_compiled_networks_are_recorded_too(
    package: Part, data: dict[str, Any], trainer: Any
) -> None:
    """Compiled networks do not call hooks: there would be nothing to draw."""
    collect, digits = package("analysis.collect").collect, data["classification"]
    model = untrained(package, digits)
    loader = digits.test_dataloader()
    plain = collect(trainer, model, loader, "net.features.0")
    model.net.compile()
    with torch.no_grad():
        model(next(iter(loader))[0])
    compiled = collect(trainer, model, loader, "net.features.0")
    torch.testing.assert_close(compiled.activations, plain.activations)
    torch.testing.assert_close(compiled.losses, plain.losses)


def test_what_cannot_be_shown_is_told_in_one_sentence(
    package: Part, data: dict[str, Any], trainer: Any
) -> None:
    collect, digits = package("analysis.collect").collect, data["classification"]
    model, loader = untrained(package, digits), digits.test_dataloader()
    user_error = package("errors").UserError
    with pytest.raises(user_error, match=r"no layer 'net.faetures'; did you mean 'net.features'\?"):
        collect(trainer, model, loader, "net.faetures")
    with pytest.raises(user_error, match="Predicting does not compute the output of metrics"):
        collect(trainer, model, loader, "metrics")
    torch.nn.init.constant_(model.net.head[1].bias, float("nan"))
    with pytest.raises(user_error, match="NaN or infinity for 359 of 359 samples"):
        collect(trainer, model, loader)
