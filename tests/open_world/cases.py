"""What trains, and how: the options of a command for each kind of code that people bring."""

from dataclasses import dataclass

PLATEAU = (
    "loss",
    "loss_step",
    "loss_epoch",
    "metrics/train/acc",
    "metrics/train/acc_step",
    "metrics/train/acc_epoch",
    "largest",
    "running mean",
    "val_loss",
    "val_loss_epoch",
    "metrics/val/acc",
    "metrics/val/acc_epoch",
)
TUTORIAL = ("train_loss", "val_loss", "val_acc")


@dataclass(frozen=True)
class Case:
    """A model, its data, and what a training of them is expected to leave.

    Attributes:
        model: a file of `configs/model/`.
        data: a file of `configs/data/`; "" where the model has its own loaders.
        options: further options of the command.
        objective: the metric that chooses the best epoch; "" for none.
        mode: whether the objective is minimised or maximised.
        batches: batches of an epoch.
        logged: names of the metrics after an epoch, as Lightning itself has them.
        tested: names of the metrics of the test; none where nothing is tested.
        swept: an option of the model that decides how fast it learns.
        loss: a metric that is large when training diverges.
        facts: what the model takes from the data.
        is_plain: whether Lightning alone can repeat the test.
        is_exact_within: whether the module keeps all its state where a checkpoint finds it.
    """

    model: str
    data: str
    options: tuple[str, ...] = ()
    objective: str = ""
    mode: str = "min"
    batches: int = 8
    logged: tuple[str, ...] = ()
    tested: tuple[str, ...] = ()
    swept: str = "model.lr"
    loss: str = "val_loss"
    facts: tuple[str, ...] = ()
    is_plain: bool = True
    is_exact_within: bool = True

    @property
    def command(self) -> tuple[str, ...]:
        """The options that choose model, data and objective."""
        objective: tuple[str, ...] = ("objective=null",)
        if self.objective:
            objective = (f"objective.metric={self.objective}", f"objective.mode={self.mode}")
        # As the command line reads data=null.
        data = f"data={self.data}" if self.data else "~data"
        return (f"model={self.model}", data, *objective, *self.options)


UNTESTED = ("test=false",)

