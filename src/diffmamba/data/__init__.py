"""Corpora prepared once into memory-mapped integer arrays, and the streams and windows read from them.

A source (`sources`) gives bytes, a symbol system (`symbols`) turns them into integers, a corpus (`corpus`) keeps these
on disk, streams (`streams`) cut them into windows, and `datamodule.LanguageModellingData` hands the windows to
Lightning. Nothing here knows a model. Only `datamodule` imports Lightning.
"""

from diffmamba.data.corpus import Corpus, prepare
from diffmamba.data.sources import PythonDocs, PythonSource, Source, TextFile
from diffmamba.data.streams import EvalWindows, TrainStreams
from diffmamba.data.symbols import Vocabulary

__all__ = [
    "Corpus",
    "EvalWindows",
    "PythonDocs",
    "PythonSource",
    "Source",
    "TextFile",
    "TrainStreams",
    "Vocabulary",
    "prepare",
]
