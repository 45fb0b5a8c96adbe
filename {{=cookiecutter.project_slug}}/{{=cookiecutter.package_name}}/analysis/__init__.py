"""Plots, tables and texts of `evaluate.py` that show what a model gets right and wrong.

An analysis is a function that takes an `Evaluation` and returns a figure, a table or a text, or
None if there is nothing to show. To add your own, write it in this folder and add a file to
`configs/analyses/`; `configs/evaluate.yaml` lists those that run by default.
"""
