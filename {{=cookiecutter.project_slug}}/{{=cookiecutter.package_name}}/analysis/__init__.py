"""Plots and tables of what a model gets right and wrong; `evaluate.py` makes them all.

An analysis is a function that takes an `Outcome` and returns a figure or a table, or None if there
is nothing to show. To add your own, write it in this folder and add a file to `configs/analyses/`.
"""
