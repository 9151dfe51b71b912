"""Language modelling data as Lightning wants it: one corpus, its training streams and its evaluation windows."""

from collections.abc import Mapping
from copy import copy
from typing import Any

from diffmamba.data.corpus import Corpus, CorpusChoice
from diffmamba.data.data import Data
from diffmamba.data.streams import EvalWindows, TrainStreams, steps_per_epoch
from diffmamba.data.symbols import read_vocabulary
from diffmamba.errors import SettingError
from diffmamba.ranges import Seed, Size

IN_EVALUATE = " (in evaluate: data. in the place of measured.)"
"""Data are read in other symbols only where weights are measured on them."""


class LanguageModellingData(Data):
    """Batches `(inputs, targets)`, each int64 `(batch, length)`, of a prepared corpus.

    Validation has two loaders, 0 for the val split and 1 for the test split, because the paper reads the test metric
    at every evaluation.

    Args:
        corpus: the prepared corpus, or the choice of one, which is prepared here.
        batch_size: training streams of one optimiser step, over all ranks and accumulated parts.
        length: symbols per window.
        eval_batch_size: windows per evaluation batch, on each rank.
        eval_windows: at most this many windows of each evaluated split, over all ranks; None is all of them.
        rotation_seed: epoch `e` rotates its streams by offsets drawn from a generator with seed `rotation_seed + e`.
        parts: number of batches, with accumulated gradients, that make up a rank's share of a step.
        reencode: for a measurement: whether the text is written in the symbols of the weights. False feeds its own
            integers, whatever they mean to the network: a fault of published scripts, for their figures.

    A checkpoint holds the position in the training streams, and a resumed training continues with the very next window.
    This module saves the position itself, because under `max_epochs` Lightning 2.6 does not restore the state of a
    loader from a checkpoint at the end of an epoch, or if `estimated_stepping_batches` is read while optimizers are set
    up. A checkpoint in the middle of a step, as after an exception, counts that step as done, as Lightning does.
    """

    def __init__(
        self,
        *,
        corpus: Corpus | CorpusChoice,
        batch_size: Size,
        length: Size,
        eval_batch_size: Size,
        eval_windows: Size | None = None,
        rotation_seed: Seed = 42,
        parts: Size = 1,
        reencode: bool = True,
    ) -> None:
        super().__init__()
        self._choice = corpus if isinstance(corpus, CorpusChoice) else None
        self._reencode = reencode
        if not isinstance(corpus, CorpusChoice):
            self.corpus = corpus
        elif corpus.system is not None:  # else the weights say in which symbols: see `read_as`
            self.corpus = corpus.prepare()
        self.batch_size = batch_size
        self.length = length
        self.eval_batch_size = eval_batch_size
        self.eval_windows = eval_windows
        self.rotation_seed = rotation_seed
        self.parts = parts
        self._streams: TrainStreams | None = None
        self._restored: dict[str, int] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        corpus, size = self.corpus, self.corpus.vocabulary.size
        facts = {"name": corpus.name, "fingerprint": corpus.fingerprint, "sizes": corpus.sizes, "vocabulary": size}
        if corpus.unknown:
            facts["unknown"] = corpus.unknown
        return facts if corpus.own_vocabulary else facts | {"own_vocabulary": False}

    @property
    def symbols(self) -> Mapping[str, Any]:
        return self.corpus.manifest["vocabulary"]

    @classmethod
    def known_by(cls, fingerprint: str | None, **settings: Any) -> Data:
        choice = settings["corpus"]
        found = choice.find(fingerprint) if isinstance(choice, CorpusChoice) else None
        return cls(**settings | ({"corpus": found} if found else {}))

    @classmethod
    def steps_in_epoch(cls, facts: Mapping[str, Any], **settings: Any) -> int:
        """Optimiser steps per epoch, the same for any number of ranks and parts."""
        return steps_per_epoch(facts["sizes"]["train"], settings["batch_size"], settings["length"])

    @property
    def steps_per_epoch(self) -> int:
        return self.steps_in_epoch(self.facts, batch_size=self.batch_size, length=self.length)

    def check(self, world_size: int) -> None:
        self.train_streams(0, world_size)
        self.val_dataloader()

    def require_unchanged(self) -> None:
        self.corpus.require_unchanged()

    def require_symbols(self, symbols: Mapping[str, Any] | None, size: int, whose: str) -> None:
        if symbols is None:
            super().require_symbols(symbols, size, whose)
            return
        found, expected = self.corpus.vocabulary.symbols, symbols["symbols"]
        if self._are(symbols):
            return
        difference = f"there are {len(found)} of them, where {whose} has {len(expected)}"
        if len(found) == len(expected):
            i = next((i for i, symbol in enumerate(found) if symbol != expected[i]), None)
            difference = "their tokenizers part a text in other ways"
            if i is not None:
                difference = f"number {i} is {found[i]!r}, where {whose} has {expected[i]!r}"
        raise SettingError(f"data: {whose} was trained on other symbols than those of {self.corpus.name}: {difference}")

    def read_as(self, symbols: Mapping[str, Any] | None, size: int, whose: str) -> Data:
        if not self._reencode:
            return self._as_they_are(size, whose)
        asked = self._choice.system if self._choice else None
        if symbols is not None and self._choice and (asked is None or not self._are(symbols)):
            if self._choice.source.symbols:
                raise SettingError(
                    f"the ids of {self.corpus.name} mean other tokens than those of {whose}; set measured.decode to "
                    f"their tokenizer.json, or feed them as they are: measured.reencode=false{IN_EVALUATE}"
                )
            if asked not in (None, symbols["system"]):
                raise SettingError(
                    f"data.symbols={asked}, but {whose} was trained on {symbols['system']}; set "
                    f"data.symbols={symbols['system']}"
                )
            read = copy(self)
            read.corpus = self._choice.prepare_in(read_vocabulary(symbols))
            return read
        self.require_symbols(symbols, size, whose)
        return self

    def _are(self, symbols: Mapping[str, Any]) -> bool:
        """Whether integers mean the same here as in these symbols."""
        own = self.symbols
        return own["symbols"] == symbols["symbols"] and own.get("tokenizer") == symbols.get("tokenizer")

    def _as_they_are(self, size: int, whose: str) -> Data:
        """Its own integers for a network of so many symbols."""
        if self._choice and self._choice.system is None:
            raise SettingError(
                f"measured.reencode=false feeds a text in symbols of its own; name them: measured.symbols{IN_EVALUATE}"
            )
        if self.vocabulary_size > size:
            raise SettingError(
                f"measured.reencode=false feeds {self.vocabulary_size} different integers to {whose}, which has "
                f"{size}; set measured.reencode=true{IN_EVALUATE}"
            )
        return self

    def described(self) -> str:
        sizes = self.corpus.sizes
        splits = ", ".join(f"{split} {size:,}" for split, size in sizes.items())
        stream, left = divmod(sizes["train"], self.batch_size)
        windows = {split: -(-(sizes[split] - 1) // self.length) for split in ("val", "test")}
        evaluated = ", ".join(
            f"{min(self.eval_windows or total, total):,} of {total:,} windows of {split}"
            for split, total in windows.items()
        )
        unused = f", {left:,} symbols at the end are not used" if left else ""
        return (
            f"{self.corpus.name}: {sum(sizes.values()):,} symbols of {self.vocabulary_size:,} different ones "
            f"({splits}); {self.batch_size:,} streams of {stream:,}{unused}; evaluations read {evaluated}"
        )

    def train_dataloader(self) -> TrainStreams:
        self._streams = self.train_streams(*self._ranks())
        if self._restored is not None:
            self._streams.load_state_dict(self._restored)
            self._restored = None
        return self._streams

    def state_dict(self) -> dict[str, int]:
        return self._streams.state_dict() if self._streams is not None else {}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._restored = state_dict  # Lightning asks for the training loader later

    def val_dataloader(self) -> list[EvalWindows]:
        return [
            EvalWindows(self.corpus.split(split), self.eval_batch_size, self.length, self.eval_windows, *self._ranks())
            for split in ("val", "test")
        ]

    def train_streams(self, rank: int, world_size: int) -> TrainStreams:
        """The training streams of one of `world_size` ranks, at the start of the first epoch."""
        training = self.corpus.split("train")
        return TrainStreams(training, self.batch_size, self.length, self.rotation_seed, rank, world_size, self.parts)

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
