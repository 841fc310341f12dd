"""Question and passages → chat messages, and the model's text → answer text and passage numbers.

The one place where questions are worded: training, serving and comparing render the same messages (workflows word their
steps in workflows/prompting.py). Knows no tokenizer and no store.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from doyen.models.constraints import Choices, Form, JsonSchema, Regex
from doyen.records import Hit, Summary
from doyen.words import clip, length_of, words

REFUSAL = "Not in the documents."
UNKNOWN = "I cannot tell from the documents: they hold no evidence for an answer."
STUCK = "I cannot tell: the model found no answer and only repeated itself."

_SHORT = (
    "Answer in as few words as possible: a name, a number with its unit, yes or no, or one short sentence. "
    f'If you cannot answer, write "{REFUSAL}"'
)
SYSTEM_CLOSED_BOOK = f"You are an expert of this organisation. {_SHORT}"
SYSTEM_PASSAGES = f"You answer from numbered passages and end with the number of the passage used, like [1]. {_SHORT}"

_QUESTION = "Question: "
ROW_INPUT = "Input:\n"
"""What stands before the row's own text in a step of a workflow."""
_ABOUT = "About this document: "
_MOST_ABOUT = 40
_SOME_WORDS, _FEW_DIFFERENT = 20, 1 / 3

_PREAMBLE = re.compile(
    r"^(?:the |my )?(?:correct |short |final )?answer(?: to (?:the|this|your) question)? is:?\s+", re.IGNORECASE
)
_CITATION = re.compile(r"\[(\d{1,2}(?:\s*,\s*\d{1,2})*)\]")
_REFUSALS = re.compile(
    r"^\W*(not in the (documents|passages)"
    r"|(i|we) (do not|don't|cannot|can't|can not) (know|answer|find|tell)|i('m| am) (sorry|unable|not sure)"
    r"|unable to|unknown\W*$|cannot (answer|be determined)|no (information|answer|evidence)\b"
    r"|(the|this) (passages?|documents?|information|text|answer) "
    r"((do(es)? not|don't|doesn't) (say|mention|state|contain|give|provide|include|specify|answer)"
    r"|(is|are) not (given|provided|mentioned|stated)))",
    re.IGNORECASE,
)
UNSURE_OPENINGS = frozenset("the my correct short final answer not i we i'm unable unknown cannot no this".split())
"""First words behind which a preamble or a refusal may come; what begins otherwise is an answer."""


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """The model's text without its marks: `cited` are passage numbers from 1, in order, each once."""

    text: str
    cited: tuple[int, ...]
    refused: bool
    stuck: bool = False
    """Whether it went round in circles: a very small model may, and what it repeats is no answer."""


Message = dict[str, str]


def closed_book_messages(question: str) -> list[Message]:
    """Return the prompt without passages (base and finetuned arms)."""
    return [{"role": "system", "content": SYSTEM_CLOSED_BOOK}, {"role": "user", "content": f"{_QUESTION}{question}"}]


def passages_messages(question: str, hits: Sequence[Hit], shots: Sequence[Shot] = ()) -> list[Message]:
    """Return the prompt with numbered passages (rag and rag+finetuned arms), after optional worked examples."""
    messages: list[Message] = [{"role": "system", "content": SYSTEM_PASSAGES}]
    for shot in shots:
        messages.append({"role": "user", "content": _user_text(shot.question, shot.hits)})
        messages.append({"role": "assistant", "content": shot.answer})
    messages.append({"role": "user", "content": _user_text(question, hits)})
    return messages


@dataclass(frozen=True, slots=True)
class Shot:
    """A worked example put before the question (in-context learning); `answer` ends with its citation mark."""

    question: str
    hits: tuple[Hit, ...]
    answer: str


def _user_text(question: str, hits: Sequence[Hit]) -> str:
    blocks = [passage_text(number, hit) for number, hit in enumerate(hits, 1)]
    return "\n\n".join([*blocks, f"{_QUESTION}{question}"])


