"""All runs as one table, or the differences between two of them.

For example: python runs.py --sort best
             python runs.py --csv > runs.csv
             python runs.py diff <run> <other run>
"""

import {{= cookiecutter.package_name }}  # noqa: F401  registers the project
from workbench.cli import one_sentence_errors
from workbench.runs.table import main

if __name__ == "__main__":
    with one_sentence_errors():
        main()
