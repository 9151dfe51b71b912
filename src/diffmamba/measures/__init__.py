"""Measures: what is computed from given weights, as rows of a value and its coordinates."""

from diffmamba.measures.loss_by_position import LossByPosition
from diffmamba.measures.measure import Measure, Row, Subject
from diffmamba.measures.perplexity import Perplexity

__all__ = ["LossByPosition", "Measure", "Perplexity", "Row", "Subject"]
