"""Runs: their identity, their directory, their record, and how they resume."""

from diffmamba.runs.identity import BUILT, identity
from diffmamba.runs.recorder import RandomState, RunRecorder
from diffmamba.runs.store import Record, Run, RunStore, RunTakenError

__all__ = ["BUILT", "RandomState", "Record", "Run", "RunRecorder", "RunStore", "RunTakenError", "identity"]
