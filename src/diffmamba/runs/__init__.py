"""Runs: their identity, their directory, their record, and how they resume."""

from diffmamba.runs.identity import identity
from diffmamba.runs.store import Record, Run, RunStore, RunTakenError

__all__ = ["Record", "Run", "RunStore", "RunTakenError", "identity"]
