"""Where the numbers that the paper prints contradict its text or each other, each computed from `published.yaml`.

A sentence appears only where the numbers bear it out.
"""

from collections.abc import Iterator
from math import log2
from typing import Any

from diffmamba.paper.published import DECIMALS, numbers

MODELS = ("mamba", "diff_mamba")
CALLED_BITS = {"text8": 0.046, "enwik8": 0.041}  # what the paper's text calls bits per byte


def of_table1() -> tuple[str, ...]:
    """Sentences about table 1."""
    rows = {(row["data"], row["layers"]): row for row in numbers()["table1"]["rows"]}
    return (*_wikitext_parameters(rows), *_bits(rows), *_depth(rows), *_ablation_parameters(rows))


def _wikitext_parameters(rows: dict[tuple[str, int], Any]) -> Iterator[str]:
    """A vocabulary's parameters do not depend on depth, so WikiText-103 adds as many at 12 layers as at 6."""
    added = [rows["wikitext103", 6][model]["params_m"] - rows["text8", 6][model]["params_m"] for model in MODELS]
    given = [rows["wikitext103", 12][model]["params_m"] for model in MODELS]
    text8 = [rows["text8", 12][model]["params_m"] for model in MODELS]
    if given == text8 and all(added):
        expected = [count + more for count, more in zip(text8, added, strict=True)]
        yield (
            f"The 12-layer WikiText-103 models are given Text8's parameters, {_millions(given)}; with what words add "
            f"to the 6-layer ones ({_millions(added)}) they would have about {_millions(expected)}."
        )


def _bits(rows: dict[tuple[str, int], Any]) -> Iterator[str]:
    """Differences of PPL that the text calls bits per byte."""
    for data, called in CALLED_BITS.items():
        mamba, diff_mamba = (rows[data, 12][model]["ppl"] for model in MODELS)
        if round(mamba - diff_mamba, DECIMALS) == called:
            yield (
                f"The text gives {data}'s gain as {called} bits per byte, the difference of PPL; in bits it is "
                f"{log2(mamba / diff_mamba):.{DECIMALS}f}."
            )


def _depth(rows: dict[tuple[str, int], Any]) -> Iterator[str]:
    for data in ("wikitext103", "text8", "enwik8"):
        shallow, deep = ([rows[data, layers][model]["ppl"] for model in MODELS] for layers in (6, 12))
        if all(more > less for less, more in zip(shallow, deep, strict=True)):
            yield (
                f"On {data} the 12-layer models are worse than the 6-layer ones: Mamba {deep[0]} against {shallow[0]}, "
                f"Diff-Mamba {deep[1]} against {shallow[1]}. They have lower learning rates and more dropout (table 3)."
            )


def _ablation_parameters(rows: dict[tuple[str, int], Any]) -> Iterator[str]:
    here = rows["text8", 6]["diff_mamba"]["params_m"]
    there = next(row["params_m"] for row in numbers()["table2"]["rows"] if row["model"] == "diff_mamba")
    if here != there:
        yield f"The same 6-layer Diff-Mamba on Text8 has {here}M parameters here and {there}M in table 2."


def _millions(counts: list[int]) -> str:
    return " and ".join(f"{count}M" for count in counts)
