"""A follow-up question and what was said before → a question that can be searched for by itself.

By the model, where it is large enough to do that; else by words: what the question before was about is added. Knows no
store and no sessions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from doyen.models.engine import Engine
from doyen.prompts import Message
from doyen.retrieval.function_words import FUNCTION_WORDS
from doyen.serving.sessions import Turn
from doyen.words import words

_REWRITE = (
    "Rewrite the last question so that it can be understood without the conversation: put in what its pronouns and "
    "omissions stand for. Write the question only. If it can be understood by itself, repeat it."
)
_LONGEST_TOKENS = 96
_REFERS = frozenset(
    "it its they them their theirs he she his her him hers this that these those there one ones such same both either "
    "neither else also former latter then er sie es ihr ihre dies diese dieser dieses das dort auch il elle ils elles "
    "ce cette ces cela ça y aussi lo la los las eso esa ese esto esta este también".split()
)
_OPENINGS = re.compile(
    r"^\W*(and|but|or|what about|how about|what if|why|why not|how so|since when|und|aber|was ist mit|wie ist es mit|"
    r"warum|wieso|et|mais|pourquoi|qu'en est-il|y|pero|qué hay de|por qué)\b",
    re.IGNORECASE,
)
_HARDLY, _SELF_STANDING = 2, 5
"""Telling words."""
_FUNCTION = frozenset[str]().union(*FUNCTION_WORDS.values()) | {
    "many",
    "much",
    "long",
    "often",
    "up",
    "may",
    "must",
    "under",
}


def refers_back(question: str) -> bool:
    """Whether a question seems to need what was said before.

    It opens as a follow-up, or has hardly a telling word, or a pronoun and so few of them that the pronoun stands for
    something outside.
    """
    own = set(words(question))
    telling = len(own - _FUNCTION)
    return bool(
        _OPENINGS.match(question) or telling < _HARDLY or (telling < _SELF_STANDING and _REFERS.intersection(own))
    )


def rewritten_by_words(question: str, history: Sequence[Turn]) -> str:
    """Return the question with what the one before it was about, as far as it does not say so itself.

    What refers to nothing before is left as it is.
    """
    if not history or not refers_back(question):
        return question
    before = history[-1].rewritten or history[-1].question
    own = set(words(question))
    sought = set(words(before)) - _FUNCTION
    missing = [w for w in re.findall(r"[\w'’-]+", before) if sought.intersection(words(w)) and not own & set(words(w))]
    if not missing:
        return question
    return f"{question.strip()} ({' '.join(dict.fromkeys(missing))})"


def rewritten_by_model(question: str, history: Sequence[Turn], engine: Engine, most_tokens: int) -> str:
    """Return the question as the model rewrites it; as it is, where what comes back is none."""
    kept = trimmed(history, engine, most_tokens)
    if not kept:
        return question
    talk = "\n".join(f"Question: {t.question}\nAnswer: {t.answer}" for t in kept)
    prompt = [
        {"role": "system", "content": _REWRITE},
        {"role": "user", "content": f"{talk}\nLast question: {question}"},
    ]
    found = engine.generate([prompt], max_tokens=_LONGEST_TOKENS)[0].text.strip().split("\n")[0]
    found = re.sub(r"^(last |rewritten )?question:\s*", "", found, flags=re.IGNORECASE).strip("\"'“” ")
    if not found or len(found) > 4 * (len(question) + sum(len(t.question) for t in kept)):
        return question
    return found


def trimmed(history: Sequence[Turn], engine: Engine, most_tokens: int) -> list[Turn]:
    """Return the last turns that have at most so many tokens together."""
    kept: list[Turn] = []
    used = 0
    for turn in reversed(history):
        talk: list[Message] = [
            {"role": "user", "content": turn.question},
            {"role": "assistant", "content": turn.answer},
        ]
        used += engine.count_tokens(talk)
        if used > most_tokens:
            break
        kept.insert(0, turn)
    return kept
