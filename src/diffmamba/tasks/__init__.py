"""Tasks: LightningModules, which hold the loss, the metrics and the optimiser, and nothing else."""

from diffmamba.tasks.language_modelling import LanguageModelling, NonFiniteLossError

__all__ = ["LanguageModelling", "NonFiniteLossError"]
