"""What a callback does after a module's own hook."""

from collections.abc import Callable
from typing import Any

from pytorch_lightning import LightningModule


def after_module(pl_module: LightningModule, hook: str, action: Callable[[], None]) -> None:
    """Call `action` once, after the module's hook of this name was called.

    Lightning calls the hooks of callbacks before the module's. A checkpoint that a callback saves
    in `on_train_batch_end` would lack what the module does there, for example the step of a moving
    teacher.
    """
    own = getattr(pl_module, hook)

    def once(*args: Any, **kwargs: Any) -> Any:
        pl_module.__dict__.pop(hook, None)
        result = own(*args, **kwargs)
        action()
        return result

    setattr(pl_module, hook, once)
