"""A training with augmentation: it learns, shows its inputs, and leaves everything else alone."""

from collections.abc import Iterator
from typing import Any

import pytest

from ..support.in_process import Project, on_one_thread
from ..support.training_runs import is_same

FIGURE = "figures/augmented.png"
SHORT = ("trainer.max_epochs=4", "test=false", "optimizer.lr=1e-2")


@pytest.fixture(scope="module")
def project(bake: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = bake(project_name="Augmented", package_name="package_of_augmentation_tests").root
    with on_one_thread(root, tmp_path_factory.mktemp("augmented")) as project:
        yield project


def test_a_network_learns_from_mixed_images(project: Project) -> None:
    """With labels of other images it would stay at chance, 10 %.

    Validation images are not mixed, so that their accuracy is higher than that of training.
    """
    mixed = ("data/augmentation=cutmix", "model.loss.class_weight=balanced")
    run = project.train(*SHORT, *mixed, "model.loss.label_smoothing=0.1")
    final = run.metrics["final"]
    assert final["val/acc"] > 0.6
    assert final["train/acc"] < final["val/acc"]
    assert FIGURE in run.files()
    # The image of the inputs is drawn without random numbers.
    without = project.train(
        *SHORT, *mixed, "model.loss.label_smoothing=0.1", "callbacks.augmented_inputs=null"
    )
    assert FIGURE not in without.files()
    assert is_same(run.weights("last"), without.weights("last"))


def test_an_unchanged_input_is_not_shown(project: Project) -> None:
    """A plot of what everybody knows costs time in every run; `debug=overfit` changes nothing."""
    short = (*SHORT, "trainer.max_epochs=1")
    assert FIGURE not in project.train(*short).files()
    assert FIGURE in project.train(*short, "data.shift=1").files()
    overfit = project.train(*short, "data.shift=1", "trainer.overfit_batches=1")
    assert FIGURE not in overfit.files()


def test_options_are_changed_one_by_one(project: Project, tmp_path: Any) -> None:
    """As those of callbacks: a value by its name, and null for what is not wanted."""
    cfg = project.configure(
        "train",
        tmp_path,
        *("experiment=digits", "data/augmentation=strong", "data.augmentation.erasing=null"),
        "data.augmentation.randaugment.magnitude=5",
    )
    chosen = cfg.data.augmentation
    assert chosen.randaugment == {"name": "RandAugment", "num_ops": 2, "magnitude": 5}
    assert chosen.erasing is None
    assert (chosen.mixup.alpha, chosen.cutmix.alpha) == (0.8, 1.0)
