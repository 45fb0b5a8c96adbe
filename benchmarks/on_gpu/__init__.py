"""The parts of the benchmark of a GPU."""
