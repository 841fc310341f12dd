"""Built examples → their report: counts, lengths, coverage, quality flags, and whether a gain is to be expected."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from doyen.examples.building import FEW_EXAMPLES, known_test_questions, load_examples
from doyen.examples.doubles import Asked, contradictions, find_doubles, near_questions
from doyen.prompts import ParsedAnswer, parse_answer, question_of
from doyen.records import Example
from doyen.words import words

ENOUGH_FACTS = 120  # with 121, a gain was measured: benchmarks/documents_alone.py
_LOW_COVERAGE = 0.3
_MOST_VERDICTS = 0.4
_MOST_REFUSALS = 0.4
_LONG_ANSWER = 25  # words
_MOST_LONG = 0.3
_MOST_ALIKE = 0.15
_SAMPLES = 3


def examples_report(expert: Path) -> dict[str, Any]:
    """Return the manifest of the built examples with lengths, flags, an expectation and three sample rows.

    Raises:
        ExamplesError: there are no examples.
    """
    train, validation = load_examples(expert)
    kept = json.loads((expert / "examples" / "manifest.json").read_text(encoding="utf-8"))
    missing = {"generated": 0, "generated_facts": 0, "made_by": {}, "not_generated": {}, "edited": 0, "not_kept": 0}
    manifest: dict[str, Any] = missing | {"documents_in_index": kept.get("documents", 0), "documents": 0} | kept
    lengths = sorted(sum(len(m["content"]) for m in e.messages) for e in train)
    manifest["characters"] = {"median": lengths[len(lengths) // 2], "longest": lengths[-1]}
    manifest["words"] = {
        "questions": _lengths([question_of(e.messages) for e in train]),
        "answers": _lengths([a.text for a in map(taught, train) if not a.refused]),
    }
    doubles = find_doubles(train)
    manifest["doubles"] = {"repeated": len(doubles.repeated), "contradictory": doubles.contradicting}
    manifest["doubles"] |= {"cases": contradictions(train, doubles), "near_held_out": _near(expert, train, validation)}
    manifest["flags"] = flags(train, manifest["documents"], manifest["documents_in_index"])
    manifest["flags"] += _double_flags(manifest["doubles"])
    manifest["expectation"] = expectation(train, manifest["documents"], manifest["documents_in_index"])
    manifest["samples"] = [e.as_dict() for e in train[:_SAMPLES]]
    return manifest


def _near(expert: Path, train: Sequence[Example], validation: Sequence[Example]) -> int:
    """Return how many examples are nearly equal to a validation or test question."""
    held = [*(Asked.of(e) for e in validation), *(Asked.of(q) for q in known_test_questions(expert))]
    return len(near_questions([Asked.of(e) for e in train], held))


def _double_flags(doubles: dict[str, Any]) -> list[str]:
    found = []
    if doubles["repeated"]:
        found.append(f"{doubles['repeated']} examples are the same as another: each is trained on once")
    if doubles["contradictory"]:
        shown = "; ".join(doubles["cases"])
        found.append(f"{doubles['contradictory']} examples answer the same prompt in different ways: {shown}")
    if doubles["near_held_out"]:
        found.append(f"{doubles['near_held_out']} examples are nearly equal to a held-out question: not trained on")
    return found


def taught(example: Example) -> ParsedAnswer:
    """Return an example's answer as it would be read from a model: without its marks, and whether it refuses."""
    return parse_answer(example.messages[-1]["content"], 0)


def _lengths(texts: Sequence[str]) -> dict[str, int]:
    counts = [len(text.split()) for text in texts] or [0]
    return {"median": round(median(counts)), "longest": max(counts)}


def flags(train: Sequence[Example], documents: int, documents_in_index: int) -> list[str]:
    """Return what speaks against the examples, one sentence each."""
    found = []
    answers = [a.text for a in map(taught, train) if not a.refused]
    total = max(len(train), 1)
    answered = max(len(answers), 1)
    refusals = sum(taught(e).refused for e in train) / total
    if refusals > _MOST_REFUSALS:
        found.append(f"{refusals:.0%} of the examples refuse: the expert will refuse much")
    elif not refusals:
        found.append("no example refuses: the expert will not learn to say that the documents hold no answer")
    verdicts = sum(e.kind in ("yesno", "yesnomaybe") for e in train) / total
    if verdicts > _MOST_VERDICTS:
        found.append(f"{verdicts:.0%} of the questions are answered by yes or no")
    long = sum(len(a.split()) > _LONG_ANSWER for a in answers) / answered
    if long > _MOST_LONG:
        found.append(f"{long:.0%} of the answers have more than {_LONG_ANSWER} words: short answers are asked for")
    common = Counter(a.casefold() for a in answers if len(words(a)) and a.casefold() not in ("yes", "no")).most_common(
        1
    )
    if common and common[0][1] / answered > _MOST_ALIKE and len(answers) > FEW_EXAMPLES:
        found.append(f"{common[0][1]} examples have the same answer, '{common[0][0]}'")
    if documents_in_index and documents < _LOW_COVERAGE * documents_in_index:
        found.append(f"only {documents} of {documents_in_index} documents have an example")
    return found


def expectation(train: Sequence[Example], documents: int, documents_in_index: int) -> str:
    """Return one sentence on whether there is enough to expect a gain, with its reason.

    What is counted are facts: places in documents with their answer. Phrasings and variants of one fact teach its form.
    """
    facts = len({(e.source, taught(e).text) for e in train if e.source and not taught(e).refused})
    asked = len({e.question_id for e in train if e.question_id}) or len(train)
    base = f"{facts} facts, asked in {asked} questions, from {documents} of {documents_in_index} documents"
    shown = any(e.variant in ("passages", "") for e in train)
    if not shown:
        return f"No gain with passages is to be expected: no example shows any ({base})."
    if facts < FEW_EXAMPLES // 2:
        return (
            f"Too little to expect a gain: {base}; below about {FEW_EXAMPLES} the form of an answer is learned at best."
        )
    if facts < ENOUGH_FACTS:
        return (
            f"Enough to expect answers of the right form, and perhaps better reading: {base}; "
            f"a gain was measured with about {ENOUGH_FACTS} facts."
        )
    if documents_in_index and documents < _LOW_COVERAGE * documents_in_index:
        return f"Enough to expect a gain in reading passages, not in knowing all documents: {base}."
    return f"Enough to expect a gain: {base}; doyen compare on questions by people measures it."
