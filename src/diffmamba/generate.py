"""`python -m diffmamba.generate run=runs/3f2a9c01b7de prompt="the file "`: text from a trained run."""

import sys
from collections.abc import Iterable
from itertools import chain
from typing import Any, cast

from diffmamba import command_line
from diffmamba.errors import SettingError


def main() -> None:
    """The entry point."""
    sys.exit(command_line.application("generate", run))


def run(settings: dict[str, Any]) -> int:
    """Prints the prompt and its continuations."""
    import torch  # here: --help and a wrong setting need none of it

    from diffmamba.data import LanguageModellingData
    from diffmamba.models import LanguageModel, generate
    from diffmamba.runs.weights import OfRun
    from diffmamba.runs.work import Training, build_network

    weights = OfRun(settings["run"], settings["checkpoint"], settings["runs"])
    work = Training.of(weights.record["config"])
    work.data.require(weights.record["corpus"], str(weights.found.directory))
    network = build_network(work.network, work.data.vocabulary_size).eval()
    weights.load(network)
    if not isinstance(work.data, LanguageModellingData):
        raise SettingError(f"run={settings['run']} was trained on {work.facts['name']}, which is no text to continue")
    vocabulary = work.data.corpus.vocabulary
    prompt = vocabulary.encode(settings["prompt"])
    if not prompt:
        raise SettingError(f"prompt={settings['prompt']!r} has no symbol of the corpus's alphabet")
    steps = generate(
        cast(LanguageModel, network),
        torch.tensor([prompt]).expand(settings["samples"], -1),
        settings["length"],
        settings["temperature"],
        settings["top_k"] or None,
        settings["top_p"],
        torch.Generator().manual_seed(settings["seed"]),
    )
    rows: Iterable[Iterable[int]] = [map(int, steps)]  # shown as it grows
    if settings["samples"] > 1:  # they grow together, and are shown when they are done
        grown = [step.tolist() for step in steps]
        rows = [[step[i] for step in grown] for i in range(settings["samples"])]
    for row in rows:
        for text in vocabulary.stream(chain(prompt, row)):
            sys.stdout.write(text)
            sys.stdout.flush()
        sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    main()
