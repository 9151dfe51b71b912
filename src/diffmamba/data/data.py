"""What a training asks of its data, whatever they are."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningDataModule

from diffmamba.errors import SettingError


class Data(LightningDataModule):
    """Batches for one task: a training loader, and the loaders of val and test as validation loaders 0 and 1.

    A new kind of data is a subclass with the abstract members and the loaders. Its constructor may prepare a corpus.
    What the constructor is called with is the identity of the data, and for a corpus its content.
    """

    @property
    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What a record says: name, fingerprint of the content (None where the settings say everything), sizes of the
        splits, and as vocabulary the number of different symbols."""

    @classmethod
    @abstractmethod
    def steps_in_epoch(cls, facts: Mapping[str, Any], **settings: Any) -> int:
        """Optimiser steps in an epoch over data of these facts, with these arguments of the constructor."""

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch over these data."""

    @property
    def vocabulary_size(self) -> int:
        """The number of different symbols, which a network is built for."""
        return self.facts["vocabulary"]

    def check(self, world_size: int) -> None:
        """Raises SettingError where the settings do not fit the content or the number of devices."""

    def require(self, expected: Mapping[str, Any], whose: str) -> None:
        """Raises SettingError unless these are data of the expected facts, those of the run `whose`."""
        if self.facts["fingerprint"] != expected["fingerprint"]:
            raise SettingError(f"{expected['name']} is not what {whose} was trained on any more; restore it first")

    def require_symbols_of(self, other: "Data", whose: str) -> None:
        """Raises SettingError where integers mean other symbols here than in the data that `whose` was trained on."""
        if self.vocabulary_size != other.vocabulary_size:
            raise SettingError(
                f"data: {whose} was trained on {other.vocabulary_size} symbols, these data have {self.vocabulary_size}"
            )
