"""What a model of a table would learn wrongly if cells were misread."""

import csv
import io
import json
import logging
import re
import shlex
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import pytest

from ..conftest import BakedProject
from ..support.tables import Tables, table
from ..support.template_package import Part
from ..support.training_runs import script

HALF_PAST_TWO = 14.5 / 24


def days(*when: int) -> float:
    """Days since 1970-01-01."""
    return date(*when).toordinal() - date(1970, 1, 1).toordinal()


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1,5", "2,25", "10"], [1.5, 2.25, 10]),
        (["1.234,5", "7", "-0,5"], [1234.5, 7, -0.5]),
        (["1,234.50", "7", "2,000,000"], [1234.5, 7, 2000000]),
        (["1 234", "12 345,5", "7"], [1234, 12345.5, 7]),
        (["1\u00a0234", "1\u202f234.5", "7"], [1234, 1234.5, 7]),
        (["1'234.50", "7", "1\u2019000"], [1234.5, 7, 1000]),
        (["12,34,567", "1,00,000.5", "7"], [1234567, 100000.5, 7]),
        (["45%", "7.5%", "10 %"], [45, 7.5, 10]),
        (["45,5%", "7%", "10%"], [45.5, 7, 10]),
        (["$1,234.50", "-$5", "$ 7"], [1234.5, -5, 7]),
        (["5 €", "7,5 €", "1.000 €"], [5, 7.5, 1000]),
        (["EUR 5", "EUR 7.5", "NA"], [5, 7.5, np.nan]),
        (["(5.25)", "7", "(1,000.5)"], [-5.25, 7, -1000.5]),
        (["\u22125", "7", "8.5"], [-5, 7, 8.5]),
        (["2024-01-31", "1969-12-31", "2000-02-29"],
         [days(2024, 1, 31), -1, days(2000, 2, 29)]),
        (["2024-01-31 14:30", "2024-02-01T14:30:00", "2024-02-02T15:30:00+01:00"],
         [day + HALF_PAST_TWO for day in (days(2024, 1, 31), days(2024, 2, 1), days(2024, 2, 2))]),
        (["31.01.2024", "1.2.2024", "05.06.2023"],
         [days(2024, 1, 31), days(2024, 2, 1), days(2023, 6, 5)]),
        (["31/01/2024", "01/02/2024", ""], [days(2024, 1, 31), days(2024, 2, 1), np.nan]),
        (["01/31/2024", "01/02/2024 2:30 PM", "1/2/2024"],
         [days(2024, 1, 31), days(2024, 1, 2) + HALF_PAST_TWO, days(2024, 1, 2)]),
        (["31 Jan 2024", "Feb 1, 2024", "5-May-2023"],
         [days(2024, 1, 31), days(2024, 2, 1), days(2023, 5, 5)]),
    ],
    ids=lambda value: str(value[0]) if isinstance(value[0], str) else "",
)  # fmt: skip
def test_numbers_and_dates_are_read_as_people_write_them(
    tables: Tables, caplog: pytest.LogCaptureFixture, cells: list[str], values: list[float]
) -> None:
    """As categories they would have no order, and beyond 50 of them they would be rejected."""
    caplog.set_level(logging.INFO)
    module = tables.column(cells)
    module.setup()
    assert module.read().columns["x"][:3] == pytest.approx(values, rel=1e-15, nan_ok=True)
    assert "Column 'x' is read as" in caplog.text
    # A new file is read in the same way: the inputs are those of the standardised values.
    found = tables.new(module, table(cells)).x[:3, 0].numpy()
    fitted = module.preprocessing["columns"][0]
    filled = np.where(np.isnan(values), fitted["median"], values)
    assert found == pytest.approx((filled - fitted["mean"]) / fitted["std"], rel=1e-6)


