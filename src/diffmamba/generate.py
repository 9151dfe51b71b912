"""`python -m diffmamba.generate run=runs/3f2a9c01b7de prompt="the file "`: text from a trained run."""

import sys
from collections.abc import Iterable
from itertools import chain
from typing import Any

from diffmamba import command_line, device
from diffmamba.errors import SettingError
from diffmamba.exit_status import tell
from diffmamba.output import reader_is_gone


def main() -> None:
    """The entry point."""
    sys.exit(command_line.application("generate", run))


def run(settings: dict[str, Any]) -> int:
    """Prints the prompt and its continuations."""
    place = device.chosen(settings)
    with command_line.importing():  # here: --help and a wrong setting need none of it
        import torch

        from diffmamba.allocator import keep_freed_memory
        from diffmamba.data.symbols import read_vocabulary
        from diffmamba.models import LanguageModel, generate
        from diffmamba.runs import sources
        from diffmamba.runs.weights import OfRun
        from diffmamba.runs.work import Training, build_network, symbols_of

    keep_freed_memory()  # the states of every step are new memory: 64 samples then take 0.4 of the time
    if settings["threads"]:
        torch.set_num_threads(settings["threads"])
    weights = OfRun(settings["run"], settings["checkpoint"], settings["runs"])
    if changed := sources.some(sources.changed(weights.record)):
        tell(f"the run was trained with other sources: {changed}")
    work = Training.of(weights.record["config"])
    corpus, symbols = weights.record["corpus"], symbols_of(weights, work)
    network = build_network(work.network, corpus["vocabulary"]).eval()
    weights.load(network)
    network.to(place)
    if symbols is None or not isinstance(network, LanguageModel):
        raise SettingError(f"run={settings['run']} was trained on {corpus['name']}, which is no text to continue")
    vocabulary = read_vocabulary(symbols)
    prompt = vocabulary.encode(settings["prompt"])
    if not prompt:
        raise SettingError(f"prompt={settings['prompt']!r} has no symbol of the corpus's alphabet")
    steps = generate(
        network,
        torch.tensor([prompt], device=place).expand(settings["samples"], -1),
        settings["length"],
        settings["temperature"],
        settings["top_k"] or None,
        settings["top_p"],
        torch.Generator(place).manual_seed(settings["seed"]),
    )
    rows: Iterable[Iterable[int]] = [map(int, steps)]  # shown as it grows
    if settings["samples"] > 1:  # they grow together, and are shown when they are done
        grown = [step.tolist() for step in steps]
        rows = [[step[i] for step in grown] for i in range(settings["samples"])]
    for row in rows:
        for text in vocabulary.stream(chain(prompt, row)):
            sys.stdout.write(text)
            sys.stdout.flush()
            if reader_is_gone():
                return 0
        sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    main()
