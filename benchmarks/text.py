"""Bits per character of held-out text: the language model, compressors and n-grams.

`make bench SUBJECTS=text` trains the language model with the options of its experiment, which takes
five minutes on two cores; `text:others` measures the others only.

All predict the test split, the last tenth of the text. The model learns from the first 85 %, and
the 5 % in between select its best epoch. The others learn from everything before the test split.
n-grams do not learn from the test split itself, and neither does the model; compressors do.
"""

import bz2
import gzip
import lzma
import math
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from .common import Project, baked_project, environment, print_table

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip -9": lambda text: gzip.compress(text, 9),
    "bzip2 -9": lambda text: bz2.compress(text, 9),
    "xz -9e": lambda text: lzma.compress(text, preset=9 | lzma.PRESET_EXTREME),
}
ORDERS = (5, 10)
# A quote of this length is not an accident.
QUOTE = 50


def main(words: Sequence[str]) -> None:
    """Measure and print."""
    with baked_project() as project:
        before, text = splits(project)
        rows = [
            [name, f"{compressed_bits(c, before, text):.3f}"] for name, c in COMPRESSORS.items()
        ]
        for order in ORDERS:
            bits = NGrams(before, order, len(set(before + text))).bits(before, text)
            rows.append([f"{order}-gram, Kneser-Ney", f"{bits:.3f}"])
        if "others" not in words:
            rows.append(["the language model", trained(project)])
        print(environment(), flush=True)
        print_table(f"{len(text):,} characters", ("predicted by", "bits per character"), rows)
        print(f"\n{quoted(before, text):.0%} of them lie in quotes of earlier text.")


def splits(project: Project) -> tuple[str, str]:
    """What precedes the test split, and the test split."""
    datamodule = project.module("data.text").TextDataModule()
    text = project.module("data.text_file").python_help()
    train, val, test = datamodule.cut(text)
    return train + val, test


def compressed_bits(compress: Callable[[bytes], bytes], before: str, text: str) -> float:
    """How many bits a character of `text` adds to the compressed `before`."""
    added = len(compress((before + text).encode())) - len(compress(before.encode()))
    return added * 8 / len(text)


class NGrams:
    """Character n-grams with interpolated Kneser-Ney smoothing.

    Chen and Goodman 1998, https://dash.harvard.edu/handle/1/25104739, equation 22. The lowest order
    is interpolated with a uniform distribution.

    Args:
        text: the text to learn from.
        order: the number of characters in a gram.
        alphabet: the number of different characters.
    """

    def __init__(self, text: str, order: int, alphabet: int) -> None:
        self.order, self.alphabet = order, alphabet
        grams = Counter(text[i : i + order] for i in range(len(text) - order + 1))
        # By length of the context: the counts of the characters that follow each context.
        self.followers: list[dict[str, Counter[str]]] = [{} for _ in range(order)]
        self.discounts = [0.0] * order
        for length in reversed(range(order)):
            once, twice = (sum(count == n for count in grams.values()) for n in (1, 2))
            self.discounts[length] = once / (once + 2 * twice) if once else 0.5
            counts: dict[str, Counter[str]] = defaultdict(Counter)
            for gram, count in grams.items():
                counts[gram[:-1]][gram[-1]] = count
            self.followers[length] = dict(counts)
            # The next lower order counts the different characters before a gram.
            grams = Counter(gram[1:] for gram in grams) if length else grams

    def probability(self, context: str, character: str) -> float:
        """The probability of a character after a context of `order - 1` characters."""
        probability = 1 / self.alphabet
        for length in range(self.order):
            seen = self.followers[length].get(context[len(context) - length :])
            if seen is None:
                break
            discount, total = self.discounts[length], seen.total()
            kept = max(seen[character] - discount, 0) / total
            probability = kept + discount * len(seen) / total * probability
        return probability

    def bits(self, before: str, text: str) -> float:
        """The mean over the characters of `text`, each after those that precede it."""
        whole, context = before + text, self.order - 1
        places = range(len(before), len(whole))
        probabilities = (self.probability(whole[i - context : i], whole[i]) for i in places)
        return -sum(map(math.log2, probabilities)) / len(text)


def quoted(before: str, text: str) -> float:
    """The fraction of `text` in passages of `QUOTE` characters that occur in `before`."""
    known = {before[i : i + QUOTE] for i in range(len(before) - QUOTE + 1)}
    covered, end = 0, 0
    for i in range(len(text) - QUOTE + 1):
        if text[i : i + QUOTE] in known:
            covered += i + QUOTE - max(i, end)
            end = i + QUOTE
    return covered / len(text)


def trained(project: Project) -> str:
    """The bits of the language model, and what its training took."""
    cfg = project.configure("experiment=text", "trainer=cpu", "logger=none")
    start, before = time.perf_counter(), cpu_seconds()
    metrics = project.module("training").train(cfg)
    wall, cpu = time.perf_counter() - start, cpu_seconds() - before
    return f"{metrics['test/bpc']:.3f} ({wall:.0f} s, {cpu:.0f} s of processor time)"


def cpu_seconds() -> float:
    """Of all threads of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main(sys.argv[1:])
