"""A training run on one page: build, fit, test. Change it as you would any training script."""

from omegaconf import DictConfig

from workbench.assembly import build_datamodule, build_model, build_trainer
from workbench.training_run import TrainingRun


def train(cfg: DictConfig) -> dict[str, float]:
    """Fit the model of `cfg` and test its best checkpoint.

    Args:
        cfg: the config composed from `configs/train.yaml`.

    Returns:
        The metrics of the best epoch and, under `test/`, of the test.

    Raises:
        UserError: something in the config or the data cannot work; nothing was trained.
    """
    # The run's folder, log and record, and the seed of all random number generators.
    run = TrainingRun(cfg)
    if run.is_finished:  # before its SLURM job was requeued
        return run.results()
    with run.recorded():
        with run.stage("setup"):
            datamodule = build_datamodule(cfg)
            model = build_model(cfg, datamodule)
            # With the callbacks, loggers and profiler of the config.
            trainer = build_trainer(cfg, model)
            # The last point at which a mistake leaves nothing behind.
            ckpt_path = run.begin(trainer, model, datamodule)
        # A learning rate or batch size, for example with finders=lr.
        run.use_finders(trainer, model, datamodule)
        with run.stage("fit"):
            trainer.fit(model, datamodule, ckpt_path=ckpt_path)
        # Ctrl-C and SIGTERM end the run here; the checkpoint to resume from has been written.
        run.end_fit(trainer)
        # With callbacks=swa or callbacks=ema: whether the averaged weights are better.
        run.compare_averaged_weights(model, datamodule)
        run.test(trainer, model, datamodule)
    run.print_summary()
    return run.results()
