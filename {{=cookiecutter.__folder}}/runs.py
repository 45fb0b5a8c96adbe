"""All runs as one table; `python runs.py --csv > runs.csv` for a spreadsheet."""

import argparse
from pathlib import Path

from {{= cookiecutter.package_name }}.cli import one_sentence_errors
from {{= cookiecutter.package_name }}.runs.table import (
    collect_rows,
    print_csv,
    print_table,
    sort_rows,
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="All runs as one table.")
    parser.add_argument("log_dir", nargs="?", type=Path, default=Path(__file__).parent / "logs")
    parser.add_argument("--sort", metavar="COLUMN", default="started", help="best, test, ...")
    parser.add_argument("--csv", action="store_true", help="every metric, for a spreadsheet")
    arguments = parser.parse_args()
    rows = sort_rows(collect_rows(arguments.log_dir), arguments.sort)
    print_csv(rows) if arguments.csv else print_table(rows)


if __name__ == "__main__":
    with one_sentence_errors():
        main()
