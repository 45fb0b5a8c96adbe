"""What can be found out before training: the batch size that fits and a good learning rate."""
