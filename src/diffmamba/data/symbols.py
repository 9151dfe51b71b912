"""Symbol systems: how bytes become integers, and how the integers are read back.

| name | symbols | order |
|---|---|---|
| `text8` | the 27 of Text8: the space and a to z; digits are spelled out | space, a to z |
| `bytes` | the byte values that occur in the corpus (205 of them in Enwik8) | by value |
| `words` | words between white space, `<eos>` after a line with words, `<unk>` | most frequent first |
| `wikitext` | the same with `<eos>` after every line, as WikiText-103 is counted | most frequent first |

A system is used for one preparation. It first gives *provisional* integers. At the end it knows its `Vocabulary` and
the table that turns provisional integers into final ones. To add a system, write a `Vocabulary` and a `SymbolSystem`,
and add a line to `SYSTEMS`.
"""

from typing import Any

from diffmamba.data.characters import Bytes, Text8
from diffmamba.data.systems import SymbolSystem, Vocabulary
from diffmamba.data.words import WikiText, Words
from diffmamba.errors import SettingError

SYSTEMS: dict[str, type[SymbolSystem]] = {"text8": Text8, "bytes": Bytes, "words": Words, "wikitext": WikiText}


def symbol_system(name: str) -> SymbolSystem:
    """A new symbol system. Raises `SettingError` naming `data.symbols` for an unknown name."""
    if name not in SYSTEMS:
        raise SettingError(f"data.symbols: there is no symbol system {name!r}; choose one of {', '.join(SYSTEMS)}")
    return SYSTEMS[name]()


def read_vocabulary(record: dict[str, Any]) -> Vocabulary:
    """The vocabulary that `to_json` wrote."""
    return symbol_system(record["system"]).vocabulary(record["symbols"])
