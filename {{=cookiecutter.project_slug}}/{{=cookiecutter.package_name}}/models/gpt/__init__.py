"""A language model: Radford et al. 2019, as in https://github.com/karpathy/nanoGPT."""

from .gpt import GPT

__all__ = ["GPT"]