@pytest.mark.parametrize(
    ("cells", "readings"),
    [
        (["1,234", "2,500"], {"decimal_point": [1234, 2500], "decimal_comma": [1.234, 2.5]}),
        (["$1,234", "$7"], {"decimal_point": [1234, 7], "decimal_comma": [1.234, 7]}),
        (["01/02/2024", "3/4/2024"],
         {"day_first": [days(2024, 2, 1), days(2024, 4, 3)],
          "month_first": [days(2024, 1, 2), days(2024, 3, 4)]}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["x", "y"])
def test_a_column_with_two_readings_is_not_guessed(
    tables: Tables, cells: list[str], readings: dict[str, list[float]], name: str
) -> None:
    """A price of 1,234 would be a thousand times too large or too small."""
    text = table(cells) if name == "x" else table(["u", "v"], cells)
    message = tables.rejection(tables.module(text))
    assert f"Column '{name}' of" in message
    for reading, values in readings.items():
        assert f"data.formats.{reading}=[{name}]" in message
        module = tables.module(table(cells, ["1.5", "2.5"]), formats={reading: ["x"]})
        assert module.read().columns["x"][:2] == pytest.approx(values, rel=1e-15)


def test_thousands_are_not_read_as_decimals_beside_decimal_commas(tables: Tables) -> None:
    """In such a file 1.234 is more than 700."""
    lines = [f"{x};{i},5;{'yes' if i % 2 else 'no'}" for i, x in enumerate(["1.234", "700"] * 30)]
    text = "\n".join(["x;k;y", *lines])
    message = tables.rejection(tables.module(text))
    assert "'x' of" in message
    assert "'1.234' where 'k' has decimal commas" in message
    for written, expected in (("plain", 1.234), ("decimal_comma", 1234)):
        module = tables.module(text, formats={written: "x"})
        assert module.read().columns["x"][:2] == pytest.approx([expected, 700], rel=1e-15)


@pytest.mark.parametrize(
    ("cells", "first", "kind"),
    [
        (["45%", "7%", "3%", "10"], "10", "numbers such as 1234.5%"),
        (["1,5", "2,25", "3,75", "four"], "four", "numbers such as 1.234,5"),
        (["2024-01-31", "2024-02-30", "2024-03-31", "2024-05-01"], "2024-02-30",
         "dates such as 2024-01-31"),
        (["$5", "$7", "$8", "€9"], "€9", "numbers such as $1234.5"),
    ],
)  # fmt: skip
def test_a_few_cells_written_otherwise_are_named(
    tables: Tables, cells: list[str], first: str, kind: str
) -> None:
    """One typing error would turn a whole column into categories."""
    message = tables.rejection(tables.column(cells))
    line = 2 + cells.index(first)
    assert f"holds {kind}, but not on lines {line}, {line + 4}" in message
    assert f"(first '{first}')" in message


def test_dates_that_cannot_be_numbers_are_rejected_by_name(tables: Tables) -> None:
    """Two digits leave the century open, and a date predicted in days is useless."""
    message = tables.rejection(tables.column(["31/01/24", "01/02/24"]))
    assert "'x' of" in message
    assert "two-digit years, such as '01/02/24'" in message
    module = tables.column(["31/01/24", "01/02/24"], categorical=["x"])
    module.setup()
    assert module.preprocessing["features"][:2] == ["x=01/02/24", "x=31/01/24"]
    message = tables.rejection(tables.target(["2024-01-31", "2024-02-01"]))
    assert "The target 'y'" in message
    assert "holds dates" in message


def test_times_and_ranges_do_not_become_categories_silently(
    tables: Tables, caplog: pytest.LogCaptureFixture
) -> None:
    """They have an order that categories do not have."""
    tables.column(["12:30", "8:00", "9:15"]).setup()
    assert "Column 'x' is read as 3 categories without an order, such as '12:30'" in caplog.text


@pytest.mark.parametrize("written", ["1,5;2,5;3,25", "15%;2%;3.5%", "1,234.5;2,345.5;3,456.5"])
def test_a_target_may_be_written_as_people_write_it(tables: Tables, written: str) -> None:
    """As classes, prices could not be predicted between those of the training."""
    cells = written.split(";")
    module = tables.target(cells)
    module.setup()
    assert module.task == "regression"
    expected = {"1,5": [1.5, 2.5, 3.25], "15%": [15, 2, 3.5], "1,234.5": [1234.5, 2345.5, 3456.5]}
    assert module.read().target[:3] == pytest.approx(expected[cells[0]], rel=1e-15)


def test_a_number_in_json_keeps_its_point_in_a_column_of_commas(
    package: Part, tables: Tables
) -> None:
    """1.234 would become a thousand times as much."""
    module = tables.column(["1,5", "2,25", "1.000,5"])
    module.setup()
    body = json.dumps([{"x": 1.234, "k": 1}, {"x": "1,234", "k": 1}, {"x": 7, "k": 1.5}])
    x = package("serving").read_body(module.preprocessing, body.encode()).x[:, 0]
    fitted = module.preprocessing["columns"][0]
    expected = (np.array([1.234, 1.234, 7]) - fitted["mean"]) / fitted["std"]
    assert x.numpy() == pytest.approx(expected, rel=1e-6)


def test_a_file_of_excel_names_its_delimiter(tables: Tables) -> None:
    """Its first line is not a header."""
    text = "sep=;\r\n" + table(["1,5", "2,5"], sep=";").replace("\n", "\r\n")
    module = tables.module("\ufeff" + text)
    module.setup()
    assert module.preprocessing["features"] == ["x", "k"]
    inputs = tables.new(module, "sep=;\nx;k\n1,5;1\nold;1")
    assert inputs.names == ["line 3", "line 4"]
    assert list(inputs.errors) == [1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (table(["u", "v"]).encode("utf-16"), "is UTF-16 text"),
        (table(["ü", "v"]).encode("cp1252"), "is not UTF-8 text (the byte 0xfc on line 2)"),
        (b"PK\x03\x04\x14\x00", "is an Excel workbook"),
        (table(["u", "v"]).encode() + b'\n"u,7,yes\nv,8,no', "the row on line 62 is never closed"),
    ],
)
def test_a_file_that_is_not_csv_is_called_what_it_is(
    tables: Tables, content: bytes, words: str
) -> None:
    """Training on a table that was only half read would go unnoticed."""
    message = tables.rejection(tables.module(content))
    assert words in message
    assert "save it as CSV in UTF-8" in message


QUOTED = ["a,b", 'say "no"', "two\nlines", " spaces ", "", '5" pipe', "x", "1,5", "ü"]
DIALECTS: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text.replace('"', ""),
    "quoted": lambda text: text,
    "windows": lambda text: text.replace("\n", "\r\n"),
    "empty lines": lambda text: text.replace("b1\n", "b1\n\n\n"),
    "last lines": lambda text: text + "\n\n\n",
    "spaces": lambda text: re.sub(r",(?=\d|\")", ", ", text),
}


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("words", [QUOTED, ["x", "a,b"], ["x", "5 pipe"], ["x", '5" pipe']])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_cell_and_line_number_is_that_of_the_csv_standard_library(
    package: Part, tables: Tables, words: list[str], quoting: Any, dialect: str
) -> None:
    """A fast reader that guesses could shift cells or drop rows."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=quoting, lineterminator="\n")
    writer.writerow(["a", "b", "c"])
    writer.writerows(
        [words[i % len(words)], f"b{i}", words[(i * i) % len(words)]] for i in range(40)
    )
    text = DIALECTS[dialect](out.getvalue())
    tables.path.write_bytes(text.encode())
    # Newline "" and the line number before each row, as the standard library's reader has them.
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    lines, rows, line = [], [], 1
    for row in reader:
        if row:
            lines.append(line)
            rows.append(row)
        line = reader.line_num + 1
    read = package("data.table_file").read_table_file(tables.path, ",")
    assert list(read.lines) == lines[1:]
    assert [len(row) for row in rows[1:]] == [read.faulty.get(i, 3) for i in range(len(rows) - 1)]
    for place, name in enumerate("abc"):
        cells = [(cell or "").strip() for cell in read.column(name)]
        assert cells == [(row + [""] * 3)[place].strip() for row in rows[1:]]


def test_namibia_is_not_lost(tables: Tables, caplog: pytest.LogCaptureFixture) -> None:
    """Its code is NA, which most tables use where a value is missing."""
    caplog.set_level(logging.INFO)
    cells = ["NA", "DE", "", "FR", "?"]
    module = tables.column(cells)
    module.setup()
    assert module.preprocessing["features"] == ["x=DE", "x=FR", "x=?", "k"]
    assert "12 'NA' in 'x'" in caplog.text
    assert "12 empty in 'x'" in caplog.text
    module = tables.column(cells, missing=["?"])
    module.setup()
    assert module.preprocessing["features"] == ["x=DE", "x=FR", "x=NA", "x=?", "k"]
    inputs = tables.new(module, "x,k\nNA,1\n?,1")
    assert inputs.x[:, :4].tolist() == [[0, 0, 1, 0], [0, 0, 0, 1]]
    message = tables.rejection(tables.target(["NA", "DE", "FR"]))
    assert "if 'NA' is a value, remove it from data.missing" in message
    module = tables.target(["NA", "DE", "FR"], missing=[])
    module.setup()
    assert module.class_names == ["DE", "FR", "NA"]


@pytest.mark.parametrize(
    ("levels", "same", "unknown"),
    [
        (["True", "False"], {"true": "True", "FALSE": "False"}, ["1", "maybe"]),
        (["2", "3"], {"2.0": "2", "03": "3", " 2 ": "2", "2e0": "2"}, ["4", "2.5", "two"]),
        (["2.0", "3.0"], {"2": "2.0", "3": "3.0"}, ["4"]),
        (["red", "Blue"], {"RED": "red", "blue ": "Blue"}, ["purple", "re d"]),
        (["2", "3", "many"], {"2.0": "2", "Many": "many"}, ["4"]),
        (["caf\u00e9", "bar"], {"cafe\u0301": "caf\u00e9"}, ["cafe"]),
        (["a", "A", "b"], {"B": "b"}, ["\u00e0"]),
        (["a", "b"], {}, ["", "NA"]),
        (["a", "b", ""], {"": "?", "NA": "?"}, ["c"]),
    ],
)
def test_equal_spellings_match_and_unknown_values_are_reported(
    tables: Tables, levels: list[str], same: dict[str, str], unknown: list[str]
) -> None:
    """Both would be predicted with a weight that was never trained."""
    module = tables.column(levels, categorical=["x"])
    module.setup()
    features = module.preprocessing["features"]
    inputs = tables.new(module, "\n".join(["x,k", *(f"{x},1" for x in (*same, *unknown))]))
    assert inputs.errors == {}
    found = [features[row.index(1)] for row in inputs.x[:, : len(features) - 1].tolist()]
    assert found == [f"x={level}" for level in same.values()] + ["x=?"] * len(unknown)
    reasons = [f"x={x!r}" if x not in ("", "NA") else "x is missing" for x in unknown]
    assert inputs.unknown == dict(enumerate(reasons, start=len(same)))


def test_true_in_json_is_the_true_of_the_table(package: Part, tables: Tables) -> None:
    """A server would never find a column of true and false."""
    module = tables.column(["true", "false"])
    module.setup()
    body = b'[{"x": true, "k": 1}, {"x": false, "k": 1}, {"x": "TRUE", "k": 1}]'
    inputs = package("serving").read_body(module.preprocessing, body)
    assert inputs.x[:, :2].tolist() == [[0, 1], [1, 0], [0, 1]]
    assert inputs.unknown == {}


def test_several_unknown_values_of_a_row_are_all_named(tables: Tables) -> None:
    """Whoever corrects one wants to know the others."""
    rows = [f"{'ab'[i % 2]},{'cd'[i % 2]},{i},{'no' if i % 3 else 'yes'}" for i in range(60)]
    module = tables.module("\n".join(["x,z,k,y", *rows]))
    module.setup()
    inputs = tables.new(module, "x,z,k\na,c,1\nu,v,1\nu,v,old\nb,v,1")
    assert inputs.unknown == {1: "x='u', z='v'", 3: "z='v'"}
    assert list(inputs.errors) == [2]


def test_thousands_of_categories_are_rejected_before_memory_is_exhausted(
    package: Part, tables: Tables
) -> None:
    """12,000 inputs for 100,000 rows are 4.8 GB."""
    cells = [f"c{i}" for i in range(12_000)]
    message = tables.rejection(tables.column(cells, rows=24_000, categorical=["x"]))
    assert "'x'" in message
    assert "data.drop=[x]" in message
    assert "data.categorical" not in tables.rejection(tables.column(cells, rows=24_000))
    with pytest.raises(package("errors").UserError, match="leave out columns of many categories"):
        package("data.tables").check_memory(10**12, 1000)


def test_names_that_yaml_takes_for_something_else_are_names(tables: Tables) -> None:
    """A column called 2020 could never be chosen, and `data.drop=id` would be two columns."""
    rows = "\n".join(["2020,true,null,id", *(f"{i % 3},{i}.5,{i},{i}" for i in range(60))])
    module = tables.module(rows, target=2020, drop="id", numeric=[True, None])
    module.setup()
    assert module.preprocessing["features"] == ["true", "null"]
    assert module.class_names == ["0", "1", "2"]


def test_options_in_messages_can_be_copied(tables: Tables) -> None:
    """Hydra would not read a name with spaces or other letters, nor the shell its brackets."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    name = "Größe (m)"
    message = tables.rejection(tables.module(table(["1,234"]).replace("x", name, 1)))
    said = re.search(r"set (.*) or (.*)\.$", message)
    assert said
    for option, written in zip(said.groups(), ("decimal_point", "decimal_comma"), strict=True):
        override = OverridesParser.create().parse_override(shlex.split(option)[0])
        assert override.key_or_group == f"data.formats.{written}"
        assert override.value() == [name]


