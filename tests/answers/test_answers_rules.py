"""The rules of scoring: every quirk by hand, and all of them against a literal reading of the benchmark's rule."""

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffmamba.answers import LABELS, RULES, constant, cut, score

WHERE, GAVE = "Where is John?", "What did Fred give to Jeff?"


def one(output, target, question=WHERE, labels=LABELS["qa1"]):
    """Right by the benchmark's rule, right by the first label, right word for word, labels named."""
    found = score([output], [question], [target], labels)
    return (*(bool(getattr(found, rule)[0]) for rule in RULES), int(found.named[0]))


@pytest.mark.parametrize(
    ("output", "target", "expected"),
    [
        ("garden", "garden", (True, True, True, 1)),
        ("  Garden \n", "garden", (True, True, True, 1)),  # case and blanks around it
        ("John is in the GARDEN", "garden", (True, True, False, 1)),
        ("office", "garden", (False, False, False, 1)),
        ("", "garden", (False, False, False, 0)),
        ("nowhere", "garden", (False, False, False, 0)),
        ("garden, garden, garden", "garden", (True, True, False, 1)),  # how often does not matter
        ("garden, office", "garden", (False, True, False, 2)),  # two labels: only the first decides
        ("office, garden", "garden", (False, False, False, 2)),
        ("gardener", "garden", (True, True, False, 1)),  # inside of another word
        ("the kitchenette", "kitchen", (True, True, False, 1)),
        ("gar den", "garden", (False, False, False, 0)),
        ("garden. office", "garden", (True, True, True, 1)),  # nothing after a full stop counts
        (". garden", "garden", (False, False, False, 0)),
        ("garden<context>office", "garden", (True, True, True, 1)),
        ("garden<CONTEXT>office", "garden", (True, True, True, 1)),  # it is lower-cased before
        ("garden<example>office", "garden", (True, True, True, 1)),
        ("<example>garden", "garden", (False, False, False, 0)),
        ("garden<example>office<context>kitchen", "garden", (True, True, True, 1)),
        ("garden</context>office", "garden", (False, True, False, 2)),  # no end
        ("garden Question: office", "garden", (False, True, False, 2)),  # no end either
        ("garden! office", "garden", (False, True, False, 2)),
        ("garden\n\nQ: Where is Mary? office", "garden", (False, True, False, 2)),
    ],
)
def test_an_answer_is_scored_as_by_hand(output, target, expected):
    assert one(output, target) == expected


@pytest.mark.parametrize(
    ("output", "target", "question", "task", "expected"),
    [
        # labels of the question are left out, wherever the answer has them
        (
            "the milk was in the garden before the office",
            "office",
            "Where was the milk before the garden?",
            "qa3",
            True,
        ),
        ("garden", "garden", "What is west of the garden?", "qa4", False),
        ("Fred gave the milk to Jeff", "milk", GAVE, "qa5", True),
        ("Fred gave the milk to Mary", "milk", GAVE, "qa5", False),
        ("bill", "Bill", "Who gave the football?", "qa5", True),  # names in any case
        ("the billboard", "Bill", "Who gave the football?", "qa5", True),
        ("Bill the football", "Bill", "Who gave the FOOTBALL?", "qa5", True),  # the question is lower-cased too
        ("garden", "Bill", "Who gave the football?", "qa5", False),  # no label of this task
        ("Bill garden", "Bill", "Who gave the football?", "qa5", True),  # so it does no harm either
    ],
)
def test_labels_are_those_of_the_task_without_those_of_the_question(output, target, question, task, expected):
    assert one(output, target, question, LABELS[task])[:2] == (expected, expected or "Mary" in output)


@pytest.mark.parametrize(
    ("output", "target", "expected"),
    [
        ("apple milk", "apple,milk", True),
        ("milk and then apple, milk", "apple,milk", True),  # in any order, as often as it likes
        ("apple", "apple,milk", False),
        ("apple milk football", "apple,milk", False),
        ("apple milk", "apple, milk", False),  # the blank belongs to the second label, which is then none
        ("apple milk", "apple,milk,milk", False),  # three are asked for
        ("n,w", "n,w", True),  # so short that it is one label
    ],
)
def test_a_target_with_a_comma_is_several_labels(output, target, expected):
    labels = ("n,w", "e,s") if target == "n,w" else ("apple", "football", "milk")
    assert one(output, target, labels=labels)[0] == expected


def test_the_labels_of_a_story_may_be_fewer_than_those_of_its_task():
    asked = "What is west of the office?"
    assert one("garden or kitchen", "garden", asked, LABELS["qa4"])[0] is False
    assert one("garden or kitchen", "garden", asked, ("garden", "office", "hallway"))[0] is True


PROPERTY = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PIECES = [
    *LABELS["qa5"],
    *LABELS["qa1"],
    ".",
    ",",
    "<context>",
    "<EXAMPLE>",
    " ",
    "\n",
    "Who",
    "JEFF",
    "kitchenette",
    "İ",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
TARGETS = st.lists(st.sampled_from(LABELS["qa5"]), min_size=1, max_size=3).map(",".join)


def literal(output, question, target, labels):
    """The benchmark's rule, and the first label, one answer and one step at a time."""
    text = re.split(r"\.|<context>|<example>", output.lower())[0]
    left = [label.lower() for label in labels if label.lower() in text and label.lower() not in question.lower()]
    wanted = target.lower().split(",") if len(target) > 3 else [target.lower()]
    right = all(part in left for part in wanted) and len(left) == len(wanted)
    first = min(left, key=text.index) == target.lower() if left else False
    return right, first, text.strip() == target.lower(), len(left)


@PROPERTY
@given(st.lists(st.tuples(TEXTS, TEXTS, TARGETS), min_size=1, max_size=6))
def test_many_answers_at_once_are_scored_as_one_by_one_in_words(answers):
    outputs, questions, targets = zip(*answers, strict=True)
    found = score(outputs, questions, targets, LABELS["qa5"])
    each = zip(found.benchmark, found.first, found.exact, found.named, strict=True)
    assert [tuple(map(int, row)) for row in each] == [
        tuple(map(int, literal(*answer, LABELS["qa5"]))) for answer in answers
    ]


@PROPERTY
@given(TEXTS, TEXTS, st.sampled_from(LABELS["qa5"]))
def test_rules_agree_where_they_must(output, question, target):
    benchmark, first, exact, named = one(output, target, question, LABELS["qa5"])
    assert benchmark == (first and named == 1)
    assert not exact or benchmark or target.lower() in question.lower()
    assert one(output.upper(), target, question, LABELS["qa5"])[:2] == (benchmark, first) or "İ" in output
    assert one(f"{output}. {target} {question}", target, question, LABELS["qa5"]) == one(
        cut(output), target, question, LABELS["qa5"]
    )


def test_no_answers_have_no_scores():
    assert score([], [], [], LABELS["qa1"]).named.shape == (0,)


def test_the_constant_answer_is_the_most_frequent_target():
    assert constant(["milk", "Bill", "milk", "apple"]) == ("milk", 0.5)
    targets = ["garden", "office", "garden"]
    found = score([constant(targets)[0]] * 3, [WHERE] * 3, targets, LABELS["qa1"])
    assert np.mean(found.benchmark) == constant(targets)[1]
