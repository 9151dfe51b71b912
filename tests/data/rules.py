"""Slow, literal readings of the rules of MAD's tasks: what tests compare the generators with.

A `check_` takes one example as lists, reads it symbol by symbol, and asserts all that the rule says. An `answers_`
reads the inputs alone and gives an answer for each position: the right one wherever there is a target of an evaluation.
"""

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
from scipy import stats

from diffmamba.data import Compression, FuzzyInContextRecall, InContextRecall, Memorization, Rule, SelectiveCopying
from diffmamba.data.streams import IGNORED

Symbols = Sequence[int]


def check(rule: Rule, split: str, inputs: Symbols, targets: Symbols, gaps: Symbols, seed: int) -> None:
    """Asserts that this is an example of the rule."""
    only_predicted = isinstance(rule, InContextRecall)  # the last of `length` symbols
    assert len(inputs) == len(targets) == len(gaps) == rule.positions == rule.length - only_predicted
    assert all(0 <= symbol < rule.vocabulary for symbol in inputs)
    assert all(0 <= symbol < rule.vocabulary or symbol == IGNORED for symbol in targets)
    match rule:
        case Compression():
            _check_compression(rule, inputs, targets, gaps)
        case Memorization():
            _check_memorization(rule, inputs, targets, gaps, seed)
        case SelectiveCopying():
            _check_selective_copying(rule, inputs, targets, gaps)
        case InContextRecall():
            _check_in_context_recall(rule, split, inputs, targets, gaps)
        case FuzzyInContextRecall():
            _check_fuzzy(rule, split, inputs, targets, gaps)
        case _:
            raise AssertionError(rule)


def _check_compression(rule: Compression, inputs: Symbols, targets: Symbols, gaps: Symbols) -> None:
    mark = rule.vocabulary - 1
    for place, (symbol, target, gap) in enumerate(zip(inputs, targets, gaps, strict=True)):
        assert (symbol == mark) == (place == rule.length - 1)
        assert target == symbol
        assert gap == rule.length - 1 - place


def _check_memorization(rule: Memorization, inputs: Symbols, targets: Symbols, gaps: Symbols, seed: int) -> None:
    keys, marker = (rule.vocabulary - 1) // 2, rule.vocabulary - 1
    values = rule.values(seed).tolist()
    assert len(values) == len(set(values)) == keys
    assert all(keys <= value < marker for value in values)
    for place in range(0, rule.length, 2):
        assert inputs[place] < keys
        assert inputs[place + 1] == marker
        assert targets[place : place + 2] == [IGNORED, values[inputs[place]]]
    assert not any(gaps)


def _check_selective_copying(rule: SelectiveCopying, inputs: Symbols, targets: Symbols, gaps: Symbols) -> None:
    blank, marker, start = rule.vocabulary - 2, rule.vocabulary - 1, rule.length - rule.copy
    places = [place for place, symbol in enumerate(inputs[: start - 1]) if symbol != blank]
    assert all(inputs[place] < blank for place in places)
    assert len(places) == rule.copy
    assert places[-1] == start - 2  # right before the marker
    assert inputs[start - 1] == marker
    assert inputs[start:] == [blank] * rule.copy
    assert targets == [IGNORED] * start + [inputs[place] for place in places]
    assert gaps == [0] * start + [start + number - place for number, place in enumerate(places)]


def _check_in_context_recall(
    rule: InContextRecall, split: str, inputs: Symbols, targets: Symbols, gaps: Symbols
) -> None:
    low = rule.vocabulary - rule.noise_vocabulary
    keys, symbols = low // 2, [*inputs, targets[-1]]  # the last answer is only predicted
    stood: dict[int, int] = {}  # where the value of each key stood last
    kinds = []
    for place in range(0, rule.length, 2):
        key, value = symbols[place : place + 2]
        noise = key >= low
        kinds.append(noise)
        known = not noise and key in stood
        if noise:
            assert value >= low
        else:
            assert key < keys <= value < low
            assert value == symbols[stood.get(key, place + 1)]
        assert gaps[place] == (place - stood[key] if known else 0)
        if split != "train":
            assert targets[place] == (value if known else IGNORED)
            assert place == 0 or targets[place - 1] == IGNORED
        if not noise:
            stood[key] = place + 1
    assert not any(gaps[1::2])
    assert gaps[-1] > 0  # the last pair's key has stood before
    assert not all(kinds[:-1])
    assert not kinds[-1]
    assert rule.noise or not any(kinds)
    if split == "train":
        assert targets[:-1] == inputs[1:]


def motifs(rule: FuzzyInContextRecall, symbols: Symbols) -> list[list[int]]:
    """Keys and values in turn: runs of lower and of higher symbols, after what fills up the beginning."""
    filled = next((place for place, symbol in enumerate(symbols) if symbol != rule.vocabulary - 1), len(symbols))
    return [list(run) for _, run in groupby(symbols[filled:], key=lambda symbol: symbol < rule.keys)]


