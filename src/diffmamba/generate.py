"""`python -m diffmamba.generate run=runs/3f2a9c01b7de prompt="the file "`: text from a trained run."""

import sys
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from diffmamba import command_line
from diffmamba.errors import SettingError
from diffmamba.models import generate
from diffmamba.trained import TrainedRun

USAGE = """usage: python -m diffmamba.generate run=DIR [prompt=TEXT] [length=400] [temperature=1.0]
                                    [top_k=0] [top_p=1.0] [seed=0] [samples=1] [checkpoint=last|best]

Continues a prompt with a trained run, one symbol at a time, in constant memory and time per symbol
(with attention: growing with the text).

  run=DIR           a directory of the run store
  prompt=TEXT       put into the corpus's own alphabet first
  temperature=0     takes the most likely symbol each time
  samples=N         that many continuations side by side, shown one after the other
  top_k, top_p      sample among the k likeliest (0: all), or among the likeliest that make up probability p"""

DEFAULTS = {
    "run": "",
    "prompt": " ",
    "length": 400,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "seed": 0,
    "samples": 1,
    "checkpoint": "last",
}
RANGES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "length": ("at least 0", lambda value: value >= 0),
    "temperature": ("at least 0", lambda value: value >= 0),
    "samples": ("at least 1", lambda value: value >= 1),
    "top_k": ("at least 0", lambda value: value >= 0),
    "top_p": ("above 0 and at most 1", lambda value: 0 < value <= 1),
    "checkpoint": ("last or best", lambda value: value in ("last", "best")),
}


def main(words: list[str]) -> int:
    """The entry point."""
    settings, unknown = command_line.parse(words, DEFAULTS)
    if unknown:
        raise SettingError(f"{unknown[0]} is not a setting; use {', '.join(DEFAULTS)}")
    if not settings["run"]:
        raise SettingError("run=DIR is missing: which directory of the run store to take; --help says more")
    for name, (range_, fits) in RANGES.items():
        if not fits(settings[name]):
            raise SettingError(f"{name}={settings[name]} must be {range_}")
    trained = TrainedRun(Path(settings["run"]))
    corpus, network = trained.corpus(), trained.network(settings["checkpoint"])
    prompt = corpus.vocabulary.encode(settings["prompt"])
    if not prompt:
        raise SettingError(f"prompt={settings['prompt']!r} has no symbol of the corpus's alphabet")
    steps = generate(
        network,
        torch.tensor([prompt]).expand(settings["samples"], -1),
        settings["length"],
        settings["temperature"],
        settings["top_k"] or None,
        settings["top_p"],
        torch.Generator().manual_seed(settings["seed"]),
    )
    rows: Iterable[Iterable[int]] = [map(int, steps)]  # shown as it grows
    if settings["samples"] > 1:  # grow together, and are shown when they are done
        grown = [step.tolist() for step in steps]
        rows = [[step[i] for step in grown] for i in range(settings["samples"])]
    for row in rows:
        for text in corpus.vocabulary.stream(chain(prompt, row)):
            sys.stdout.write(text)
            sys.stdout.flush()
        sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    command_line.run(main, USAGE)
