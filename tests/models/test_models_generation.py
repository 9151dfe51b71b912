"""Generation: which symbols each setting allows, and that every symbol costs the same."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diffmamba.mixers.mixer import State
from diffmamba.models import LanguageModel, generate
from diffmamba.models.generation import sample

Build = Callable[..., LanguageModel]
PROMPT = torch.tensor([[1, 2, 3, 4, 5], [6, 5, 4, 3, 2]])


@pytest.fixture
def model(build: Build) -> LanguageModel:
    return build("model=diff_mamba").double().eval()


def text(model: LanguageModel, length: int = 12, prompt: Tensor = PROMPT, **settings: object) -> Tensor:
    return torch.stack(list(generate(model, prompt, length, **settings)), dim=1)


@torch.no_grad()
def greedy(model: LanguageModel, length: int) -> Tensor:
    """The most likely symbol each time. Every symbol reads the whole text again."""
    symbols = PROMPT
    for _ in range(length):
        symbols = torch.cat([symbols, model(symbols)[:, -1:].argmax(-1)], dim=1)
    return symbols[:, PROMPT.shape[1] :]


@pytest.mark.parametrize(
    "settings", [{"temperature": 0}, {"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}], ids=str
)
def test_narrowest_settings_take_the_most_likely_symbol(model: LanguageModel, settings: dict) -> None:
    assert torch.equal(text(model, **settings), greedy(model, 12))


@pytest.mark.parametrize(("length", "prompt"), [(0, PROMPT), (1, PROMPT), (7, PROMPT[:, :1])])
def test_it_yields_the_length_asked_for(model: LanguageModel, length: int, prompt: Tensor) -> None:
    symbols = list(generate(model, prompt, length))
    assert [symbol.shape for symbol in symbols] == [(2,)] * length


@pytest.mark.parametrize("shape", [(2, 0), (0, 5)])
def test_an_empty_prompt_is_refused_in_one_line(model: LanguageModel, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"^generate: the prompt has shape .*; give it at least one row and symbol$"):
        text(model, prompt=torch.zeros(shape, dtype=torch.long))


@pytest.mark.parametrize("settings", [{"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}], ids=str)
def test_a_choice_of_nothing_is_refused_in_one_line(model: LanguageModel, settings: dict) -> None:
    with pytest.raises(ValueError, match=r"^(temperature|top_k|top_p)=.* must be [^\n]*$"):
        text(model, **settings)


def test_a_seed_gives_a_text(model: LanguageModel) -> None:
    one, same, other = (text(model, 40, generator=torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_rows_of_a_batch_do_not_touch_each_other(model: LanguageModel) -> None:
    together = text(model, temperature=0)
    for row in range(2):
        assert torch.equal(text(model, prompt=PROMPT[row : row + 1], temperature=0)[0], together[row])


@pytest.mark.parametrize("name", ["transformer", "diff_transformer"])
def test_attention_generates_the_same_as_by_reading_again(build: Build, name: str) -> None:
    """Over several doublings of its cache, for all rows of a batch."""
    model = build(f"model={name}").double().eval()
    together = text(model, 30, temperature=0)
    assert torch.equal(together, greedy(model, 30))
    assert torch.equal(text(model, 30, PROMPT[1:], temperature=0)[0], together[1])


def test_nothing_is_kept_for_gradients(model: LanguageModel) -> None:
    logits, _ = model.extend(PROMPT, model.allocate_state(2))
    assert logits.requires_grad
    assert not any(symbol.requires_grad for symbol in generate(model, PROMPT, 2))


def sizes(states: list[State]) -> list[list[torch.Size]]:
    return [[tensor.shape for tensor in state or ()] for state in states]


def test_every_symbol_costs_one_step_on_a_state_of_one_size(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    extend, seen = model.extend, []

    def watched(symbols: Tensor, states: list[State]) -> tuple[Tensor, list[State]]:
        logits, states = extend(symbols, states)
        seen.append((symbols.shape[1], sizes(states)))
        return logits, states

    monkeypatch.setattr(model, "extend", watched)
    text(model, 30)
    assert seen[0][0] == PROMPT.shape[1]
    assert {count for count, _ in seen[1:]} == {1}
    assert all(found == sizes(model.allocate_state(2)) for _, found in seen)


PROBABILITIES = torch.tensor([0.10, 0.45, 0.05, 0.25, 0.15])


def frequencies(probabilities: Tensor, **settings: object) -> Tensor:
    """How often each symbol is drawn, of 40,000 times."""
    logits = probabilities.log().expand(40_000, -1)
    symbols = sample(logits, generator=torch.Generator().manual_seed(0), **settings)
    return symbols.bincount(minlength=len(probabilities)) / len(symbols)


def assert_drawn_from(found: Tensor, weights: Tensor) -> None:
    expected = weights / weights.sum()
    assert not found[expected == 0].any()
    torch.testing.assert_close(found, expected, rtol=0, atol=0.012)  # over four standard deviations


def test_symbols_are_drawn_by_their_probabilities() -> None:
    assert_drawn_from(frequencies(PROBABILITIES), PROBABILITIES)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_is_an_exponent(temperature: float) -> None:
    assert_drawn_from(frequencies(PROBABILITIES, temperature=temperature), PROBABILITIES ** (1 / temperature))


@pytest.mark.parametrize(("k", "kept"), [(1, [1]), (2, [1, 3]), (3, [1, 3, 4]), (5, [0, 1, 2, 3, 4]), (9, range(5))])
def test_top_k_keeps_the_k_likeliest(k: int, kept: list[int]) -> None:
    weights = torch.zeros(5).index_copy(0, torch.tensor(list(kept)), PROBABILITIES[list(kept)])
    assert_drawn_from(frequencies(PROBABILITIES, top_k=k), weights)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_top_k_keeps_k_symbols_even_where_they_tie(k: int) -> None:
    assert frequencies(torch.full((6,), 1 / 6), top_k=k).count_nonzero() == k


@pytest.mark.parametrize(
    ("p", "kept"),
    [(0.01, [1]), (0.44, [1]), (0.46, [1, 3]), (0.69, [1, 3]), (0.71, [1, 3, 4]), (0.96, range(5)), (1.0, range(5))],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(p: float, kept: list[int]) -> None:
    weights = torch.zeros(5).index_copy(0, torch.tensor(list(kept)), PROBABILITIES[list(kept)])
    assert_drawn_from(frequencies(PROBABILITIES, top_p=p), weights)


def test_top_p_of_a_probability_reached_exactly_needs_no_more() -> None:
    assert_drawn_from(frequencies(torch.full((4,), 0.25), top_p=0.5).sort().values, torch.tensor([0.0, 0, 0.5, 0.5]))


def test_top_p_counts_what_top_k_and_temperature_leave() -> None:
    """Temperature 0.5 squares: 0.2025 and 0.0625 lead; of these two alone the first has 76 %."""
    for p, weights in ((0.75, [0.0, 1, 0, 0, 0]), (0.8, [0, 0.2025, 0, 0.0625, 0])):
        assert_drawn_from(frequencies(PROBABILITIES, temperature=0.5, top_k=2, top_p=p), torch.tensor(weights))


def test_rows_are_narrowed_each_by_itself() -> None:
    logits = torch.tensor([[5.0, 0.0, 0.0], [0.0, 0.0, 5.0]]).repeat(200, 1)
    expected = torch.tensor([0, 2]).repeat(200)
    assert torch.equal(sample(logits, top_k=1), expected)
    assert torch.equal(sample(logits, top_p=0.5), expected)
