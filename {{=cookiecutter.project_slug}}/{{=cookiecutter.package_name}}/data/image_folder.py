"""Your own images: one folder for each class.

    images/cat/1.jpg              images/train/cat/1.jpg
    images/cat/2.png       or     images/val/cat/2.png       (val and test may be missing)
    images/dog/...                images/test/dog/...

Images stay on disk; worker processes read them batch by batch.
"""

from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from workbench.checks import check_integer, require
from workbench.data.augmentation import build_augmentation
from workbench.data.base import BaseDataModule
from workbench.data.batches import Batch, choose_workers
from workbench.data.image_checks import check_images, choose_size, find_value_range, measure_images
from workbench.data.image_files import Grouping, ImageDataset, read_image_folder
from workbench.data.images import Augment, image_preprocessing
from workbench.data.splits import Samples
from workbench.models.backbones import image_input


class ImageFolderDataModule(BaseDataModule):
    """A folder of class folders.

    Without folders for validation or test, these splits are cut from the training images. A test
    folder stays the test split, and the folds are then for validation.

    The arguments not listed here are those of `BaseDataModule`.

    Args:
        path: the folder.
        height: of the model's input, to which every image is resized; "auto" takes the median of
            the training images, but at least 16 pixels and at most 64.
        width: of the model's input, as the height.
        channels: 3 for colour, 1 for grey.
        group: which images stay in one split: those of one "folder" inside the class folders, or
            those whose names have the same "prefix" before the first underscore or hyphen; null if
            images are independent of each other.
        shift: largest random shift of a training image in pixels.
        flip: whether to flip training images horizontally at random.
        augmentation: see `build_augmentation`.
        num_workers: processes that read images, or "auto".
        images_to_check: number of images of each split that are read before training; those of the
            training split give the mean, the standard deviation, the size and, for images of more
            than 8 bits, the range of values.
        backbone: a pretrained network, such as "torchvision/resnet18", whose mean, standard
            deviation and, with "auto", size are used instead of those of the images; null for none.
    """

    task = "classification"

    def __init__(
        self,
        path: str,
        height: int | str = "auto",
        width: int | str = "auto",
        channels: int = 3,
        batch_size: int = 32,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        split_seed: int = 42,
        group: str | None = None,
        folds: int | None = None,
        fold: int | None = None,
        shift: int = 4,
        flip: bool = True,
        augmentation: dict[str, Any] | None = None,
        num_workers: int | str = "auto",
        images_to_check: int = 1000,
        backbone: str | None = None,
    ) -> None:
        super().__init__()
        path = str(path)
        self.save_hyperparameters(logger=False)

    def setup(self, stage: str | None = None) -> None:
        """Find and check the images, on the first call only.

        Raises:
            UserError: the arguments or the folder cannot be used.
        """
        super().setup(stage)
        processes = self.trainer.num_devices if self.trainer is not None else 1
        self.num_workers = choose_workers(self.hparams["num_workers"], processes)

    def check_arguments(self) -> None:
        """Raise a UserError for an argument that cannot be used."""
        super().check_arguments()
        options = self.hparams
        channels, group = options["channels"], options["group"]
        require(channels in (1, 3), "data.channels", "3 (colour) or 1 (grey)", channels)
        is_valid = group is None or group in list(Grouping)
        require(is_valid, "data.group", "folder, prefix or null", group)
        for name in ("height", "width"):
            if options[name] != "auto":
                check_integer(f"data.{name}", options[name], 1)
        check_integer("data.shift", options["shift"], 0)
        check_integer("data.images_to_check", options["images_to_check"], 1)

    def load(self) -> dict[str, Dataset[Batch]]:
        """Split the images, read some of each split and compute the statistics."""
        options = self.hparams
        root = Path(options["path"]).expanduser()
        grouping = None if options["group"] is None else Grouping(options["group"])
        folder = read_image_folder(root, grouping, options["split_seed"])
        self.class_names = folder.class_names
        labels = folder.images.labels
        samples = Samples(len(labels), labels, self.class_names, folder.groups, folder.given)
        images = {name: folder.images.at(chosen) for name, chosen in self.split(samples).items()}
        # A fair sample: splits are in random order.
        some = {name: found.paths[: options["images_to_check"]] for name, found in images.items()}
        facts = measure_images(some["train"])
        wanted = image_input(options["backbone"]) if options["backbone"] else None
        height, width = choose_size(options["height"], options["width"], facts, wanted)
        check_integer("data.shift", options["shift"], 0, min(height, width) - 1)
        value_range = find_value_range(facts)
        self.input_shape = (options["channels"], height, width)
        statistics = check_images(some, (*self.input_shape, value_range))
        self.preprocessing = image_preprocessing(height, width, statistics, value_range)
        if wanted:
            self.preprocessing |= {"mean": wanted.mean, "std": wanted.std}
        self.augment = Augment(self.preprocessing, options["shift"], options["flip"])
        self.augmentation = build_augmentation(
            options["augmentation"], self.preprocessing, self.task, self.num_classes
        )
        return {name: ImageDataset(found, self.preprocessing) for name, found in images.items()}
