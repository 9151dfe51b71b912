"""Measures: what is computed from given weights, as rows of a value and its coordinates."""

from diffmamba.measures.attention import ImplicitAttention
from diffmamba.measures.free_running import FreeRunning
from diffmamba.measures.lens import Lens
from diffmamba.measures.loss_by_position import LossByPosition
from diffmamba.measures.lyapunov import Lyapunov
from diffmamba.measures.measure import Measure, Row, Subject
from diffmamba.measures.memory import Memory
from diffmamba.measures.perplexity import Perplexity
from diffmamba.measures.perturbation import Perturbation
from diffmamba.measures.throughput import Throughput

__all__ = [
    "FreeRunning",
    "ImplicitAttention",
    "Lens",
    "LossByPosition",
    "Lyapunov",
    "Measure",
    "Memory",
    "Perplexity",
    "Perturbation",
    "Row",
    "Subject",
    "Throughput",
]
