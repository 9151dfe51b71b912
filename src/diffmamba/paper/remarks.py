"""Sentences on the paper's numbers, written from the templates of `findings.yaml`."""

import math
from functools import cache
from typing import Any

from jinja2 import Environment, StrictUndefined

from diffmamba.paper.published import numbers, rows, stored

ON_TABLE1 = ("wikitext103_12_layer_counts", "ppl_called_bits", "deeper_is_worse", "diff_mamba_129_or_128")
"""The findings on table 1's own numbers."""


def on_table1() -> tuple[str, ...]:
    """What to know about table 1's numbers before comparing with them."""
    return tuple(printed(stored("findings")["contradictions"][key]["printed"]) for key in ON_TABLE1)


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
