"""Which folds of a cross-validation a config asks for."""

from omegaconf import DictConfig

from ..errors import UserError


def folds_to_train(cfg: DictConfig) -> int | None:
    """The number of folds if all of them are to be trained; None for a single run.

    A datamodule of your own takes part if its config has the options `folds` and `fold`.

    Raises:
        UserError: `data.folds` is not an integer of at least 2.
    """
    data = cfg.get("data")
    if not isinstance(data, DictConfig) or "fold" not in data or data.fold is not None:
        return None
    folds = data.get("folds")
    if folds is None:
        return None
    if type(folds) is not int or folds < 2:
        raise UserError(f"data.folds must be an integer of at least 2, not {folds!r}.")
    return folds
