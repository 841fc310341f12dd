"""Examples → which of them are not to be trained on, and why: repeated ones, and those too near to what is held out.

The gate "contradictory examples" stands here too. Knows no tokenizer and no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from doyen.errors import GateError
from doyen.examples.doubles import Asked, Doubles, contradictions, find_doubles, near_questions
from doyen.records import Example, Question
from doyen.words import clip

MOST_CONTRADICTORY = 0.2
FEW_EXAMPLES = 20
REPEATED = "the same as another"
NEAR = {
    "validation": "nearly equal to a validation question",
    "test": "nearly equal to a test question",
}
_CASES = 3
_CASE_WORDS = 16


@dataclass(slots=True)
class Screened:
    """Places of examples to leave out, each with the reason; and what goes into the manifest's gates."""

    left_out: dict[int, str] = field(default_factory=dict)
    gates: dict[str, Any] = field(default_factory=dict)


def screen(
    train: Sequence[Example], validation: Sequence[Example], test: Sequence[Question], say: Callable[[str], None]
) -> Screened:
    """Choose what to train on, and say what is left out.

    Raises:
        GateError: more than MOST_CONTRADICTORY of the examples answer the same prompt differently.
    """
    found = Screened()
    doubles = find_doubles(train)
    found.left_out = dict.fromkeys(doubles.repeated, REPEATED)
    found.gates["doubles"] = {"repeated": len(doubles.repeated), "contradictory": doubles.contradicting}
    found.gates["held_out"] = _take_near_out(train, validation, test, found, say)
    if doubles.repeated:
        say(
            f"{len(doubles.repeated)} examples are the same as another: each is trained on once (epochs repeat them all)"
        )
    _require_agreement(train, doubles, say)
    kept = len(train) - len(found.left_out)
    if kept < FEW_EXAMPLES:
        say(f"warning: {kept} example{'s' * (kept != 1)} will be learnt by heart at best; 100–200 teach a style")
    return found


def _take_near_out(
    train: Sequence[Example],
    validation: Sequence[Example],
    test: Sequence[Question],
    found: Screened,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Leave out what is nearly equal to a held-out question; return counts and first cases."""
    asked = [Asked.of(e) for e in train]
    gate: dict[str, Any] = {}
    cases: list[list[str]] = []
    for side, held in (("validation", validation), ("test", test)):
        theirs = [Asked.of(item) for item in held]
        near = near_questions(asked, theirs)
        gate[side] = len(near)
        found.left_out |= dict.fromkeys(near, NEAR[side])
        ours = list({(asked[i].text, theirs[j].text): None for i, j in near.items()})[:_CASES]
        cases += [[clip(text, _CASE_WORDS) for text in pair] for pair in ours]
        if near:
            say(f"{len(near)} examples are {NEAR[side]} and are not trained on, for example {_pairs(ours)}")
    return gate | {"cases": cases}


def _pairs(cases: Sequence[tuple[str, str]]) -> str:
    return "; ".join(f"'{clip(a, _CASE_WORDS)}' / '{clip(b, _CASE_WORDS)}'" for a, b in cases)


def _require_agreement(train: Sequence[Example], doubles: Doubles, say: Callable[[str], None]) -> None:
    """Gate "contradictory examples": what answers one prompt in two ways teaches neither."""
    if not doubles.contradictory:
        return
    share = doubles.contradicting / (len(train) - len(doubles.repeated))
    said = (
        f"{doubles.contradicting} of {len(train) - len(doubles.repeated)} examples answer the same prompt in different ways: "
        + "; ".join(contradictions(train, doubles))
    )
    if share > MOST_CONTRADICTORY:
        raise GateError(said, hint="keep one answer for each prompt; doyen examples report lists them")
    say(f"warning: {said}")
