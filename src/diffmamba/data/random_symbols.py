"""Data that have a vocabulary and nothing else: for measures that draw their own symbols, such as those of speed."""

from collections.abc import Mapping
from typing import Any, NoReturn

from diffmamba.data.data import Data
from diffmamba.errors import SettingError
from diffmamba.ranges import Size


class RandomSymbols(Data):
    """`vocabulary` different symbols, of which nothing is known: nothing is prepared, and nothing can be learnt."""

    def __init__(self, vocabulary: Size):
        super().__init__()
        self.vocabulary = vocabulary

    @property
    def facts(self) -> dict[str, Any]:
        sizes = dict.fromkeys(("train", "val", "test"), 0)
        return {"name": "symbols", "fingerprint": None, "sizes": sizes, "vocabulary": self.vocabulary}

    @classmethod
    def steps_in_epoch(cls, facts: Mapping[str, Any], **settings: Any) -> int:
        return 0

    @property
    def steps_per_epoch(self) -> int:
        return 0

    def check(self, world_size: int) -> NoReturn:
        raise SettingError(
            "data=symbols has nothing to train on; it is for measures that draw their own symbols, with weights=fresh: "
            "measure=throughput, measure=memory"
        )
