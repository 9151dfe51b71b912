"""Sequences of symbols in which something is to be predicted: windows of a text, examples of a task, prompts of a file.

A prompt has one target: the first symbol of its answer, after the last symbol of the prompt.
"""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffmamba.data import Data, Vocabulary
from diffmamba.data.streams import IGNORED, windows_at
from diffmamba.data.symbols import read_vocabulary
from diffmamba.errors import SettingError

COLUMNS = ("prompt", "target")


@dataclass(frozen=True)
class Sequences:
    """So many sequences; `at` takes their numbers and gives inputs and targets, int64 `(sequences, length)`.

    A target is -100 where nothing is to be predicted.
    """

    count: int
    at: Callable[[np.ndarray], tuple[Tensor, Tensor]]


def of_data(data: Data, split: str, length: int, whose: str, anywhere: bool = False) -> Sequences:
    """Windows of `length` symbols of a corpus, side by side or with a start `anywhere`; or a task's examples.

    `whose` names the measure in messages. Raises SettingError for a window that is longer than the split, and for data
    without a corpus and examples.
    """
    if (corpus := getattr(data, "corpus", None)) is not None:
        symbols = corpus.split(split)
        most = len(symbols) - 1
        if not 0 < length <= most:
            raise SettingError(f"measure.length={length} must be at least 1 and at most {most}: {split} has no more")
        step = 1 if anywhere else length
        return Sequences((most - length) // step + 1, lambda rows: windows_at(symbols, rows * step, length))
    if (splits := getattr(data, "splits", None)) is not None:
        examples = splits[split]
        return Sequences(len(examples.inputs), lambda rows: _tensors(examples.inputs[rows], examples.targets[rows]))
    raise SettingError(f"{whose} needs a corpus or examples, and {data.facts['name']} is neither")


def of_prompts(content: bytes, path: str, data: Data) -> Sequences:
    """The prompts of a csv or jsonl file, in the symbols of the data.

    Raises SettingError for a file without prompts and targets, and for data whose symbols are no text.
    """
    if data.symbols is None:
        raise SettingError(f"measure.prompts={path} is text, and the symbols of {data.facts['name']} are none")
    vocabulary = read_vocabulary(dict(data.symbols))
    encoded = [
        tuple(_encoded(text, vocabulary, f"measure.prompts={path}: {name} {number}") for name, text in row)
        for number, row in enumerate(_rows(content, path), start=1)
    ]

    def at(rows: np.ndarray) -> tuple[Tensor, Tensor]:
        found = [encoded[row] for row in rows]
        inputs = np.zeros((len(found), max(len(prompt) for prompt, _ in found)), np.int64)
        targets = np.full_like(inputs, IGNORED)
        for row, (prompt, target) in enumerate(found):  # what follows a prompt changes nothing before it
            inputs[row, : len(prompt)], targets[row, len(prompt) - 1] = prompt, target[0]
        return _tensors(inputs, targets)

    return Sequences(len(encoded), at)


def _rows(content: bytes, path: str) -> list[list[tuple[str, str]]]:
    """The prompt and the target of each row, each with the name of its column. A number counts as its digits."""
    kind = Path(path).suffix
    try:
        text = content.decode("utf-8-sig")
        if kind == ".jsonl":
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            found = list(csv.DictReader(StringIO(text, newline="")))
        rows = [[(name, row[name]) for name in COLUMNS] for row in found]
    except (ValueError, LookupError, TypeError, csv.Error):
        rows = []
    if not rows:
        raise SettingError(
            f"measure.prompts={path} must be a .csv or .jsonl file with the columns prompt and target, and some rows"
        )
    for number, row in enumerate(rows, start=1):
        for name, value in row:
            if value is None:  # a row of a csv file that is too short, or null
                raise SettingError(f"measure.prompts={path}: {name} {number} is missing")
    return [[(name, str(value)) for name, value in row] for row in rows]


def _encoded(text: str, vocabulary: Vocabulary, where: str) -> Sequence[int]:
    try:
        symbols = vocabulary.encode(text)
    except SettingError as error:
        raise SettingError(f"{where}: {error}") from None
    if not symbols:
        raise SettingError(f"{where} is empty")
    return symbols


def _tensors(inputs: np.ndarray, targets: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(np.ascontiguousarray(inputs)), torch.from_numpy(np.ascontiguousarray(targets))