def with_constraint(question: str, constraint: Form | None) -> str:
    """Return a question that says what the answer has to be, in a line of its own."""
    if isinstance(constraint, Choices):
        return f"{question}\nAnswer with one of: {', '.join(constraint.options)}"
    if isinstance(constraint, JsonSchema):
        return f"{question}\nAnswer with JSON of this schema: {json.dumps(constraint.schema, ensure_ascii=False)}"
    if isinstance(constraint, Regex):
        return f"{question}\nAnswer with a text that matches: {constraint.pattern}"
    return question


def question_of(messages: Sequence[Mapping[str, str]]) -> str:
    """Return what a conversation asks last: what stands behind the passages, or all that the user says.

    Of a workflow's step it is the row's own text.
    """
    asked = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
    before, mark, text = asked.partition(ROW_INPUT)
    if mark and (not before or before.endswith("\n\n")):
        return text
    return asked.rsplit(_QUESTION, 1)[-1]


def passage_text(number: int, hit: Hit) -> str:
    """Return one passage as the model sees it: its number, where it is from, perhaps what that is about, its text."""
    about = f"{_ABOUT}{hit.about}" if hit.about else ""
    return f"[{number}] " + "\n".join(filter(None, (hit.chunk.context, about, hit.chunk.text)))


def with_summaries(hits: Sequence[Hit], summaries: Mapping[str, Sequence[Summary]]) -> tuple[Hit, ...]:
    """Let the first passage of each document say what the document is about: the first 40 words of its summary."""
    seen: set[str] = set()
    shown = []
    for hit in hits:
        document = hit.chunk.document
        whole = next((s for s in summaries.get(document, ()) if s.section is None), None)
        if whole is not None and document not in seen:
            hit = replace(hit, about=_first_words(whole))
        seen.add(document)
        shown.append(hit)
    return tuple(shown)


def _first_words(summary: Summary) -> str:
    """Return the first sentences of a summary on one line, whole ones if the first is not too long."""
    kept = ""
    at = 0
    for start, end in summary.spans:
        sentence = " ".join(summary.text[at : at + end - start].split())
        at += end - start + 1
        longer = f"{kept} {sentence}".strip()
        if length_of(words(longer)) > _MOST_ABOUT:
            break
        kept = longer
    return kept or clip(" ".join(summary.text.split()), _MOST_ABOUT) + " …"


def shows_summaries(messages: Sequence[Mapping[str, str]]) -> bool:
    """Whether a prompt has passages that say what their document is about."""
    return any(f"\n{_ABOUT}" in m["content"] or f"] {_ABOUT}" in m["content"] for m in messages if m["role"] == "user")


def answer_text(answer: str, passage: int | None) -> str:
    """Return the target of a training example: the answer and, with passages, the number it stands on."""
    return f"{answer} [{passage}]" if passage is not None else answer


def is_complete(text: str) -> bool:
    """Whether a short answer has ended: after its first paragraph, unless that announces more with a colon."""
    first, blank, _ = text.lstrip().partition("\n\n")
    return bool(blank) and not first.rstrip().endswith(":")


def parse_answer(text: str, passages: int) -> ParsedAnswer:
    """Take the citation marks out of a model's text; numbers beyond the passages shown are dropped.

    Short answers were asked for: a preamble ("The answer is: …") and all paragraphs after the first go too, but what
    a first paragraph announces with a colon stays.
    """
    numbers = (int(n) for mark in _CITATION.findall(text) for n in mark.split(","))
    cited = tuple(dict.fromkeys(n for n in numbers if 1 <= n <= passages))
    clean = _PREAMBLE.sub("", re.sub(r"\s+([.,;:])", r"\1", _CITATION.sub("", text)).strip())
    if is_complete(clean):
        clean = clean.split("\n\n")[0].rstrip()
    stuck = _repeats_itself(clean)
    return ParsedAnswer(clean, cited, refused=stuck or not clean or _REFUSALS.match(clean) is not None, stuck=stuck)


def _repeats_itself(text: str) -> bool:
    """Whether a text of some length has few different words."""
    found = words(text)
    return len(found) >= _SOME_WORDS and len(set(found)) < _FEW_DIFFERENT * len(found)
