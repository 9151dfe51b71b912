"""Measures: what is computed from given weights, as rows of a value and its coordinates."""

from diffmamba.measures.attention import ImplicitAttention
from diffmamba.measures.measure import Measure, Row, Subject
from diffmamba.measures.perplexity import Perplexity

__all__ = ["ImplicitAttention", "Measure", "Perplexity", "Row", "Subject"]
