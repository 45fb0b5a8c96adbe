"""Several target columns: labels that apply or not, and values that each have a unit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytorch_lightning import Trainer

from ..support.tables import Tables, tables
from ..support.template_package import Part

__all__ = ["tables"]  # fixtures

ROWS = 200


def columns(**more: Any) -> dict[str, NDArray[Any]]:
    """Three inputs, and targets of two scales that depend on them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 3))
    table = {f"x{i}": x[:, i] for i in range(3)}
    table["price"] = 1_700_000_000 + 6e4 * (x @ [1.0, -2.0, 0.0]) + 1e4 * rng.normal(size=ROWS)
    table["age"] = 40 + 5 * x @ [0.0, 1.0, 1.0] + rng.normal(size=ROWS)
    table["sunny"] = (x[:, 0] > 0).astype(int)
    table["windy"] = np.where(x[:, 1] > 1, "yes", "no")
    return table | more


def text(table: dict[str, NDArray[Any]]) -> str:
    """The table as CSV, numbers with all their digits."""
    rows = [",".join(str(value) for value in row) for row in zip(*table.values(), strict=True)]
    return "\n".join([",".join(table), *rows])


def make(tables: Tables, target: list[str], **options: Any) -> Any:
    """A datamodule of these targets, with the inputs x0 to x2."""
    table = columns()
    drop = [name for name in table if not name.startswith("x") and name not in target]
    return tables.module(text(table), target=target, drop=drop, **options)


def model_of(package: Part, module: Any, **options: Any) -> Any:
    """The built-in model for the data of a datamodule."""
    name = "Regressor" if module.task == "regression" else "Classifier"
    common: dict[str, Any] = {
        "net": {"name": "mlp", "width": 4, "depth": 0},
        "optimizer": {"name": "SGD", "lr": 0.2},
        "scheduler": {"name": "constant"},
    }
    return getattr(package("models"), name)(**common | module.describe() | options)


def fit(model: Any, module: Any, folder: Path, epochs: int) -> Trainer:
    """Train quietly."""
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        limit_val_batches=1.0,
        check_val_every_n_epoch=epochs,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(model, datamodule=module)
    return trainer


def test_each_target_is_standardised_by_its_own_training_rows(tables: Tables) -> None:
    """One mean for prices and ages would leave the ages all the same."""
    module = make(tables, ["price", "age"])
    module.setup()
    assert (module.task, module.target_name) == ("regression", ["price", "age"])
    y = {part: dataset.y.double().numpy() for part, dataset in module.datasets.items()}
    assert y["train"].mean(axis=0) == pytest.approx(0, abs=1e-6)
    assert y["train"].std(axis=0) == pytest.approx(1, rel=1e-5)
    restored = np.concatenate(list(y.values())) * module.target_std + module.target_mean
    expected = np.stack([columns()[name] for name in ("price", "age")], axis=1)
    # Seven digits of the deviations, not of 1,700,000,000.
    assert np.sort(restored, axis=0) == pytest.approx(np.sort(expected, axis=0), abs=0.1)


def test_two_targets_are_predicted_as_well_as_each_alone(
    package: Part, tables: Tables, tmp_path: Path
) -> None:
    """A network without hidden layers learns the least-squares fit of each, in its own unit."""
    module = make(tables, ["price", "age"], batch_size=ROWS)
    module.setup()
    model = model_of(package, module)
    trainer = fit(model, module, tmp_path, epochs=150)
    measured = {name: float(value) for name, value in trainer.callback_metrics.items()}
    train, val = (module.datasets[part] for part in ("train", "val"))
    true, told = (model.in_target_unit(values).detach().numpy() for values in (val.y, model(val.x)))
    assert told.shape == (len(val), 2)
    inputs, fitted = (
        torch.nn.functional.pad(d.x, (0, 1), value=1.0).double() for d in (train, val)
    )
    for place, name in enumerate(("price", "age")):
        alone = torch.linalg.lstsq(inputs, train.y[:, place].double()).solution
        predicted = (fitted @ alone).numpy() * module.target_std[place] + module.target_mean[place]
        scale = module.target_std[place]
        assert told[:, place] / scale == pytest.approx(predicted / scale, rel=1e-6, abs=1e-4)
        error = np.abs(predicted - true[:, place]).mean()
        assert measured[f"val/mae_{name}"] == pytest.approx(error, rel=1e-3)


