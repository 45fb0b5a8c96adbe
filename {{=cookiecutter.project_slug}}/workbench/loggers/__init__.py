"""Lightning's loggers, changed where they lose records, time or the training.

`configs/logger/` chooses; each module can be deleted together with its file there. Sweeps find the
module of a logger by the name of its class: that of `WandbLogger` is called `wandb`.
"""

# Loggers in which a sweep has a run of its own, by their class methods open_sweep and close_sweep.
SWEEP_RUNS = ("mlflow",)
