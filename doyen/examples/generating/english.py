"""An English clause and the answer in it → questions: subject questions, inversion, do-support, indirect questions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from doyen.examples.generating.spans import AnswerSpan, SpanKind
from doyen.examples.generating.verbs import AUXILIARIES, BARRED, FORMS, PLAIN, STOP, Clause, split_clause

_AMOUNTS = ("number", "money", "share")
_BEFORE_DATES = frozenset("in on since by until from around before after".split())
_BEFORE_NAMES = frozenset("in at by from to with for of on near as".split())
_APPROXIMATE = frozenset(
    "about around nearly almost over approximately roughly only just exactly some more less than at least most up to".split()
)
_BOUND = re.compile(
    r"(?:^|\s)(?P<bound>no (?:later|more|less|fewer) than|(?:more|less|fewer|later|earlier) than|at least|at most|up to|about|around"
    r"|nearly|almost|over|approximately|roughly|only|just|exactly|some)$",
    re.IGNORECASE,
)
_FRONTED = frozenset("within for after before from at in with until since under above below".split())
_LABELS = frozenset(
    "no number section version page chapter between and all both first type class grade stage level phase article figure "
    "table step title clause part no. nr one".split()
)
_DEEPEST = 6  # words between the verb and a name that is asked for: further on, it mostly hangs on another word
_PERSON = re.compile(r"[A-Z][\w'’-]+(?: [A-Z][\w'’.-]*)+")
_OCCUPATION = re.compile(r"an? (?:\w+ )?(?:member|student|man|woman|person|scientist|\w+(?:er|or|ist|ian))\b")
_YEAR = re.compile(r"\b(?:1[0-9]|20)\d\d\b")
_TIME_UNITS = frozenset("day days week weeks month months year years hour hours minute minutes second seconds".split())
_CUES = frozenset(
    "university college school company bank street city river county state party church museum award prize act law bowl "
    "league club team island ocean sea lake mountain war battle empire dynasty kingdom republic treaty institute council "
    "committee commission court department ministry agency association society group station airport bridge park "
    "festival magazine newspaper album book show series channel network policy plan desk form".split()
)


def lower_first(text: str) -> str:
    """Return a text with a small first letter where the first word is an article, a pronoun or the like."""
    first, _, rest = text.partition(" ")
    plain = first.casefold() in STOP | {
        "we",
        "you",
        "each",
        "every",
        "all",
        "most",
        "some",
        "many",
        "any",
        "no",
        "one",
    }
    return f"{first[:1].lower()}{first[1:]} {rest}".strip() if plain else text


def counted(text: str, end: int) -> str:
    """Return what a number ending at `end` counts: the up to three words behind it before a function word."""
    found: list[str] = []
    for match in re.finditer(r"\S+", text[end:]):
        word = match.group()
        bare = word.rstrip(".,;:)")
        if (
            bare.casefold() in STOP
            or not re.fullmatch(r"[^\W\d_][\w'’-]*", bare)
            or bare in FORMS
            and bare not in _TIME_UNITS
        ):
            break
        found.append(bare)
        if bare != word or len(found) == 3:
            break
    return " ".join(found)


def questions_of(text: str, span: AnswerSpan) -> tuple[list[str], str]:
    """Return the questions for a span of a clause (several phrasings, best first) and the answer; ([], "") if none.

    `text` is a clause without introduction and subordinate ends; the span's offsets are in it.
    """
    clause = split_clause(text)
    if clause is None:
        return [], ""
    answer = text[span.start : span.end]
    noun = counted(text, span.end) if span.kind == "number" else ""
    in_subject = span.start < len(clause.subject)
    if in_subject:
        return _of_subject(clause, text, span, noun, answer)
    return _of_rest(clause, text, span, noun, answer)


def _of_subject(clause: Clause, text: str, span: AnswerSpan, noun: str, answer: str) -> tuple[list[str], str]:
    before, after = clause.subject[: span.start].split(), clause.subject[span.end :].strip()
    predicate = f"{clause.verb} {_first_of_two(clause.rest)}"
    if span.kind == "number" and noun and all(w.casefold() in _APPROXIMATE for w in before) and after.startswith(noun):
        asked = f"how many {after} {predicate}"
        answer = f"{answer} {noun}" if noun in _TIME_UNITS else answer
    elif (
        span.kind == "name"
        and not after
        and answer.casefold().removeprefix("the ") not in _CUES
        and all(w.casefold() == "the" for w in before)
    ):
        asked = f"{_which(answer, before)} {predicate}"
    elif span.kind in ("money", "share") and not after and all(w.casefold() in _APPROXIMATE for w in before):
        asked = f"{'how much' if span.kind == 'money' else 'what percentage'} {predicate}"
    else:
        return [], ""
    return [_ask(asked), f"Tell me {asked.rstrip('.')}."], answer


def _which(answer: str, before: Sequence[str], preposition: str = "") -> str:
    last = answer.split()[-1].casefold()
    if last in _CUES:
        return f"which {last}"
    if answer.split()[0].casefold() in _LABELS | {"most", "many", "some", "part", "all", "each", "every"}:
        return "what"
    person = (
        len(answer.split()) in (2, 3) and not before and all(re.fullmatch(r"[A-Z][\w'’.-]+", w) for w in answer.split())
    )
    if preposition in ("in", "at"):
        return "where"
    return "who" if person and preposition in ("", "by") else "what"


@dataclass(slots=True)
class _Asking:
    """A predicate with the span taken out: the words before it and the text behind, and the question word once found."""

    clause: Clause
    text: str
    span: AnswerSpan
    noun: str
    answer: str
    words: list[str]
    after: str
    bound: str = ""
    wh: str = ""
    alternative: str = ""

    @property
    def last(self) -> str:
        """The word before the span."""
        return self.words[-1].casefold() if self.words else ""


def _of_rest(clause: Clause, text: str, span: AnswerSpan, noun: str, answer: str) -> tuple[list[str], str]:
    offset = text.index(clause.rest, len(clause.subject) + len(clause.verb))
    if span.start < offset:
        return [], ""
    before, after = clause.rest[: span.start - offset].rstrip(), _first_of_two(clause.rest[span.end - offset :])
    bound = ""
    while span.kind in _AMOUNTS and (found := _BOUND.search(before)):
        bound = "up to " if found["bound"].casefold() == "up to" else bound
        before = before[: found.start()].rstrip()
    asking = _Asking(clause, text, span, noun, answer, before.split(), after, bound)
    if _first_of_two(before) != before or _hangs_elsewhere(asking) or not _ASKED[span.kind](asking):
        return [], ""
    if asking.last.strip(",") in BARRED | {"and", "or", "than"}:
        return [], ""
    left = _joined(asking.words, asking.after)
    subject = lower_first(clause.subject)
    inverted = f"{clause.verb} {subject}" if clause.has_auxiliary else f"{clause.helper} {subject} {clause.base}"
    asked = [_ask(f"{wh} {inverted} {left}") for wh in (asking.wh, asking.alternative) if wh]
    indirect = " ".join(f"Tell me {asking.wh} {subject} {clause.verb} {left}".split())
    return [*asked, f"{indirect.rstrip(' .,;')}."], asking.answer


def _hangs_elsewhere(a: _Asking) -> bool:
    """Whether the span surely belongs to another word than the verb, or is one end of a range."""
    if a.answer.endswith(("'s", "’s")) or (a.last == "from" and re.match(r"\s(?:to|until|through)\b", a.after)):
        return True
    if a.span.kind == "name":
        deep = len(a.words) > _DEEPEST or len(a.after.split()) > _DEEPEST
        return deep or bool(re.match(r"\s(?:of|named|\d)", a.after))
    return a.span.kind in _AMOUNTS and len(a.words) > 3 and any(w.endswith("ing") for w in a.words[:-1])


def _when(a: _Asking) -> bool:
    is_year = a.span.kind == "year"
    counts = is_year and bool(counted(a.text, a.span.end))
    if counts or a.last not in _BEFORE_DATES or _YEAR.search(a.clause.rest.replace(a.answer, "", 1)):
        return False
    if is_year and a.clause.verb in ("is", "are", "has", "have") and a.last in ("in", "on", "around"):
        return False
    if a.last in ("in", "on", "around"):
        a.words.pop()
        a.wh, a.alternative = "when", "in what year" if is_year else "on what date"
    else:
        a.wh = f"{a.words.pop()} when"
    return True


def _time(a: _Asking) -> bool:
    if a.last not in ("at", "until", "from", "by", "before", "after"):
        return False
    a.wh = f"{a.words.pop().casefold()} what time"
    return True


def _how_much(a: _Asking) -> bool:
    a.wh = _fronted(a, "how much")
    return True


def _share(a: _Asking) -> bool:
    of = re.match(rf"\s+of ((?:the )?[\w'’-]+(?: (?!(?:{'|'.join(STOP)})\b)[\w'’-]+)?)", a.after)
    a.after = a.after[of.end() :] if of else a.after
    a.wh = _fronted(a, f"what percentage of {of.group(1)}" if of else "what percentage")
    return True


def _how_many(a: _Asking) -> bool:
    unit = bool(a.noun) and a.noun.split()[0] in _TIME_UNITS
    single = unit and a.answer in ("1", "one")
    if not a.noun or "-" in a.answer or a.last in _LABELS or single or a.words[-2:] == ["one", "of"]:
        return False
    tail = re.match(rf"\s*{re.escape(a.noun)}", a.after)
    a.after = a.after[tail.end() :] if tail else a.after
    a.answer = f"{a.answer} {a.noun}" if unit else a.answer
    a.wh = _fronted(a, f"how many {a.noun}")
    return True


def _fronted(a: _Asking, wh: str) -> str:
    """Put a preposition before the span, and "up to", before the question word."""
    return f"{a.words.pop().casefold()} {a.bound}{wh}" if a.words and a.last in _FRONTED else f"{a.bound}{wh}"


def _why(a: _Asking) -> bool:
    a.wh = "why"
    return True


def _named(a: _Asking) -> bool:
    if a.last in ("a", "an") or a.answer.casefold().removeprefix("the ") in _CUES:
        return False
    preposition = a.last if a.last in _BEFORE_NAMES else ""
    has_article = a.last == "the"
    if has_article:
        a.words.pop()
        preposition = a.last
    elif a.words and not preposition and a.last not in FORMS and a.last not in AUXILIARIES:
        if not _which(a.answer, ["the"]).startswith("which"):
            return False
    a.wh = _which(a.answer, ["the"] if has_article else [], preposition)
    if a.wh == "where" and a.last in ("in", "at"):
        a.words.pop()
    return True


_ASKED: dict[SpanKind, Callable[[_Asking], bool]] = {
    "year": _when,
    "date": _when,
    "time": _time,
    "money": _how_much,
    "share": _share,
    "number": _how_many,
    "reason": _why,
    "name": _named,
    "term": _named,
}


def _first_of_two(text: str) -> str:
    """Return a predicate up to an "and" that another verb follows."""
    for match in re.finditer(r",?\s+(?:and|but|or)\s", text):
        following = [w.strip(",.;") for w in text[match.end() :].split()[:4]]
        if any(w in AUXILIARIES or w in FORMS or (i == 0 and w in PLAIN) for i, w in enumerate(following)):
            return text[: match.start()]
    return text


def _joined(words: Sequence[str], after: str) -> str:
    left = (
        f"{' '.join(words)} {after.strip()}"
        if after[:1].isspace() or not after.strip()
        else f"{' '.join(words)}{after}"
    )
    return re.sub(r"\s+([,.;:])", r"\1", left).strip(" .,;:")


def _ask(text: str) -> str:
    text = re.sub(r"\s+([,.;:)])", r"\1", " ".join(text.split())).rstrip(" .,;:")
    return f"{text[:1].upper()}{text[1:]}?"


def verdict_question(text: str) -> str:
    """Return the yes-or-no question of a clause with an auxiliary or a known verb; '' if its verb is not found."""
    clause = split_clause(text)
    if clause is None or clause.verb == "cannot":
        return ""
    subject, rest = lower_first(clause.subject), _first_of_two(clause.rest)
    if clause.has_auxiliary:
        return _ask(f"{clause.verb} {subject} {rest}")
    return _ask(f"{clause.helper} {subject} {clause.base} {rest}")


def agreeing(asked: Sequence[str], term: str, meaning: str, verb: str) -> list[str]:
    """Return the questions of a definition in the plural where the verb is, and of a person with "who"."""
    found = list(asked)
    if verb in ("are", "were"):
        found = [q.replace("What is", "What are").replace("How is", "How are") for q in found]
        found = [q if q.endswith("?") else f"{q.removesuffix(' is.')} are." for q in found]
    if _PERSON.fullmatch(term) and _OCCUPATION.match(meaning):
        found = [f"Who {q.split(' ', 1)[1]}" for q in found[:1]]
    return found
