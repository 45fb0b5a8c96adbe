"""Tests of the generator and of the projects it makes."""
