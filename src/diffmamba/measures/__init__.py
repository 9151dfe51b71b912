"""Measures: what is computed from given weights, as rows of a value and its coordinates."""

from diffmamba.measures.lens import Lens
from diffmamba.measures.measure import Measure, Row, Subject
from diffmamba.measures.perplexity import Perplexity

__all__ = ["Lens", "Measure", "Perplexity", "Row", "Subject"]
