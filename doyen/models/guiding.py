"""Logits → the tokens that an answer may go on with under its constraint, and always to an end within its tokens.

Enters: a constraint, rows of logits. Leaves: tokens, several where only one continuation is possible. Knows no
network. The grammar's side is llguidance.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from doyen.errors import EngineError
from doyen.models.constraints import Choices, Constraint, JsonSchema, PassageNumbers, Regex, constraint_key
from doyen.models.endings import endings
from doyen.models.grammars import grammar_of

KEPT = 64
"""Grammars of an engine that are kept ready."""
_MANY, _TRIES = 2000, 8
_STRUCTURE = ("}", "]", ",")
_FILLING = ("representatives", "information", "example", "text", "ab", "a", *"0123456789-./ {[tfn:@")


class Guide(Protocol):
    """Chooses what one answer goes on with.

    `strict`: the answer ends by it alone, and its text is taken as it is. `shortened`: it had to end the answer itself.
    """

    strict: bool
    shortened: bool

    def write(self, logits: NDArray[np.float32]) -> list[int]:
        """Return the next tokens, at least one, by logits `(vocabulary,)`; at the answer's end the last is a stop token."""
        ...


class Guides:
    """The guides of one tokenizer. Its vocabulary is read at the first constraint (half a second)."""

    def __init__(self, tokenizer: Any, vocabulary: int, stops: Sequence[int]) -> None:
        """Take the engine's tokenizer, the width of the model's logits and the tokens that end a turn."""
        self._tokenizer, self._vocabulary, self.stops = tokenizer, vocabulary, list(stops)
        self._words: _Words | None = None
        self._kept: OrderedDict[str, tuple[Any, _Ends]] = OrderedDict()
        self._texts: dict[int, str] = {}

    def of(self, constraint: Constraint | None, max_tokens: int) -> Guide | None:
        """Return the guide of one answer; None where it is free, or one of `Choices`, which needs no guide.

        Raises:
            UsageError: the constraint cannot be met, or is not one that answers can be held to.
            EngineError: it needs more than `max_tokens`.
        """
        if isinstance(constraint, PassageNumbers):
            return PassageGuide(constraint.passages, self._text_of)
        if constraint is None or isinstance(constraint, Choices):
            return None
        if self._words is None:
            self._words = _Words(self._tokenizer, self._vocabulary, self.stops)
        matcher, ends = self._grammar(constraint, self._words)
        return GrammarGuide(matcher.deep_copy(), self._words, ends, max_tokens)

    def text(self, tokens: Sequence[int]) -> str:
        """Return exactly what the tokens of a strict guide say; a character of which a part is missing is left out."""
        assert self._words is not None, "of was not called"
        said = [t for t in tokens if t not in self.stops]
        return bytes(self._words.tokenizer.decode_bytes(said)).decode("utf-8", errors="ignore")

    def _text_of(self, token: int) -> str:
        if token not in self._texts:
            self._texts[token] = self._tokenizer.decode([token])
        return self._texts[token]

    def _grammar(self, constraint: JsonSchema | Regex, words: _Words) -> tuple[Any, _Ends]:
        """Return a matcher at its start, and what may end a text within it."""
        from llguidance import LLMatcher

        key = constraint_key(constraint)
        if key not in self._kept:
            matcher = LLMatcher(words.tokenizer, grammar_of(constraint), log_level=0)
            json = not isinstance(constraint, Regex)
            closing = words.quote if json else [words.stop]
            texts = [[*words.spelled(text.encode()), *closing] for text in endings(constraint)]
            self._kept[key] = matcher, _Ends(texts, json)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


@dataclass(frozen=True, slots=True)
class _Ends:
    """What may end what a grammar asks for: texts with what closes them, and, in JSON, brackets and quotes."""

    texts: list[list[int]]
    json: bool


class _Words:
    """A tokenizer as llguidance reads it, and the tokens that a short end is looked for with."""

    def __init__(self, tokenizer: Any, vocabulary: int, stops: Sequence[int]) -> None:
        from llguidance import LLTokenizer

        if not hasattr(tokenizer, "backend_tokenizer"):
            raise EngineError(
                f"answers of this model cannot be held to a form: {type(tokenizer).__name__} has no tokenizer.json",
                hint="ask without a constraint, or put the model's tokenizer.json into its folder",
            )
        self.tokenizer = LLTokenizer(
            tokenizer.backend_tokenizer.to_str(), n_vocab=max(vocabulary, len(tokenizer)), eos_token=list(stops)
        )
        self.stop = list(stops)[0]
        self.structure, self.quote, self.letter = (list(self._single(texts)) for texts in (_STRUCTURE, '"', "a"))
        self.filling = self._single(_FILLING)
        self._forced: dict[bytes, list[int]] = {}

    def _single(self, texts: Iterable[str]) -> dict[int, int]:
        """Return those of the texts that are one token: the token → its characters."""
        spelled = ((self.tokenizer.tokenize_str(text), len(text)) for text in texts)
        return {tokens[0]: count for tokens, count in spelled if len(tokens) == 1}

    def spelled(self, text: bytes) -> list[int]:
        """Return the tokens of bytes."""
        if text not in self._forced:
            if len(self._forced) > 4096:
                self._forced.clear()
            self._forced[text] = self.tokenizer.tokenize_bytes(text)
        return self._forced[text]


