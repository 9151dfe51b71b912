"""Sentences on the paper's numbers, written from the templates of `findings.yaml`."""

import math
from functools import cache
from statistics import fmean
from typing import Any

from jinja2 import Environment, StrictUndefined

from diffmamba.paper.published import numbers, rows, stored

ON_TABLE1 = ("wikitext103_12_layer_counts", "ppl_called_bits", "deeper_is_worse", "diff_mamba_129_or_128")
"""The findings on table 1's own numbers."""


def on_table1() -> tuple[str, ...]:
    """What to know about table 1's numbers before comparing with them."""
    return tuple(printed(stored("findings")["contradictions"][key]["printed"]) for key in ON_TABLE1)


def on_figure5() -> tuple[str, ...]:
    """What can be computed about figure 5's bars without training."""
    figure = numbers()["figure5"]
    bars, keys, total = figure["approximate_scores"], figure["memorization"], "total"
    chance = fmean(motif_chance(vocabulary) for vocabulary in figure["fuzzy_vocabularies"])
    draws = keys["examples"] * keys["draws"]
    ceiling = fmean(share_seen(vocabulary, draws) for vocabulary in keys["vocabularies"])
    words = {model: {task: f"{score:.3g}" for task, score in scores.items()} for model, scores in bars.items()}
    ours, baseline = words["diff_mamba"], words["mamba"]
    means = [fmean(score for task, score in bars[model].items() if task != total) for model in ("mamba", "diff_mamba")]
    return (
        f"Fuzzy in-context recall: a constant answer is right in about {chance:.3f} of cases, as a mean over the "
        f"settings of the authors' code. The published bar of Mamba, about {baseline['fuzzy_in_context_recall']}, is "
        f"near that chance level, so the printed gain of {figure['gain_percent']['fuzzy_in_context_recall']:g} % is "
        f"over a model that has hardly learnt the task; Diff-Mamba's bar is about {ours['fuzzy_in_context_recall']}.",
        f"Memorization: {draws:,} draws of keys in training show a share of {ceiling:.3f} of all keys, as a mean over "
        f"the vocabularies. No model can know the others, so this is about the highest score there is. The published "
        f"bars are about {baseline['memorization']} and {ours['memorization']}.",
        f"The published totals, about {baseline[total]} and {ours[total]}, are the means of the six tasks: "
        f"{means[0]:.3f} and {means[1]:.3f}.",
    )


def motif_chance(vocabulary: int) -> float:
    """1 / `FuzzyInContextRecall.answers`. (What needs PyTorch stays out of here: a page should not wait for it.)"""
    return 1 / (vocabulary // 2)


def share_seen(vocabulary: int, draws: int) -> float:
    """`Memorization.ceiling`: the expected share of all keys that so many draws with equal chances show."""
    return 1 - (1 - 1 / ((vocabulary - 1) // 2)) ** draws


def printed(template: str) -> str:
    """What the paper prints, in the words of a template."""
    return sentence(template, paper=numbers(), table1=rows("table1"))


def sentence(template: str, **values: Any) -> str:
    """A template of Jinja2 with its values, on one line. `|format` is Python's own, `|log2` the logarithm."""
    return " ".join(lines(template, **values))


def lines(template: str, **values: Any) -> tuple[str, ...]:
    """The lines of a template that have something on them."""
    written = _environment().from_string(template).render(values)
    return tuple(" ".join(line.split()) for line in written.splitlines() if line.strip())


@cache
def _environment() -> Environment:
    environment = Environment(undefined=StrictUndefined)
    environment.filters |= {"format": format, "log2": math.log2}
    return environment