def test_labels_apply_or_not_each_alone(package: Part, tables: Tables, tmp_path: Path) -> None:
    """Softmax would make the labels compete: a day can be sunny and windy."""
    module = make(tables, ["sunny", "windy"])
    module.setup()
    assert (module.task, module.class_names, module.num_classes) == (
        "multilabel",
        ["sunny", "windy"],
        2,
    )
    y = module.datasets["train"].y
    assert y.dtype == torch.float32
    assert set(y.unique().tolist()) == {0.0, 1.0}
    applies = [int(column.sum()) for column in y.T]
    assert module.class_counts == [[len(y) - count, count] for count in applies]
    table = columns()
    everything = torch.cat([dataset.y for dataset in module.datasets.values()])
    expected = [(table["sunny"] == 1).sum(), (table["windy"] == "yes").sum()]
    assert everything.sum(dim=0).tolist() == expected
    model = model_of(package, module, loss={"class_weight": "balanced"}, class_counts=[[1, 1]] * 2)
    trainer = fit(model, module, tmp_path, epochs=30)
    probabilities = model(module.datasets["val"].x)
    assert probabilities.shape == (len(module.datasets["val"]), 2)
    assert float(probabilities.sum(dim=1).max()) > 1.2
    right = ((probabilities >= 0.5) == module.datasets["val"].y).float().mean()
    assert float(trainer.callback_metrics["val/acc"]) == pytest.approx(float(right))
    assert right > 0.85


def test_one_label_is_a_multilabel_task_when_asked_for(tables: Tables) -> None:
    """A model of labels may begin with one of them."""
    module = make(tables, ["sunny"], task="multilabel")
    module.setup()
    assert module.datasets["train"].y.shape[1:] == (1,)
    alone = make(tables, ["sunny"])
    alone.setup()
    assert (alone.task, alone.class_names) == ("classification", ["0", "1"])
    assert alone.class_counts == torch.bincount(alone.datasets["train"].y).tolist()


def test_labels_beside_numbers_are_numbers(tables: Tables) -> None:
    """0 and 1 are as good as any number, so all of the columns can be predicted together."""
    module = make(tables, ["age", "sunny"])
    module.setup()
    assert (module.task, module.target_name) == ("regression", ["age", "sunny"])
    forced = make(tables, ["sunny", "windy"], task="classification")
    forced.setup()
    assert forced.task == "multilabel"


@pytest.mark.parametrize(
    ("target", "options", "parts"),
    [
        (["age", "windy"], {}, ["'windy'", "texts such as 'no'", "predict it alone"]),
        (["sunny", "age"], {"task": "multilabel"}, ["'age'", "is not a label", "task=regression"]),
        (["price", "prise"], {}, ["prise", "price"]),
        (["sunny", "sunny"], {}, ["'sunny'", "more than one role"]),
        (["sunny"], {"task": "several"}, ["data.task", "multilabel", "'several'"]),
    ],
)
def test_targets_that_cannot_be_predicted_together_are_named(
    tables: Tables, target: list[str], options: dict[str, Any], parts: list[str]
) -> None:
    """One sentence, before anything is trained."""
    message = tables.rejection(make(tables, target, **options))
    assert all(part in message for part in parts), message


def test_constant_target_among_several_is_named(tables: Tables) -> None:
    """Its standard deviation is zero."""
    table = columns(still=np.full(ROWS, 3.5))
    drop = ["sunny", "windy", "age"]
    message = tables.rejection(tables.module(text(table), target=["price", "still"], drop=drop))
    assert "'still'" in message
    assert "nothing to learn" in message


def test_label_without_a_training_sample_is_reported(
    tables: Tables, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is learned about it, and its metrics say little."""
    rare = np.zeros(ROWS, dtype=int)
    module = make(tables, ["sunny", "windy"])
    module.setup()
    # The row that the split has put into the test.
    test_row = module.datasets["test"].x[0]
    place = next(
        i
        for i in range(ROWS)
        if np.allclose(
            (columns()["x0"][i] - module.preprocessing["columns"][0]["mean"])
            / module.preprocessing["columns"][0]["std"],
            test_row[0],
            atol=1e-5,
        )
    )
    rare[place] = 1
    table = columns(rare=rare)
    with caplog.at_level("WARNING"):
        tables.module(text(table), target=["sunny", "rare"], drop=["windy", "price", "age"]).setup()
    assert "Labels that are the same in every training row" in caplog.text
    assert "rare" in caplog.text
