"""What `evaluate.py` passes to the functions in the project's `analysis/` folder."""

from .interface import Analysis, Evaluation, Table, choose_analyses, columns

__all__ = ["Analysis", "Evaluation", "Table", "choose_analyses", "columns"]
