"""Checkpoints that no kill and no full disk can spoil, and whose reading runs nothing."""

from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from ..errors import UserError


class CheckpointFile(TorchCheckpointIO):
    """Writes a checkpoint beside the old one, which it replaces once it is whole.

    Lightning writes to the machine's temporary folder. From there to another disk a move is a copy
    over the old file, and what a kill leaves behind lies there for ever.

    Reading takes plain values alone, also where an environment variable tells torch otherwise.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        path = Path(path)
        # Always the same name: the next checkpoint writes over what a kill has left. And without
        # that of the checkpoint, by which a requeued job would take it for the newest one.
        partial = path.with_name("checkpoint.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
            partial.replace(path)
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            # A full disk leaves torch's file without an end, of which torch complains last.
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            raise UserError(
                f"{path} cannot be written ({cause.strerror}): make room and go on from the "
                "checkpoint before it, which is whole."
            ) from error

    def load_checkpoint(self, path: str | Path, *args: Any, **options: Any) -> dict[str, Any]:
        """Read a checkpoint without running what is in it."""
        content: dict[str, Any] = super().load_checkpoint(
            path, *args, **options | {"weights_only": True}
        )
        return content
