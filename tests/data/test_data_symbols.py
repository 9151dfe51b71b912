"""Symbol systems: known answers, and independence of how the text is cut."""

import json
import re
import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffmamba.data.symbols import SYSTEMS, read_vocabulary, symbol_system
from diffmamba.data.systems import Reading, Vocabulary
from diffmamba.data.tokens import Tokenizer
from diffmamba.errors import SettingError

DIGIT_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from("aZ09 \n\u0301\u00e9"))
TOKENIZER = Tokenizer(size=256)  # the bytes alone: the same for every text
PLACES = st.lists(st.integers(0, 300))


def encoded(name: str, *pieces: bytes, training: int | None = None) -> tuple[Vocabulary, list[int]]:
    """Vocabulary and final integers, with the first `training` symbols as the training split."""
    system = symbol_system(name, TOKENIZER)
    provisional = np.concatenate([*(system.encode(piece) for piece in pieces), system.end()])
    vocabulary, reading = system.finish([provisional[:training]])
    return vocabulary, read(reading, provisional)


def read(reading: Reading, provisional: np.ndarray) -> list[int]:
    """The final integers."""
    return [int(symbol) for piece in reading([provisional]) for symbol in piece]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    borders = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(borders)] or [b""]


def text8_reference(text: str) -> str:
    """One character after the other, as the definition has it."""
    spelled = ""
    for c in unicodedata.normalize("NFKD", text):
        if c.isascii() and c.isalpha():
            spelled += c.lower()
        elif c.isascii() and c.isdigit():
            spelled += f" {DIGIT_WORDS[int(c)]} "
        elif not unicodedata.combining(c):
            spelled += " "
    return re.sub(" +", " ", spelled)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world "),
        ("In 1984", "in one nine eight four "),
        ("Ångström é ﬁ x²", "angstrom e fi x two "),
        ("a\n\n\t-- b", "a b"),
        ("日本 ok", " ok"),
        ("", ""),
    ],
)
def test_text8_known_answers(text: str, expected: str) -> None:
    vocabulary, integers = encoded("text8", text.encode())
    assert vocabulary.decode(integers) == expected
    assert vocabulary.encode(text) == integers == [" abcdefghijklmnopqrstuvwxyz".index(c) for c in expected]


@given(TEXTS, PLACES)
def test_text8_follows_its_definition_however_the_text_is_cut(text: str, places: list[int]) -> None:
    text = text.removeprefix("\ufeff")
    vocabulary, integers = encoded("text8", *cut(text.encode(), places))
    assert vocabulary.decode(integers) == text8_reference(text)


@given(TEXTS, PLACES, st.sampled_from(["words", "wikitext"]))
def test_words_follow_their_definition_however_the_text_is_cut(text: str, places: list[int], name: str) -> None:
    text = text.removeprefix("\ufeff")
    *lines, rest = text.split("\n")
    lines += [rest] if rest else []
    kept = [line.split() for line in lines if line.split() or name == "wikitext"]
    vocabulary, integers = encoded(name, *cut(text.encode(), places))
    assert [vocabulary.symbols[i] for i in integers] == [word for line in kept for word in [*line, "<eos>"]]


@given(TEXTS, TEXTS, PLACES, st.sampled_from(sorted(SYSTEMS)))
def test_neither_cuts_nor_a_text_before_change_anything(text: str, before: str, places: list[int], name: str) -> None:
    data = (text + "x").encode() * 2  # a whole number of ids
    vocabulary, integers = encoded(name, data)
    cut_up, same = encoded(name, *cut(data, places))
    assert (cut_up.symbols, same) == (vocabulary.symbols, integers)
    restored = read_vocabulary(json.loads(json.dumps(vocabulary.to_json())))
    assert type(restored) is type(vocabulary)
    assert restored.decode(integers) == vocabulary.decode(integers)
    system = symbol_system(name, TOKENIZER)
    first = np.concatenate([system.encode(before.encode() * 2), system.end()])
    second = np.concatenate([system.encode(data), system.end()])
    both, reading = system.finish([first, second])
    assert [both.symbols[i] for i in read(reading, second)] == [vocabulary.symbols[i] for i in integers]


def test_bytes_are_those_that_occur() -> None:
    vocabulary, integers = encoded("bytes", b"\xffca", b"c")
    assert vocabulary.symbols == [ord("a"), ord("c"), 255]
    assert integers == [2, 1, 0, 1]
    assert vocabulary.encode("ac") == [0, 1]
    assert vocabulary.decode([0, 2, 1]) == "a\ufffdc"
    with pytest.raises(SettingError, match="prompt: 'é'"):
        vocabulary.encode("acéd")


def test_words_go_by_frequency_in_training() -> None:
    data = b"the cat\n\n  \nsaw the dog\r\nthe end of words here"
    vocabulary, integers = encoded("words", data, training=9)
    assert vocabulary.symbols == ["the", "<eos>", "cat", "dog", "end", "saw", "<unk>"]
    assert integers == [0, 2, 1, 5, 0, 3, 1, 0, 4, 6, 6, 6, 1]
    assert vocabulary.decode(integers[:7]) == "the cat\nsaw the dog\n"
    prompt = vocabulary.encode("the fox\n\nsaw the")
    assert [vocabulary.symbols[i] for i in prompt] == ["the", "<unk>", "<eos>", "saw", "the"]
    assert encoded("words", b"a b c", training=2)[0].symbols == ["a", "b", "<eos>", "<unk>"]  # both marks in any case


def test_wikitext_ends_every_line() -> None:
    vocabulary, integers = encoded("wikitext", b" \n = the = \n \n\nthe <unk> cat\nthe", training=13)
    assert vocabulary.symbols == ["<eos>", "the", "=", "<unk>", "cat"]
    assert integers == [0, 2, 1, 2, 0, 0, 0, 1, 3, 4, 0, 1, 0]
    assert vocabulary.decode(integers) == "\n= the =\n\n\nthe <unk> cat\nthe\n"
    assert [vocabulary.symbols[i] for i in vocabulary.encode("\nthe dog")] == ["<eos>", "the", "<unk>"]


@pytest.mark.parametrize("name", ["text8", "words", "wikitext"])
def test_utf8_in_pieces(name: str) -> None:
    """A byte order mark is dropped, and what is not UTF-8 is located."""
    assert encoded(name, b"\xef\xbb", b"\xbfword")[1] == encoded(name, b"word")[1]
    with pytest.raises(SettingError, match=r"data\.path: byte 7 .*data\.symbols=bytes"):
        encoded(name, b"ab \xc3", b"\xa9 \n", b"\xff rest")
    with pytest.raises(SettingError, match="byte 2 "):  # a character cut short at the end
        encoded(name, b"ab\xc3")
