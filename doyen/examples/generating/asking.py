"""What every model that makes questions is told, and how its text becomes a question. Knows neither engine nor API."""

from __future__ import annotations

import json
import re
from typing import Any

from doyen.prompts import Message

_WORDING = (
    "Write one short question whose answer is the given answer. Use only the given sentence. Do not repeat the answer in the "
    "question. Write the question in the language of the sentence, and nothing else."
)
_SHOTS = (
    ("The Tamsin crane lifts 12 tonnes and stands at berth 4.", "12 tonnes", "How much can the Tamsin crane lift?"),
    ("The library was founded by Ada Mercer in 1874.", "1874", "When was the library founded?"),
)
_TEACHER = (
    "You write questions with short answers about a passage, for training an assistant that answers from documents. "
    'Return JSON only: {{"facts": [{{"questions": ["…", "…"], "answer": "…", "evidence": "…"}}]}}. '
    "Up to {facts} facts that a reader of this document would ask about; {phrasings} phrasings of each question, worded "
    'differently and understandable without the passage (name what is meant, never "the passage" or "it"). `answer`: '
    "as few words as possible, copied from the passage, or yes or no. `evidence`: the sentence of the passage, copied "
    "character by character. Write in the language of the passage. If the passage holds no fact worth asking, return "
    '{{"facts": []}}.'
)
_QUESTION = re.compile(r"^(?:question|q)\s*\d*\s*[:.)-]\s*", re.IGNORECASE)


def wording_messages(sentence: str, answer: str) -> list[Message]:
    """Return the prompt that asks for a question to an answer chosen in a sentence (answer-aware question generation)."""
    messages: list[Message] = [{"role": "system", "content": _WORDING}]
    for own, target, question in _SHOTS:
        messages.append({"role": "user", "content": _user(own, target)})
        messages.append({"role": "assistant", "content": question})
    messages.append({"role": "user", "content": _user(sentence, answer)})
    return messages


def _user(sentence: str, answer: str) -> str:
    return f"Sentence: {sentence}\nAnswer: {answer}\nQuestion:"


def teacher_messages(passage: str, facts: int, phrasings: int) -> list[Message]:
    """Return the prompt that asks a teacher for facts of a passage, as JSON."""
    return [
        {"role": "system", "content": _TEACHER.format(facts=facts, phrasings=phrasings)},
        {"role": "user", "content": passage},
    ]


def question_in(text: str) -> str:
    """Return the first line of a model's text as a question; '' where it is none."""
    line = _QUESTION.sub("", text.strip().split("\n", 1)[0].strip().strip('"*'))
    return line if line.endswith("?") and 3 <= len(line.split()) <= 30 and line.count("?") == 1 else ""


def json_in(text: str) -> Any:
    """Return the JSON value in a model's text, also where it stands in a code fence. Raises ValueError if there is none."""
    start = min((i for i in (text.find("{"), text.find("[")) if i >= 0), default=-1)
    if start < 0:
        raise ValueError("no JSON")
    return json.JSONDecoder().raw_decode(text[start:])[0]
