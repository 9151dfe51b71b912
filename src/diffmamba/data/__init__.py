"""Corpora prepared once into memory-mapped integer arrays, and the streams and windows read from them.

A source (`sources`, `published`) gives bytes, a symbol system (`symbols`) turns them into integers,
`corpus.prepare` keeps these on disk, streams (`streams`) cut them into windows, and
`datamodule.LanguageModellingData` gives the windows to Lightning. Synthetic tasks need none of that: a rule
(`synthetic`, `recall`) makes examples, and `examples.SyntheticData` gives them to Lightning. `needle` is recall in
prose. Nothing here knows a model.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from diffmamba.data.corpus import Corpus, CorpusChoice, prepare
from diffmamba.data.long_crawl import LongCrawl64
from diffmamba.data.published import PublishedFile, WikiText103
from diffmamba.data.recall import FuzzyInContextRecall, InContextRecall
from diffmamba.data.sources import PythonDocs, PythonSource, Source, TextFile
from diffmamba.data.streams import EvalWindows, TrainStreams
from diffmamba.data.synthetic import Compression, Memorization, Rule, SelectiveCopying
from diffmamba.data.systems import Vocabulary
from diffmamba.data.tokens import Tokenizer

if TYPE_CHECKING:
    from diffmamba.data.data import Data
    from diffmamba.data.datamodule import LanguageModellingData
    from diffmamba.data.examples import SyntheticData
    from diffmamba.data.needle import NeedleData, NeedlesInProse
    from diffmamba.data.random_symbols import RandomSymbols

__all__ = [
    "Compression",
    "Corpus",
    "CorpusChoice",
    "Data",
    "EvalWindows",
    "FuzzyInContextRecall",
    "InContextRecall",
    "LanguageModellingData",
    "LongCrawl64",
    "Memorization",
    "NeedleData",
    "NeedlesInProse",
    "PublishedFile",
    "PythonDocs",
    "PythonSource",
    "RandomSymbols",
    "Rule",
    "SelectiveCopying",
    "Source",
    "SyntheticData",
    "TextFile",
    "Tokenizer",
    "TrainStreams",
    "Vocabulary",
    "WikiText103",
    "prepare",
]

IN_MODULE = {
    "Data": "data",
    "LanguageModellingData": "datamodule",
    "RandomSymbols": "random_symbols",
    "NeedleData": "needle",
    "NeedlesInProse": "needle",
    "SyntheticData": "examples",
}
"""Those of Lightning, which takes seconds to import."""


def __getattr__(name: str) -> Any:
    if name not in IN_MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"diffmamba.data.{IN_MODULE[name]}"), name)