CASES = {
    # 1. Lightning's demos
    "boring": Case("boring", "boring", ("trainer.limit_train_batches=8",)),
    "boring_manual": Case("boring_manual", "boring", ("trainer.limit_train_batches=8",)),
    "demo": Case("demo", "boring", ("trainer.limit_train_batches=8", *UNTESTED)),
    "no_len": Case(
        "boring",
        "boring_no_len",
        ("trainer.limit_train_batches=8", "trainer.limit_val_batches=2"),
    ),
    "iterable": Case(
        "boring_pair",
        "boring_iterable",
        objective="x/dataloader_idx_1",
        batches=16,
        logged=("x/dataloader_idx_0", "x/dataloader_idx_1"),
        tested=("y/dataloader_idx_0", "y/dataloader_idx_1"),
        # The data are drawn while they are read.
        is_plain=False,
    ),
    "lstm": Case(
        "lstm",
        "wikitext",
        UNTESTED,
        objective="train_loss",
        batches=5,
        logged=("train_loss",),
        # It carries the hidden state from batch to batch, outside of its checkpoint.
        is_exact_within=False,
    ),
    "transformer": Case("transformer", "wikitext", UNTESTED, batches=5),
    # 2. and 3. tutorial code
    "tutorial": Case(
        "tutorial",
        "blobs",
        objective="val_acc",
        mode="max",
        logged=TUTORIAL,
        tested=("test_loss", "test_acc"),
    ),
    "plateau": Case(
        "plateau_own",
        "blobs",
        objective="metrics/val/acc_epoch",
        mode="max",
        logged=PLATEAU,
        tested=("Test Loss (nats)", "Test Loss (nats)_epoch"),
        swept="model.learning_rate",
        loss="val_loss_epoch",
    ),
    # 4. objects from the config
    "hydra_style": Case(
        "hydra_style",
        "blobs",
        objective="val/loss",
        logged=("train/loss", "train/acc", "val/loss", "val/acc", "val/acc_best"),
        tested=("test/loss", "test/acc"),
        swept="model.optimizer.lr",
        loss="val/loss",
    ),
    # 5. structures
    "dictionaries": Case(
        "reviews",
        "reviews",
        facts=("num_words",),
        objective="val/bce",
        batches=5,
        logged=("train/bce", "val/bce"),
        tested=("test/bce",),
        loss="val/bce",
    ),
    "lists": Case(
        "mean_of_lists",
        "sequences",
        objective="val/bce",
        batches=5,
        logged=("train/bce", "val/bce"),
        tested=("test/bce",),
        loss="val/bce",
    ),
    "dataclasses": Case(
        "padded",
        "sequences",
        ("data.structure=dataclass",),
        objective="val/bce",
        batches=5,
        logged=("train/bce", "val/bce"),
        tested=("test/bce",),
        loss="val/bce",
    ),
    "own_objects": Case(
        "graphs",
        "sequences",
        ("data.structure=graphs",),
        objective="val/bce",
        batches=5,
        logged=("train/bce", "val/bce"),
        tested=("test/bce",),
        loss="val/bce",
    ),
    # 6. none or several loaders
    "two_loaders": Case(
        "two_domains",
        "two_loaders",
        objective="val_loss/dataloader_idx_1",
        logged=("train_loss", "val_loss/dataloader_idx_0", "val_loss/dataloader_idx_1"),
        tested=("test_source", "test_target"),
        loss="val_loss/dataloader_idx_1",
    ),
    "train_only": Case(
        "train_only",
        "train_only",
        UNTESTED,
        objective="train_loss",
        logged=("train_loss",),
        loss="train_loss",
    ),
    "combined": Case(
        "combined",
        "combined",
        objective="train_loss",
        batches=12,
        logged=("train_loss", "val_loss"),
        tested=("test_source",),
    ),
    # 7. streams
    "stream": Case(
        "two_domains",
        "stream",
        (
            "trainer.max_epochs=-1",
            "trainer.max_steps=24",
            "trainer.val_check_interval=6",
            "trainer.check_val_every_n_epoch=null",
        ),
        objective="val_loss",
        logged=("train_loss", "val_loss"),
        tested=("test_source",),
    ),
    "stream_with_end": Case(
        "two_domains",
        "stream",
        ("data.endless=false",),
        objective="val_loss",
        logged=("train_loss", "val_loss"),
        tested=("test_source",),
    ),
    # 8. optimization by hand, overridden hooks, unusual returns
    "gan": Case(
        "gan",
        "blobs",
        objective="val_distance",
        logged=("d_loss", "g_loss", "val_distance"),
        tested=("test_distance",),
        loss="val_distance",
    ),
    "warms_up": Case(
        "warms_up",
        "blobs",
        objective="val_loss",
        logged=TUTORIAL,
        tested=("test_loss", "test_acc"),
    ),
    "returns_dictionary": Case(
        "returns_dictionary",
        "blobs",
        objective="val_loss",
        logged=TUTORIAL,
        tested=("test_loss", "test_acc"),
    ),
    "skips_batches": Case(
        "skips_batches",
        "blobs",
        objective="val_loss",
        logged=TUTORIAL,
        tested=("test_loss", "test_acc"),
    ),
    "manual_accumulation": Case(
        "manual_accumulation",
        "blobs",
        objective="val_loss",
        logged=(*TUTORIAL, "train_loss_step", "train_loss_epoch"),
        tested=("test_loss", "test_acc"),
    ),
    # 9. is "boring" and "demo", and in test_errors.py
    # 10. facts
    "named_classes": Case(
        "named_classes",
        "named_blobs",
        facts=("num_classes", "class_names"),
        objective="val_loss",
        logged=TUTORIAL,
        tested=("test_loss", "test_acc"),
    ),
    # Through **options, no fact is given.
    "takes_anything": Case(
        "takes_anything",
        "named_blobs",
        objective="val_loss",
        logged=TUTORIAL,
        tested=("test_loss", "test_acc"),
    ),
    # 11. a built-in model with data of one's own
    "built_in_model": Case(
        "mlp",
        "named_blobs",
        ("model.net.width=8", "model.net.depth=1"),
        objective="val/acc",
        mode="max",
        logged=("train/loss", "train/acc", "train/f1", "val/loss", "val/acc", "val/f1"),
        tested=("test/loss", "test/acc", "test/f1"),
        is_plain=False,
        swept="optimizer.lr",
        loss="val/loss",
    ),
    # Beyond the list: what else is written in LightningModules.
    **{
        name: Case(
            name,
            data,
            objective="val_loss",
            logged=TUTORIAL,
            tested=("test_loss", "test_acc"),
        )
        for name, data in {
            "built_in_setup": "named_blobs",
            "built_in_configure_model": "blobs",
            "second_order": "blobs",
            "frozen_half": "blobs",
            "moving_teacher": "blobs",
        }.items()
    },
    "odd_values": Case(
        "odd_values",
        "blobs",
        objective="val_loss",
        logged=(*TUTORIAL, "seen"),
        tested=("test_loss", "test_acc"),
    ),
    "own_loaders": Case(
        "own_loaders",
        "",
        objective="val_loss",
        logged=TUTORIAL,
        tested=("test_loss", "test_acc"),
        is_plain=False,
    ),
}
