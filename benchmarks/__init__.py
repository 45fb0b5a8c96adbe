"""What a generated project costs: one file a subject, all run by `make bench`."""
