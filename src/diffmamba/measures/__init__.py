"""Measures: what is computed from given weights, as rows of a value and its coordinates."""

from diffmamba.measures.lens import Lens
from diffmamba.measures.loss_by_position import LossByPosition
from diffmamba.measures.free_running import FreeRunning
from diffmamba.measures.lyapunov import Lyapunov
from diffmamba.measures.attention import ImplicitAttention
from diffmamba.measures.measure import Measure, Row, Subject
from diffmamba.measures.memory import Memory
from diffmamba.measures.perplexity import Perplexity
from diffmamba.measures.throughput import Throughput

__all__ = [
    "ImplicitAttention",
    "Lens",
    "LossByPosition",
    "Measure",
    "Memory",
    "Perplexity",
    "Row",
    "Subject",
    "Throughput",
]
