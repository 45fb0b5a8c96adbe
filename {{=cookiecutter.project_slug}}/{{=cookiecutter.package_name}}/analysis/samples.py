"""Texts that a language model writes, beside those that it was to continue."""

from typing import Any

from workbench.analysis import Evaluation

from ..data.tokens import decode

SAMPLES = 3
LENGTH = 300


def write_samples(evaluation: Evaluation) -> str | None:
    """Continue evenly spaced windows of the split; None for data of another datamodule."""
    model: Any = evaluation.model
    windows: Any = evaluation.dataset
    if not hasattr(windows, "codes"):
        return None
    characters = model.hparams["characters"]
    parts = []
    for number in range(SAMPLES):
        begin = int(windows.begins[number * len(windows) // SAMPLES])
        prompt = decode(windows.codes[begin - windows.block_size : begin], characters)
        parts += [
            ("prompt", prompt),
            ("written by the model", model.continue_text(prompt, LENGTH)),
            ("in the text", decode(windows.codes[begin : begin + LENGTH], characters)),
        ]
    return "".join(f"---------- {title} ----------\n{text}\n\n" for title, text in parts)
