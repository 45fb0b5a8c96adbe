"""Other ways to run the trials of a sweep; each module is run in the folder of a project."""