def test_a_format_is_checked(tables: Tables) -> None:
    """A misspelled one would have no effect."""
    for formats, words in (
        ({"decimal_coma": ["x"]}, "data.formats has no 'decimal_coma'; did you mean"),
        ({"text": ["z"]}, "has no column 'z'"),
        ({"text": ["x"], "plain": ["x"]}, "both in data.formats.text and in data.formats.plain"),
        (
            {"day_first": ["x"]},
            "must hold a date such as 31/01/2024 in every cell",
        ),
    ):
        assert words in tables.rejection(tables.column(["1.5", "2"], formats=formats))


def test_a_server_that_forks_has_not_started_threads_for_tables(demo: BakedProject) -> None:
    """A forked trial would wait forever for a lock that a thread of the server held."""
    code = (
        "import sys, workbench.sweeps.preload; print(sorted({'polars', 'torch'} & {*sys.modules}))"
    )
    done = script(demo, "-c", code, is_warm=False)
    assert done.stdout.splitlines()[-1] == "['torch']"


@pytest.mark.slow
def test_trials_read_a_table_in_forked_processes(demo: BakedProject, tables: Tables) -> None:
    """A sweep over your own table would never end."""
    tables.path.write_text(table(["1,5", "2,5", "4"], rows=90), encoding="utf-8")
    done = script(
        demo, "train.py", "-m", "experiment=csv", f"data.path={tables.path}", "data.target=y",
        "model.net.width=8,16", "hydra.sweeper.n_trials=2", "trainer=cpu",
        "trainer.max_epochs=1", "logger=none", f"hydra.sweep.dir={tables.path.parent}/sweep",
    )  # fmt: skip
    logs = list((tables.path.parent / "sweep").glob("*/trials/*/run.log"))
    assert len(logs) == 2, done.stdout
    for log in logs:
        assert "Column 'x' is read as numbers such as 1.234,5" in log.read_text(encoding="utf-8")
