"""Where the numbers that the paper prints contradict its text or each other, each computed from `published.yaml`.

A remark is there only if the numbers support it.
"""

from collections.abc import Iterator
from math import log2
from typing import Any

from diffmamba.paper.published import DECIMALS, numbers

MODELS = ("mamba", "diff_mamba")
CORPORA = ("wikitext103", "text8", "enwik8")
CALLED_BITS = {"text8": 0.046, "enwik8": 0.041}  # what the paper's text calls bits per byte
Rows = dict[tuple[str, int], dict[str, Any]]


def on_table1() -> tuple[str, ...]:
    """What to know about table 1's numbers before comparing with them."""
    rows = table1_rows()
    return (*_copied_counts(rows), *_called_bits(rows), *_deeper_is_worse(rows), *_two_counts(rows))


def table1_rows() -> Rows:
    """The rows of table 1 by corpus and number of layers."""
    return {(row["data"], row["layers"]): row for row in numbers()["table1"]["rows"]}


def _copied_counts(rows: Rows) -> Iterator[str]:
    """A vocabulary's parameters do not depend on depth: WikiText-103 adds as many at 12 layers as at 6."""
    added = [rows["wikitext103", 6][model]["params_m"] - rows["text8", 6][model]["params_m"] for model in MODELS]
    given = [rows["wikitext103", 12][model]["params_m"] for model in MODELS]
    text8 = [rows["text8", 12][model]["params_m"] for model in MODELS]
    if given == text8 and all(added):
        expected = [count + more for count, more in zip(text8, added, strict=True)]
        yield (
            f"The 12-layer WikiText-103 models are printed with Text8's parameters, {_millions(given)}. The larger "
            f"vocabulary adds {_millions(added)} at 6 layers, so about {_millions(expected)} are expected."
        )


def _called_bits(rows: Rows) -> Iterator[str]:
    for data, called in CALLED_BITS.items():
        mamba, diff_mamba = (rows[data, 12][model]["ppl"] for model in MODELS)
        if round(mamba - diff_mamba, DECIMALS) == called:
            bits = f"{log2(mamba / diff_mamba):.{DECIMALS}f}"
            yield (
                f"The text gives {data}'s gain as {called} bits per byte. This is the difference of PPL; in bits it is "
                f"{bits}."
            )


def _deeper_is_worse(rows: Rows) -> Iterator[str]:
    for data in CORPORA:
        shallow, deep = ([rows[data, layers][model]["ppl"] for model in MODELS] for layers in (6, 12))
        if all(more > less for less, more in zip(shallow, deep, strict=True)):
            yield (
                f"On {data} the 12-layer models are worse than the 6-layer ones: Mamba {deep[0]} against {shallow[0]}, "
                f"Diff-Mamba {deep[1]} against {shallow[1]}. They have lower learning rates and more dropout (table 3)."
            )


def _two_counts(rows: Rows) -> Iterator[str]:
    first = rows["text8", 6]["diff_mamba"]["params_m"]
    second = next(row["params_m"] for row in numbers()["table2"]["rows"] if row["model"] == "diff_mamba")
    if first != second:
        yield f"The same 6-layer Diff-Mamba on Text8 has {first}M parameters here and {second}M in table 2."


def _millions(counts: list[int]) -> str:
    return " and ".join(f"{count}M" for count in counts)
