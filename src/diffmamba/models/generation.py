"""Sampling from a language model, one step per symbol. Except with attention, a step needs constant time and memory."""

from collections.abc import Iterator

import torch
from torch import Tensor

from diffmamba.models.language_model import LanguageModel


@torch.no_grad()
def generate(
    model: LanguageModel,
    prompt: Tensor,
    length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Yields `length` further symbols, one tensor `(batch,)` at a time.

    The prompt `(batch, prompt length)` is read in the parallel form; then each symbol takes one step. `sample` explains
    the other arguments.

    Raises:
        ValueError: if the prompt is empty, or for the reasons of `sample`.
    """
    if 0 in prompt.shape:
        raise ValueError(f"generate: the prompt has shape {tuple(prompt.shape)}; give it at least one row and symbol")
    states = model.allocate_state(prompt.shape[0])
    for _ in range(length):
        logits, states = model.extend(prompt, states)
        symbols = sample(logits[:, -1], temperature, top_k, top_p, generator)
        yield symbols
        prompt = symbols[:, None]


def sample(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draws one symbol per row of logits `(batch, vocabulary)`; returns `(batch,)`.

    Args:
        logits: any numbers; they are divided by the temperature first.
        temperature: 0 takes the most likely symbol.
        top_k: keeps the k most likely symbols; None keeps all.
        top_p: keeps the smallest set of most likely symbols whose probabilities add up to at least p; None keeps all.
        generator: source of the random numbers.

    Raises:
        ValueError: if temperature, top_k or top_p is out of range.
    """
    if temperature < 0:
        raise ValueError(f"temperature={temperature} must be at least 0")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k} must be at least 1, or None for all")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p} must be above 0 and at most 1, or None for all")
    if temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits.float()
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / temperature  # the largest is 0, so none becomes infinite
    if top_k is not None:
        likeliest = logits.topk(min(top_k, logits.shape[-1]), dim=-1)
        logits = torch.full_like(logits, -torch.inf).scatter(1, likeliest.indices, likeliest.values)
    if top_p is not None:
        ordered, order = logits.sort(dim=-1, descending=True)
        before = ordered.softmax(dim=-1).cumsum(dim=-1) - ordered.softmax(dim=-1)  # that of all likelier ones
        logits = torch.full_like(logits, -torch.inf).scatter(1, order, ordered.masked_fill(before >= top_p, -torch.inf))
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)[:, 0]
