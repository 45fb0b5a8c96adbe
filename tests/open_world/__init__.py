"""Ordinary Lightning code, added to a generated project with one config file each.

`added/` holds what an owner writes: it is copied over a project, and replaces none of its files.
"""