def _check_fuzzy(rule: FuzzyInContextRecall, split: str, inputs: Symbols, targets: Symbols, gaps: Symbols) -> None:
    keys, filling = (rule.vocabulary - 1) // 2, rule.vocabulary - 1
    symbols = [*inputs, targets[-1]]
    runs = motifs(rule, symbols)
    pairs = list(zip(runs[::2], runs[1::2], strict=True))
    asked = sum(map(len, pairs[-1]))
    place = filled = len(symbols) - sum(map(len, runs))
    stood: dict[tuple[int, ...], tuple[int, list[int]]] = {}  # where the value of each key stood last, and the value
    expected, back = [IGNORED] * rule.length, [0] * rule.length
    for number, (key, value) in enumerate(pairs):
        assert all(symbol < keys for symbol in key)
        assert all(keys <= symbol < filling for symbol in value)
        assert len(set(key)) == len(key) <= rule.motif
        assert len(set(value)) == len(value) <= rule.motif
        assert split == "train" or len(key) == rule.motif
        if number < len(pairs) - 1:  # one more of full size, and what is asked for, fit in
            assert place - filled + 2 * rule.motif + asked <= rule.length - 1
        place += len(key)
        if (known := stood.get(tuple(key))) is not None:
            assert known[1] == value
            expected[place - 1 : place - 1 + len(value)] = value
            back[place - 1 : place - 1 + len(value)] = [place - 1 - known[0]] * len(value)
        stood[tuple(key)] = place, value
        place += len(value)
    end = len(symbols) - filled - asked
    assert end + 2 * rule.motif + asked > rule.length - 1  # no further pair might have come
    assert tuple(pairs[-1][0]) in [tuple(key) for key, _ in pairs[:-1]]
    assert gaps == back
    assert targets == (symbols[1:] if split == "train" else expected)


def fuzzy_pairs(rule: FuzzyInContextRecall, random: np.random.Generator) -> list[tuple[tuple[int, ...], ...]]:
    """An example of an evaluation by the words of the rule, pair by pair, the one that is asked for last."""

    def drawn(low: int, high: int, size: int) -> tuple[int, ...]:
        return tuple(random.permutation(np.arange(low, high))[:size].tolist())

    def key() -> tuple[int, ...]:
        return drawn(0, rule.keys, rule.motif)

    def value() -> tuple[int, ...]:
        return drawn(rule.keys, rule.vocabulary - 1, int(random.integers(1, rule.motif + 1)))

    asked = key(), value()
    end = rule.length - sum(map(len, asked)) - 2 * rule.motif
    place, known, pairs, due = 0, dict([asked]), [], random.integers(end)
    while place < end:
        one = key()
        pairs.append((one, known.setdefault(one, value())))
        place += sum(map(len, pairs[-1]))
    starts = np.cumsum([0, *(sum(map(len, pair)) for pair in pairs)])[:-1]
    here = min(int((starts < due).sum()), len(pairs) - 1)
    if asked not in pairs[: here + 1]:
        pairs[here:] = [asked]
        place = starts[here] + sum(map(len, asked))
        while place < end:
            one = key()
            pairs.append((one, known.setdefault(one, value())))
            place += sum(map(len, pairs[-1]))
    return [*pairs, asked]


def answers_of(rule: Rule, seed: int) -> Callable[[Symbols], list[int]]:
    """What solves a task from its inputs. Of memorization it knows the dictionary of this seed."""
    match rule:
        case Compression():
            return list
        case Memorization():
            return recited(dict(enumerate(rule.values(seed).tolist())))
        case SelectiveCopying():
            return lambda inputs: _copied(rule, inputs)
        case InContextRecall():
            return _recalled
        case FuzzyInContextRecall():
            return lambda inputs: _recalled_motifs(rule, inputs)
    raise AssertionError(rule)


def recited(values: dict[int, int]) -> Callable[[Symbols], list[int]]:
    """Answers memorization by the values of the keys that it knows, and by one of those where it does not."""
    other = next(iter(values.values()))
    return lambda inputs: [0, *(values.get(key, other) for key in inputs[:-1])]


def _copied(rule: SelectiveCopying, inputs: Symbols) -> list[int]:
    seen = [symbol for symbol in inputs if symbol < rule.vocabulary - 2]
    return [0] * (len(inputs) - len(seen)) + seen


def _recalled(inputs: Symbols) -> list[int]:
    known: dict[int, int] = {}
    answers = [0] * len(inputs)
    for place in range(0, len(inputs), 2):
        answers[place] = known.get(inputs[place], 0)
        known |= dict([inputs[place : place + 2]]) if place + 1 < len(inputs) else {}
    return answers


def _recalled_motifs(rule: FuzzyInContextRecall, inputs: Symbols) -> list[int]:
    """At the last symbol of a key the first of its value, then the next ones, as many as it has."""
    runs = motifs(rule, inputs)
    known: dict[tuple[int, ...], list[int]] = {}
    answers = [0] * len(inputs)
    place = len(inputs) - sum(map(len, runs))
    for key, value in zip(runs[::2], [*runs[1::2], []], strict=False):
        place += len(key)
        for number, symbol in enumerate(known.get(tuple(key), [])):
            if place - 1 + number < len(inputs):
                answers[place - 1 + number] = symbol
        known.setdefault(tuple(key), value)
        place += len(value)
    return answers


def assert_uniform(numbers: np.ndarray, low: int, high: int) -> None:
    """Asserts by a chi-square test that these are uniform in [low, high): a wrong border cannot pass."""
    assert numbers.min() >= low
    assert numbers.max() < high
    counts = np.bincount((numbers - low).ravel(), minlength=high - low)
    assert counts.sum() >= 40 * len(counts)
    assert stats.chisquare(counts).pvalue > 1e-4
