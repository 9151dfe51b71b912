"""Measures: what is computed from given weights, as rows of a value and its coordinates."""

from diffmamba.measures.free_running import FreeRunning
from diffmamba.measures.lyapunov import Lyapunov
from diffmamba.measures.measure import Measure, Row, Subject
from diffmamba.measures.perplexity import Perplexity
from diffmamba.measures.perturbation import Perturbation

__all__ = ["FreeRunning", "Lyapunov", "Measure", "Perplexity", "Perturbation", "Row", "Subject"]
