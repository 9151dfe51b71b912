"""Symbol systems: known answers, and independence of how the text is cut."""

import re
import string
import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffmamba.data.symbols import SYSTEMS, read_vocabulary, symbol_system
from diffmamba.data.systems import Vocabulary
from diffmamba.errors import SettingError

DIGIT_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def encoded(name: str, pieces: list[bytes], training: int | None = None) -> tuple[Vocabulary, list[int]]:
    """Vocabulary and final integers, with the first `training` symbols as the training split."""
    system = symbol_system(name)
    provisional = np.concatenate([*(system.encode(piece) for piece in pieces), system.end()])
    vocabulary, table = system.finish([provisional[:training]])
    return vocabulary, table[provisional].tolist()


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
    vocabulary, integers = encoded("text8", [text.encode()])
    assert vocabulary.decode(integers) == expected
    assert vocabulary.encode(text) == integers


def test_text8_numbers_the_space_0_and_the_letters_from_1() -> None:
    vocabulary, integers = encoded("text8", [b" az"])
    assert (vocabulary.size, integers) == (27, [0, 1, 26])


text = st.text(st.characters(codec="utf-8") | st.sampled_from("aZ09 \n\u0301\u00e9"))


@given(text, st.lists(st.integers(0, 300)))
def test_text8_follows_its_definition_however_the_text_is_cut(text: str, places: list[int]) -> None:
    vocabulary, integers = encoded("text8", cut(text.removeprefix("\ufeff").encode(), places))
    read = vocabulary.decode(integers)
    assert read == text8_reference(text.removeprefix("\ufeff"))
    assert "  " not in read
    assert set(read) <= set(" " + string.ascii_lowercase)


@given(text, st.lists(st.integers(0, 300)), st.sampled_from(sorted(SYSTEMS)))
def test_cutting_changes_nothing(text: str, places: list[int], name: str) -> None:
    data = (text + "x").encode()
    whole, cut_up = encoded(name, [data]), encoded(name, cut(data, places))
    assert whole[0].symbols == cut_up[0].symbols
    assert whole[1] == cut_up[1]


@given(text, text, st.sampled_from(sorted(SYSTEMS)))
def test_the_end_of_a_text_leaves_nothing_behind(text: str, other: str, name: str) -> None:
    """A second text is encoded as if it were the first."""

    def last(texts: list[str]) -> list[str | int]:
        system = symbol_system(name)
        provisional = [np.concatenate([system.encode(text.encode()), system.end()]) for text in texts]
        vocabulary, table = system.finish(provisional)
        return [vocabulary.symbols[i] for i in table[provisional[-1]]]

    assert last([text, other]) == last([other])


def test_bytes_are_those_that_occur() -> None:
    vocabulary, integers = encoded("bytes", [b"\xffca", b"c"])
    assert vocabulary.symbols == [ord("a"), ord("c"), 255]
    assert integers == [2, 1, 0, 1]
    assert vocabulary.encode("ac") == [0, 1]
    assert vocabulary.decode([0, 2, 1]) == "a\ufffdc"


def test_bytes_name_the_prompt_that_has_others() -> None:
    vocabulary, _ = encoded("bytes", [b"abc"])
    with pytest.raises(SettingError, match="prompt: 'é'"):
        vocabulary.encode("abécd")


def test_words_go_by_frequency_in_training() -> None:
    data = b"the cat\n\n  \nsaw the dog\r\nthe end of words here"
    vocabulary, integers = encoded("words", [data], training=9)
    assert vocabulary.symbols == ["the", "<eos>", "cat", "dog", "end", "saw", "<unk>"]
    assert integers == [0, 2, 1, 5, 0, 3, 1, 0, 4, 6, 6, 6, 1]
    assert vocabulary.decode(integers[:7]) == "the cat\nsaw the dog\n"


def test_wikitext_ends_every_line() -> None:
    data = b" \n = the = \n \n\nthe <unk> cat\nthe"
    vocabulary, integers = encoded("wikitext", [data], training=13)
    assert vocabulary.symbols == ["<eos>", "the", "=", "<unk>", "cat"]
    assert integers == [0, 2, 1, 2, 0, 0, 0, 1, 3, 4, 0, 1, 0]
    assert vocabulary.decode(integers) == "\n= the =\n\n\nthe <unk> cat\nthe\n"
    assert [vocabulary.symbols[i] for i in vocabulary.encode("\nthe dog")] == ["<eos>", "the", "<unk>"]


@given(text, st.lists(st.integers(0, 300)), st.sampled_from(["words", "wikitext"]))
def test_words_follow_their_definition_however_the_text_is_cut(text: str, places: list[int], name: str) -> None:
    text = text.removeprefix("\ufeff")
    *lines, rest = text.split("\n")
    lines += [rest] if rest else []
    kept = [line.split() for line in lines if line.split() or name == "wikitext"]
    vocabulary, integers = encoded(name, cut(text.encode(), places))
    assert [vocabulary.symbols[i] for i in integers] == [word for line in kept for word in [*line, "<eos>"]]


def test_words_of_a_prompt() -> None:
    vocabulary, _ = encoded("words", [b"the cat\nsaw"])
    names = [vocabulary.symbols[i] for i in vocabulary.encode("the dog\n\nsaw the")]
    assert names == ["the", "<unk>", "<eos>", "saw", "the"]


def test_words_keep_both_marks_when_training_has_neither() -> None:
    vocabulary, _ = encoded("words", [b"a b c"], training=2)
    assert vocabulary.symbols == ["a", "b", "<eos>", "<unk>"]


@pytest.mark.parametrize("name", SYSTEMS)
def test_vocabulary_survives_json(name: str) -> None:
    vocabulary, integers = encoded(name, [b"some text here"])
    again = read_vocabulary(vocabulary.to_json())
    assert type(again) is type(vocabulary)
    assert again.decode(integers) == vocabulary.decode(integers)


@pytest.mark.parametrize("name", ["text8", "words", "wikitext"])
def test_bytes_that_are_not_utf8_are_located(name: str) -> None:
    with pytest.raises(SettingError, match=r"data\.path: byte 7 .*data\.symbols=bytes"):
        encoded(name, [b"ab \xc3", b"\xa9 \n", b"\xff rest"])


def test_a_character_cut_short_at_the_end_is_located() -> None:
    with pytest.raises(SettingError, match="byte 2 "):
        encoded("text8", [b"ab\xc3"])


@pytest.mark.parametrize("name", ["text8", "words", "wikitext"])
def test_byte_order_mark_is_dropped(name: str) -> None:
    assert encoded(name, [b"\xef\xbb", b"\xbfword"])[1] == encoded(name, [b"word"])[1]


def test_unknown_system_lists_the_known() -> None:
    with pytest.raises(SettingError, match=r"data\.symbols.*'chars'.*text8, bytes, words, wikitext"):
        symbol_system("chars")
