"""All runs as one table, or what two of them differ in.

For example: python runs.py --sort best
             python runs.py --csv > runs.csv
             python runs.py diff <run> <other run>
"""

import argparse
import sys
from pathlib import Path

import {{= cookiecutter.package_name }}  # noqa: F401  registers the project
from workbench.cli import one_sentence_errors
from workbench.runs.difference import find_run, print_difference
from workbench.runs.table import (
    collect_rows,
    print_csv,
    print_table,
    sort_rows,
    without_trials,
)

LOGS = Path(__file__).parent / "logs"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description="All runs as one table; `runs.py diff A B` tells what two of them differ in."
    )
    parser.add_argument("log_dir", nargs="?", type=Path, default=LOGS)
    parser.add_argument("--sort", metavar="COLUMN", default="started", help="best, test, ...")
    parser.add_argument("--csv", action="store_true", help="every metric, for a spreadsheet")
    parser.add_argument("--trials", action="store_true", help="sweep trials and folds, too")
    arguments = parser.parse_args()
    rows = collect_rows(arguments.log_dir)
    shown = rows if arguments.trials else without_trials(rows)
    shown = sort_rows(shown, arguments.sort)
    print_csv(shown) if arguments.csv else print_table(shown)
    if len(shown) < len(rows):
        left_out = len(rows) - len(shown)
        what = "sweep trials and folds of cross-validations"
        print(f"{left_out} {what} are left out: --trials shows them.", file=sys.stderr)


def difference(words: list[str]) -> None:
    """Print what two runs differ in."""
    parser = argparse.ArgumentParser(
        prog="runs.py diff", description="What two runs differ in, in causes and in results."
    )
    parser.add_argument("run", help="a folder, or the name that runs.py shows")
    parser.add_argument("other")
    parser.add_argument("--log-dir", type=Path, default=LOGS, help="where the names are looked up")
    arguments = parser.parse_args(words)
    print_difference(*(find_run(n, arguments.log_dir) for n in (arguments.run, arguments.other)))


if __name__ == "__main__":
    with one_sentence_errors():
        difference(sys.argv[2:]) if sys.argv[1:2] == ["diff"] else main()
