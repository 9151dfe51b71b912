"""Tasks: LightningModules that hold the loss, the metrics, what is monitored and what the headline is."""

from diffmamba.tasks.labelling import Labelling
from diffmamba.tasks.language_modelling import LanguageModelling
from diffmamba.tasks.optimization import AdamW
from diffmamba.tasks.task import NonFiniteLossError, Task

__all__ = ["AdamW", "Labelling", "LanguageModelling", "NonFiniteLossError", "Task"]
