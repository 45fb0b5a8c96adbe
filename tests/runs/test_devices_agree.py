"""Two processes measure what one does: every sample once, whatever the sizes."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from ..conftest import BakedProject
from ..support.template_package import Part, template_package
from ..support.training_runs import script

# Samples for the validation and the test, and the batch size. The larger share of the second makes
# a batch more; in the last, one process has no sample at all.
SIZES = ((359, 64), (3, 1), (1, 4))
# A user's own datamodule, with the loaders of every tutorial, and a network whose layers are
# synchronised at every step.
USER = """
import json, sys
import torch
from pytorch_lightning import LightningDataModule, Trainer
from torch.utils.data import DataLoader, TensorDataset
from workbench.data.any_datamodule import share_evaluation
from demo.models import Classifier

class Own(LightningDataModule):
    def __init__(self, samples, batch_size):
        super().__init__()
        x = torch.randn(samples, 1, 8, 8, generator=torch.Generator().manual_seed(samples))
        self.dataset, self.batch_size = TensorDataset(x, torch.arange(samples) % 3), batch_size

    def train_dataloader(self):
        return DataLoader(self.dataset, batch_size=4, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.dataset, batch_size=self.batch_size)

    def test_dataloader(self):
        return self.val_dataloader()

answers = []
for samples, batch_size in json.loads(sys.argv[1]):
    model = Classifier(
        net={"name": "cnn", "width": 4}, optimizer={"name": "SGD", "lr": 0.0},
        scheduler={"name": "constant"}, input_shape=[1, 8, 8], num_classes=3,
        class_names=["a", "b", "c"], preprocessing={},
    )
    data = Own(samples, batch_size)
    share_evaluation(data)
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, limit_train_batches=1,
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    measured = {name: float(value) for name, value in trainer.callback_metrics.items()}
    trainer.test(model, datamodule=data, verbose=False)
    measured |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    logits = model.net.eval()(data.dataset.tensors[0]).detach()
    answers.append({"metrics": measured, "logits": logits.tolist()})
if trainer.is_global_zero:
    print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Part]:
    with template_package(tmp_path_factory.mktemp("package"), "package_of_sharing_tests") as part:
        yield part


def test_every_sample_is_measured_once(demo: BakedProject, tmp_path: Path) -> None:
    """An accuracy of 284/359 on one device is not 285/360 on two, and no process may hang."""
    program = tmp_path / "own.py"
    program.write_text(USER)
    done = script(demo, str(program), json.dumps(SIZES), python_path=str(demo.root))
    answers = json.loads(done.stdout.splitlines()[-1])
    for (samples, _), answer in zip(SIZES, answers, strict=True):
        logits = np.array(answer["logits"], dtype=np.float64)
        classes = np.arange(samples) % 3
        accuracy = float((logits.argmax(axis=1) == classes).mean())
        log_sum = np.log(np.exp(logits).sum(axis=1))
        loss = float((log_sum - logits[np.arange(samples), classes]).mean())
        for stage in ("val", "test"):
            assert answer["metrics"][f"{stage}/acc"] == pytest.approx(accuracy, abs=1e-6), samples
            assert answer["metrics"][f"{stage}/loss"] == pytest.approx(loss, rel=1e-4), samples


def test_shares_are_whole_and_even(package: Part) -> None:
    """All samples, each once, in as many batches on every process and never in none."""
    sharing = package("data.any_datamodule")
    for processes in (2, 3, 4):
        for samples in range(1, 26):
            dataset = TensorDataset(torch.arange(samples))
            for batch_size in (1, 2, 3, 5, 8):
                loader = DataLoader(dataset, batch_size=batch_size)
                shares = [
                    [batch[0].tolist() for batch in sharing._share_loader(loader, processes, rank)]
                    for rank in range(processes)
                ]
                case = (processes, samples, batch_size)
                assert len({len(share) for share in shares}) == 1, case
                assert all(share and all(share) for share in shares), case
                seen = Counter(x for share in shares for batch in share for x in batch)
                assert sorted(seen) == list(range(samples)), case
                assert len(set(seen.values())) == 1, case
                if samples >= processes:
                    assert set(seen.values()) == {1}, case
