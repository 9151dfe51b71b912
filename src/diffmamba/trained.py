"""A trained run, opened for use: its network with the weights of a checkpoint, and the corpus it was trained on."""

from pathlib import Path

import torch

from diffmamba import configuration
from diffmamba.build import build_network, network_weights
from diffmamba.data import Corpus
from diffmamba.errors import SettingError
from diffmamba.models import LanguageModel
from diffmamba.runs import Run

CHECKPOINTS = ("last", "best")


class TrainedRun:
    """A directory of the run store; raises SettingError where it is none, or has lost what is asked for."""

    def __init__(self, directory: Path):
        record = Run(directory).read()
        if record is None:
            raise SettingError(f"run={directory} is not a run: there is no result.json in it")
        self.directory = directory
        self.record = record

    def network(self, checkpoint: str = "last") -> LanguageModel:
        """The network with the weights of `last` or `best`, in evaluation mode, on the CPU."""
        network = build_network(self.record["config"]["model"], self.record["corpus"]["vocabulary"])
        network.load_state_dict(network_weights(network, self._path(checkpoint)))
        return network.eval()

    def step(self, checkpoint: str = "last") -> int:
        """Optimiser steps that a readable checkpoint was trained for."""
        return torch.load(self._path(checkpoint), map_location="cpu", weights_only=True, mmap=True)["global_step"]

    def corpus(self) -> Corpus:
        """The corpus it was trained on, unless the text has changed since."""
        corpus = configuration.corpus(self.record["config"]["data"])
        if not self._was_trained_on(corpus):
            raise SettingError(
                f"{self.record['corpus']['name']} is not the text that {self.directory} was trained on any more; "
                f"restore it first"
            )
        return corpus

    def check_symbols(self, corpus: Corpus) -> None:
        """Raises SettingError where the integers of this corpus mean other symbols than those it was trained on."""
        if self._was_trained_on(corpus):
            return  # also where its own corpus is no longer in its place
        own = self.corpus()
        found, expected = corpus.vocabulary.symbols, own.vocabulary.symbols
        differing = [i for i, (one, other) in enumerate(zip(found, expected, strict=False)) if one != other]
        if len(found) != len(expected):
            difference = f"there are {len(found)} of them, where the run's own {own.name} has {len(expected)}"
        elif differing:
            i = differing[0]
            difference = f"number {i} is {found[i]!r}, where the run's own {own.name} has {expected[i]!r}"
        else:
            return
        raise SettingError(
            f"data: {self.directory} was trained on other symbols than those of {corpus.name}: {difference}"
        )

    def _was_trained_on(self, corpus: Corpus) -> bool:
        return corpus.fingerprint == self.record["corpus"]["fingerprint"]

    def _path(self, checkpoint: str) -> Path:
        return self.directory / "checkpoints" / f"{checkpoint}.ckpt"
