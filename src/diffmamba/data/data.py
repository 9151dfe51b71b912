"""What a training asks of its data, whatever they are."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningDataModule

from diffmamba.errors import SettingError


def of_a_corpus(facts: Mapping[str, Any]) -> bool:
    """Whether these are facts of a corpus, of which the content says everything.

    Examples have a level of chance, and a corpus has none. They may be made of a corpus; then what they are made with
    counts too.
    """
    return bool(facts["fingerprint"]) and "chance" not in facts


class Data(LightningDataModule):
    """Batches for one task: a training loader, and the loaders of val and test as validation loaders 0 and 1.

    A new kind of data is a subclass with the abstract members and the loaders. Its constructor may prepare a corpus.
    What the constructor is called with is the identity of the data, and for a corpus its content.
    """

    @property
    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What a record says: name, fingerprint of the content (None where the settings say everything), sizes of the
        splits in positions, and as vocabulary the number of different symbols."""

    @classmethod
    @abstractmethod
    def steps_in_epoch(cls, facts: Mapping[str, Any], **settings: Any) -> int:
        """Optimiser steps in an epoch over data of these facts, with these arguments of the constructor."""

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch over these data."""

    @classmethod
    def known_by(cls, fingerprint: str | None, **settings: Any) -> "Data":
        """The data that these arguments of the constructor gave when their content had this fingerprint.

        Data that are kept by their content are found there, whatever has become of what they were made from. Others
        are made anew, and may be different ones: see `require`.
        """
        return cls(**settings)

    @property
    def vocabulary_size(self) -> int:
        """The number of different symbols, which a network is built for."""
        return self.facts["vocabulary"]

    @property
    def symbols(self) -> Mapping[str, Any] | None:
        """What the integers mean, as plain data, for a run to keep; None where they mean nothing beyond themselves."""
        return None

    def described(self) -> str:
        """One line for people: what was read, and how much of it is used."""
        sizes = ", ".join(f"{split} {size:,}" for split, size in self.facts["sizes"].items())
        return f"{self.facts['name']}: {sizes}; {self.vocabulary_size:,} different symbols"

    def check(self, world_size: int) -> None:
        """Raises SettingError where the settings do not fit the content or the number of devices."""

    def require_unchanged(self) -> None:
        """Raises OSError where what the data are read from has been changed since they were built."""

    def require(self, expected: Mapping[str, Any], whose: str) -> None:
        """Raises SettingError unless these are data of the expected facts, those of the run `whose`."""
        if self.facts["fingerprint"] != expected["fingerprint"]:
            raise SettingError(f"{expected['name']} is not what {whose} was trained on any more; restore it first")

    def require_symbols(self, symbols: Mapping[str, Any] | None, size: int, whose: str) -> None:
        """Raises SettingError where integers mean something else here than in the data `whose` weights are of.

        `symbols` and `size` are what those data have as `symbols` and `vocabulary_size`.
        """
        if self.vocabulary_size != size:
            raise SettingError(f"data: {whose} was trained on {size} symbols, these data have {self.vocabulary_size}")

    def read_as(self, symbols: Mapping[str, Any] | None, size: int, whose: str) -> "Data":
        """These data in those symbols, for weights of `whose`; the arguments are those of `require_symbols`.

        Raises the same errors where the data cannot be written in those symbols.
        """
        self.require_symbols(symbols, size, whose)
        return self
