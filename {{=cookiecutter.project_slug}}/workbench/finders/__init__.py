"""Finders determine options before training: a batch size that fits and a learning rate."""
