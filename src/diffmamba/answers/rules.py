"""The rules that say whether an answer is right: BABILong's own, the first label alone, and the exact words.

The benchmark's rule has quirks, and each of them is kept, because published scores depend on them:

1. The answer is lower-cased. What counts of it ends before the first full stop, `<context>` or `<example>`.
   (The published code means to cut at `Question` too, but looks for it in lower-cased text, so it never does.)
2. A label is named if it occurs anywhere, also inside of another word: "kitchenette" names "kitchen".
3. Labels that occur in the question are left out, wherever the answer has them.
4. The answer is right if exactly one label is left and it is the target. How often it is named does not matter.
5. A target of more than three characters with a comma is several labels: right if all of them are left and no other.
   Its parts are taken as they are, so a blank after the comma makes the target one that no answer can name.

*First label* takes steps 1 to 3 too, and then only the label that is named first counts; of a target of several labels
it says nothing, so none is right. *Exact match* asks whether all that step 1 leaves, without the blanks around it, is
the target.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

PLACES = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
LABELS = {
    **dict.fromkeys(("qa1", "qa2", "qa3", "qa4"), PLACES),
    "qa5": ("Bill", "Fred", "Jeff", "Mary", "apple", "football", "milk"),
}
"""The labels of each task. A story of qa4 has only some of the places; its own may be given in their place."""
ENDS = (".", "<context>", "<example>")
ONE_LABEL = 3  # characters of a target up to which a comma does not part it: "n,w" of qa19 is one label
RULES = ("benchmark", "first", "exact")


@dataclass(frozen=True)
class Scores:
    """What the rules say of answers, each field `(answers,)`.

    Args:
        benchmark: right by the benchmark's rule.
        first: right by the label that is named first.
        exact: right word for word.
        named: how many different labels are named, those of the question left out.
    """

    benchmark: NDArray[np.bool_]
    first: NDArray[np.bool_]
    exact: NDArray[np.bool_]
    named: NDArray[np.int64]


def cut(output: str) -> str:
    """The part of an answer that counts, in lower case."""
    text = output.lower()
    for end in ENDS:
        text = text.partition(end)[0]
    return text


def parts(target: str) -> list[str]:
    """The labels that a target asks for, in lower case."""
    text = target.lower()
    return text.split(",") if "," in text and len(text) > ONE_LABEL else [text]


def score(outputs: Sequence[str], questions: Sequence[str], targets: Sequence[str], labels: Sequence[str]) -> Scores:
    """Scores answers, each with its question and its target, `(answers,)`, by the labels of their task.

    Equal texts are looked at once, so that many answers take little time.
    """
    known = tuple(dict.fromkeys(label.lower() for label in labels))
    at = _each(outputs, lambda text: _places(cut(text), known), len(known))
    asked = _each(questions, lambda text: _places(text.lower(), known), len(known)) >= 0
    wanted = _each(targets, lambda text: [label in parts(text) for label in known], len(known)).astype(bool)
    size, strange = _each(targets, lambda text: [len(parts(text)), len({*parts(text)} - {*known})], 2).T
    named = (at >= 0) & ~asked
    count = named.sum(1)
    right = (count == size) & (strange == 0) & (named | ~wanted).all(1)
    first = np.where(named, at, np.iinfo(np.int64).max).argmin(1)
    first_is_it = (count > 0) & (size == 1) & wanted[np.arange(len(first)), first]
    exact = [cut(output).strip() == target.lower() for output, target in zip(outputs, targets, strict=True)]
    return Scores(right, first_is_it, np.array(exact, bool), count)


def constant(targets: Sequence[str]) -> tuple[str, float]:
    """The most frequent target, and how often an answer that is always this one is right."""
    label, count = Counter(targets).most_common(1)[0]
    return label, count / len(targets)


def _places(text: str, labels: Sequence[str]) -> list[int]:
    """Where each label begins in the text; -1 where it does not occur."""
    return [text.find(label) for label in labels]


def _each(texts: Sequence[str], found: Callable[[str], Sequence[int]], width: int) -> NDArray[np.int64]:
    """What is found in each text, `(texts, width)`."""
    codes, different = pd.factorize(np.asarray(texts, object))
    rows = np.array([found(text) for text in different], np.int64).reshape(len(different), width)
    return rows[codes]
