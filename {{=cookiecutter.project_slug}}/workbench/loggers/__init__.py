"""Lightning's loggers, changed where they lose records, time or the training.

`configs/logger/` chooses; each module can be deleted together with its file there.
"""