class GrammarGuide:
    """Writes what a grammar allows: the model's likeliest token of those, and forced tokens without asking it.

    There is always a way to the end within the tokens that are left: a token behind which none is found is not written;
    the way known before it is taken instead.
    """

    strict = True
    shortened = False

    def __init__(self, matcher: Any, words: _Words, ends: _Ends, max_tokens: int) -> None:
        """Take a fresh matcher. Raises EngineError where no answer within `max_tokens` is found."""
        self._matcher, self._words, self._ends, self._left = matcher, words, ends, max_tokens
        found = _way_out(matcher, words, ends, max_tokens)
        if found is None:
            raise EngineError(
                f"no answer that the constraint allows was found within {max_tokens} tokens",
                hint="raise [model] max_answer_tokens, or ask for less: fewer required fields, lower minimums",
            )
        self._way: list[int] = found

    def write(self, logits: NDArray[np.float32]) -> list[int]:
        """Return the next tokens; at the end the last is a stop token."""
        tokens = self._forced() or [self._likeliest(logits)]
        if tokens[0] in self._words.tokenizer.eos_tokens:
            return [self._words.stop]
        before = self._matcher.deep_copy()
        self._matcher.consume_tokens(tokens)
        forced = self._forced()
        self._matcher.consume_tokens(forced)
        tokens = [*tokens, *forced]
        way = self._way_behind(tokens)
        if way is None:
            self._matcher, self.shortened = before, True
            return [*self._way, self._words.stop]
        self._left, self._way = self._left - len(tokens), way
        return [*tokens, self._words.stop] if self._matcher.is_stopped() else tokens

    def _way_behind(self, tokens: list[int]) -> list[int] | None:
        """Return a way to the end behind tokens just taken, None where none is found: mostly the one known before them."""
        left = self._left - len(tokens)
        for way in (self._way, self._way[len(tokens) :]):  # a text went on, or the way was followed
            if len(way) <= left and _may_come(self._matcher, [*way, self._words.stop]):
                return way
        return _way_out(self._matcher, self._words, self._ends, left)

    def _forced(self) -> list[int]:
        """Return the tokens that must come next, as the tokenizer itself would part the text; mostly none."""
        found: list[int] = self._matcher.compute_ff_tokens()
        return found

    def _likeliest(self, logits: NDArray[np.float32]) -> int:
        """Return the likeliest token that is allowed. The likeliest of all mostly is: then no mask is needed."""
        best = int(logits.argmax())
        if self._matcher.validate_tokens([best]) == 1:
            return best
        allowed = _bits(self._matcher)[: len(logits)]
        if allowed.sum() > _MANY:  # then one of the next few is allowed, and is found faster than by sorting out
            rest = logits.copy()
            for _ in range(_TRIES):
                rest[best] = -np.inf
                best = int(rest.argmax())
                if allowed[best]:
                    return best
        numbers = np.flatnonzero(allowed)
        assert len(numbers), "a grammar with a way to its end allows a token"
        return int(numbers[logits[numbers].argmax()])


def _bits(matcher: Any) -> NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8), bitorder="little")


def _way_out(matcher: Any, words: _Words, ends: _Ends, most: int) -> list[int] | None:
    """Return up to `most` tokens that bring a text to an end that its grammar accepts; None where none are found.

    Looks for a short way, not for the shortest.
    """
    probe, used = matcher.deep_copy(), Counter[int]()
    way: list[int] = []
    while not probe.is_accepting():
        if len(way) >= most or probe.is_error():
            return None
        forced = probe.compute_ff_bytes()
        tokens = words.spelled(forced) if forced else []
        taken = tokens[: probe.validate_tokens(tokens)] if tokens else []
        taken = taken or _onward(probe, words, ends, used, most - len(way))
        if not taken:
            return None
        probe.consume_tokens(taken)
        way += taken
    return way if len(way) <= most else None


def _onward(probe: Any, words: _Words, ends: _Ends, used: Counter[int], left: int) -> list[int]:
    """Return tokens that may come next, [] where there are none: what closes most, else long ones that vary."""
    if ends.json:
        within_text = _may_come(probe, words.letter)  # where a letter may stand, a bracket closes nothing
        for token in words.quote if within_text else (*words.structure, *words.quote):
            if _may_come(probe, [token]):
                return [token]
    for tokens in ends.texts:
        if len(tokens) <= left + 1 and _may_come(probe, tokens):
            return tokens[:-1]
    free = {token: count for token, count in words.filling.items() if _may_come(probe, [token])}
    free = free or {int(token): 1 for token in np.flatnonzero(_bits(probe))[:256]}
    if not free:
        return []
    token = min(free, key=lambda t: (used[t] + 1) / free[t] ** 3)
    used[token] += 1
    return [token]


def _may_come(probe: Any, tokens: Sequence[int]) -> bool:
    return len(tokens) > 0 and probe.validate_tokens(list(tokens)) == len(tokens)


class PassageGuide:
    """Writes freely, but in brackets no number above those of the passages."""

    strict = False
    shortened = False

    def __init__(self, passages: int, text_of: Callable[[int], str]) -> None:
        """Take the number of passages, and what gives a token's text."""
        self._passages, self._text_of = passages, text_of
        self._open = ""

    def write(self, logits: NDArray[np.float32]) -> list[int]:
        """Return the likeliest token with which no wrong number is written."""
        token = int(logits.argmax())
        text = self._open + self._text_of(token)
        if has_wrong_number(text, self._passages):
            allowed = logits.copy()
            while has_wrong_number(text, self._passages):
                allowed[token] = -np.inf
                token = int(allowed.argmax())
                text = self._open + self._text_of(token)
        found = _OPEN.search(text)
        self._open = found[0] if found else ""
        return [token]


_NUMBERS = re.compile(r"\[\s*(\d+(?:\s*,\s*\d+)*)")
_OPEN = re.compile(r"\[[\d,\s]*$")


def has_wrong_number(text: str, passages: int) -> bool:
    """Whether a text has a bracket with a number that is none of the passages', or begins one (a longer one is larger)."""
    return "[" in text and any(not 1 <= int(n) <= passages for mark in _NUMBERS.findall(text) for n in mark.split(","))
