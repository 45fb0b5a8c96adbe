"""Small CSV files, and the template's package imported where it lies to read them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from .template_package import Part


class Tables:
    """Writes a table of a column `x` of interest, another one, and a target `y`; reads it."""

    def __init__(self, package: Part, folder: Path) -> None:
        self.package, self.path = package, folder / "table.csv"

    def module(self, text: str | bytes, **options: Any) -> Any:
        """A datamodule of a file with this content."""
        self.path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return self.package("data").CSVDataModule(self.path, **({"target": "y"} | options))

    def column(self, cells: Sequence[str], rows: int = 60, **options: Any) -> Any:
        """A datamodule of a table whose column `x` repeats these cells."""
        return self.module(table(cells, rows=rows), **options)

    def target(self, cells: Sequence[str], **options: Any) -> Any:
        """A datamodule of a table whose target repeats these cells."""
        return self.module(table(["u", "v"], cells), **options)

    def rejection(self, module: Any) -> str:
        """The one sentence with which a datamodule rejects its file."""
        return rejection_of(self.package, module)

    def new(self, module: Any, text: str) -> Any:
        """What a model of the datamodule gets from a new file."""
        path = self.path.with_name("new.csv")
        path.write_text(text, encoding="utf-8")
        return self.package("data.inputs").read_inputs(module.preprocessing, path)


def rejection_of(package: Part, module: Any) -> str:
    """The one sentence with which a datamodule rejects its arguments or its data."""
    with pytest.raises(package("errors").UserError) as told:
        module.prepare_data()
        module.setup()
    message = str(told.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


@pytest.fixture
def tables(package: Part, tmp_path: Path) -> Tables:
    """Tables of the test."""
    return Tables(package, tmp_path)


def table(
    cells: Sequence[str], target: Sequence[str] = ("yes", "no"), rows: int = 60, sep: str = ","
) -> str:
    """Columns x, k and y: the cells again and again, the row number, the target."""

    def quoted(cell: str) -> str:
        return f'"{cell}"' if sep in cell else cell

    lines = [
        sep.join([quoted(cells[i % len(cells)]), str(i), quoted(target[i % len(target)])])
        for i in range(rows)
    ]
    return "\n".join([sep.join("xky"), *lines])
